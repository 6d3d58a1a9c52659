"""Measuring recordings: what each file holds, found once by reading it whole, and why it cannot be used.

What is found depends on the bytes and the kind alone, so it is remembered (`remembering.py`); what the
corpus asks of a recording, its rate for one, is judged afterwards.
"""

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from simulation import audio, levels, measures, storage
from simulation.errors import BadAudio, NotThere
from simulation.schema import Schema
from simulation.sources.finding import Candidate
from simulation.sources.recordings import Kind, Probe
from simulation.sources.remembering import Memory

CLIPPED_SHARE = 0.002
"""Largest share of samples that may lie on flat tops."""

DIGITS = 4
"""Of what is measured: enough to read, too few to differ between machines."""


class Found(Schema):
    """What reading a file gave: its facts, or why it cannot be used by anyone."""

    sha256: str = ""
    """Empty where nothing could be read."""
    samples: int = 0
    sample_rate: int = 0
    probe: Probe | None = None
    fault: str = ""


def found_at(kind: Kind, candidates: Sequence[Candidate]) -> list[Found]:
    """What each file holds, in order: remembered where it has not changed, else read and measured now."""
    known = _with_times(candidates)
    with Memory.of_this_home() as memory:
        texts = memory.recall(kind, known)
        found = [Found.parse(text, "what was remembered") if text else None for text in texts]
        new = [place for place, one in enumerate(found) if one is None]
        with ThreadPoolExecutor(storage.PARALLEL, thread_name_prefix="scan") as pool:
            read = list(pool.map(partial(_read, kind), (known[place].address for place in new)))
        memory.keep(kind, ((known[place], one.canonical()) for place, one in zip(new, read, strict=True) if one.sha256))
    measured = iter(read)
    return [next(measured) if one is None else one for one in found]


def _with_times(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with size and time of each file, asked for where the listing did not say."""
    unknown = [one.address for one in candidates if one.stored is None]
    answers = dict(zip(unknown, storage.stored_many(unknown), strict=True))
    return [one if one.stored else replace(one, stored=answers[one.address]) for one in candidates]


def _read(kind: Kind, address: str) -> Found:
    """Read a file whole and measure its first channel."""
    try:
        data = storage.read(address)
    except NotThere as error:
        return Found(fault=str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        samples, sample_rate = audio.read(data, "The file")
        first = audio.mono(samples)
        probe = measured(kind, first, sample_rate)
        return Found(
            sha256=sha256, samples=len(first), sample_rate=sample_rate, probe=probe, fault=_fault(kind, first, probe)
        )
    except BadAudio as error:
        return Found(sha256=sha256, fault=str(error))


def measured(kind: Kind, samples: audio.Waveform, sample_rate: int) -> Probe | None:
    """What the card tells of a recording, `[samples]`; None for silence, of which there is nothing to tell."""
    if levels.silent(samples):
        return None
    speech = kind == "speech"
    level_db = levels.active_level_db(samples, sample_rate) if speech else levels.rms_db(samples)
    floor_db = measures.noise_floor_db(samples, sample_rate) if speech else None
    values = {
        "level_db": level_db,
        "clipped_share": measures.clipped_share(samples),
        "silent_share": measures.silent_share(samples, sample_rate),
        "bandwidth_hz": measures.bandwidth_hz(samples, sample_rate),
        "noise_floor_db": floor_db,
        "snr_db": measures.estimated_snr_db(samples, sample_rate) if speech else None,
    }
    finite = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    return Probe(**{name: round(value, DIGITS) for name, value in finite.items()})


def _fault(kind: Kind, samples: audio.Waveform, probe: Probe | None) -> str:
    """Why nobody should use this recording; empty where they may. `[samples]`, the channel that would be used."""
    if probe is None:
        return f"Silent: {levels.rms_db(samples):.1f} dBFS in its first channel."
    if kind != "noisy" and probe.clipped_share > CLIPPED_SHARE:
        return f"Clipped: {probe.clipped_share:.1%} of its samples lie on flat tops; at most {CLIPPED_SHARE:.1%} may."
    return ""
