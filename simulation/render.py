"""Row -> Mixture: pure, so that one row can be rendered alone, anywhere, and gives the same samples bit for bit.

Rendering reads no randomness, no clock and no row but its own. It ends with one common gain, which keeps both peaks at
or below 0.99, and the quantiser of the FLAC that shards hold: what training reads from a shard and what it would render
itself are equal numbers.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from simulation import audio, sources
from simulation.degradations.base import Mixture, Recordings, Waveform
from simulation.errors import BadAudio, BadSetting
from simulation.manifest import Measured, Row
from simulation.measures import heard_in
from simulation.recorded import paired
from simulation.rir import Rir, measured_rir
from simulation.rooms import is_simulated
from simulation.scenario import Scenario
from simulation.sources import SourceManifest

RENDER_VERSION = 1
"""Raised by hand when rendering gives other samples than before; part of every plan digest.
`tests/simulation/test_render.py` fails when samples change and this does not."""

CEILING = 0.99
"""No peak of a rendered mixture lies above this."""

DIGITS = 4
"""Measured values are recorded with so many decimals: enough to read, too few to differ between machines."""

KEPT_BYTES = 128 * 2**20
"""Recordings that a library keeps in memory: half an hour at 16 kHz, however many there are."""

KEPT_RIR_BYTES = 64 * 2**20
"""Impulse responses that it keeps."""


def render(row: Row, scenario: Scenario, recordings: Recordings) -> tuple[Mixture, Measured]:
    """The row's clean and noisy waveforms as FLAC will give them back, and what was measured.

    `BadAudio` where a recording cannot be used in this row (silent noise, say): the row belongs in quarantine.
    """
    speech = recordings.samples(row.speech)
    mixture = Mixture(clean=speech, noisy=speech, sample_rate=scenario.sample_rate)
    if row.noisy is not None:
        mixture = paired(speech, recordings.samples(row.noisy), scenario.sample_rate)
    for operation in row.operations:
        mixture = operation.apply(mixture, recordings)
    return _finish(mixture, scenario.bit_depth)


def _finish(mixture: Mixture, bit_depth: int) -> tuple[Mixture, Measured]:
    """One common gain, then the quantiser."""
    gain = common_gain(mixture)
    clean = audio.quantise(mixture.clean * np.float32(gain), bit_depth)
    noisy = audio.quantise(mixture.noisy * np.float32(gain), bit_depth)
    finished = replace(mixture, clean=clean, noisy=noisy)
    heard = heard_in(clean, noisy, mixture.sample_rate)
    values = {name: round(value, DIGITS) for name, value in (mixture.measured | heard).items()}
    return finished, Measured(samples=len(clean), gain=gain, peak=round(_peak(finished), 6), **values)


def common_gain(mixture: Mixture) -> float:
    """1, or what brings the larger of the two peaks down to 0.99; rounded down so that it is short in the record."""
    return min(1.0, math.floor(CEILING / max(_peak(mixture), CEILING) * 1e5) / 1e5)


def _peak(mixture: Mixture) -> float:
    return float(max(np.abs(mixture.clean).max(), np.abs(mixture.noisy).max()))


class Library:
    """The recordings that a plan's rows name: read or simulated when first asked for, kept while there is room."""

    def __init__(self, manifest: SourceManifest, scenario: Scenario, seed: int) -> None:
        self._manifest = manifest
        self._scenario = scenario
        self._seed = seed
        self._samples: _Kept[Waveform] = _Kept(KEPT_BYTES)
        self._rirs: _Kept[Rir] = _Kept(KEPT_RIR_BYTES)

    def samples(self, recording: str) -> Waveform:
        """The recording with this id, mono, at the corpus's sample rate; read-only."""
        return self._samples.get(recording, self._load)

    def rir(self, recording: str) -> Rir:
        """The impulse response with this id: simulated from the bank, or recorded with its onset found."""
        return self._rirs.get(recording, self._simulate if is_simulated(recording) else self._measure)

    def _load(self, recording_id: str) -> Waveform:
        recording = self._manifest.find(recording_id)
        try:
            samples = sources.load(recording, self._scenario.sample_rate)
        except BadAudio as error:  # the reason goes into a shard, whose bytes must not depend on where sources lie
            raise BadAudio(str(error).replace(recording.address, recording.id)) from None
        samples.setflags(write=False)
        return samples

    def _measure(self, rir_id: str) -> Rir:
        recording, rate = self._manifest.find(rir_id), self._scenario.sample_rate
        samples = self._load(rir_id)
        if recording.onset is None:
            return measured_rir(samples, rate)
        return Rir(samples, min(round(recording.onset * rate / recording.sample_rate), len(samples) - 1), rate)

    def _simulate(self, rir_id: str) -> Rir:
        if self._scenario.rooms is None:
            raise BadSetting(f"{rir_id} is a simulated room, but the scenario {self._scenario.name!r} has no rooms.")
        return self._scenario.rooms.simulate(self._seed, rir_id, self._scenario.sample_rate)


class _HasBytes(Protocol):
    @property
    def nbytes(self) -> int: ...


Kept = TypeVar("Kept", bound=_HasBytes)


class _Kept(Generic[Kept]):
    """The most recently used values, up to a number of bytes (and always the last one)."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._values: OrderedDict[str, Kept] = OrderedDict()

    def get(self, key: str, make: Callable[[str], Kept]) -> Kept:
        """The value kept for the key, else a new one."""
        if key not in self._values:
            self._values[key] = make(key)
            self._bytes += self._values[key].nbytes
        self._values.move_to_end(key)
        while self._bytes > self._limit_bytes and len(self._values) > 1:
            self._bytes -= self._values.popitem(last=False)[1].nbytes
        return self._values[key]
