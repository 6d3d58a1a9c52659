"""Scanning: all sources of a scenario into one manifest; loading a recording of it."""

import hashlib
import logging
from collections.abc import Collection
from typing import Protocol

from simulation import audio, storage
from simulation.corpora.sample import SAMPLE
from simulation.errors import BadSetting, ManifestMismatch, TooManyQuarantined
from simulation.sources.finding import Candidate, candidates_at, from_rows, table_rows
from simulation.sources.measuring import Found, found_at
from simulation.sources.pairing import pairs_at, partner
from simulation.sources.recordings import KINDS, Kind, Probe, Quarantined, Recording, SourceManifest
from simulation.sources.splitting import refuse_shared_groups, splits_of, without_copies

log = logging.getLogger(__name__)

WORDS = ("sample", "none")
"""What may stand in place of an address: the corpus that ships with the project, no recordings of a kind."""

SAMPLE_RATE = 16_000
"""Of the shipped corpus, in Hz."""

OPTIONS: dict[Kind, str] = {"speech": "--speech", "noise": "--noise", "rir": "--rirs"}
"""What the command calls them."""

Usable = list[tuple[Candidate, Found]]
"""Files that can be used, with what was found of them."""


def scan(
    speech: str,
    noise: str,
    rirs: str,
    *,
    sample_rate: int,
    narrow: Collection[Kind] = (),
    bad_share: float = 0.05,
) -> SourceManifest:
    """Look at every source file once; see `simulation/sources/__init__.py` for what may be given and how it is split.

    `narrow` names the kinds whose recordings may have a lower rate than `sample_rate` (Hz). Raises `TooManyQuarantined`
    where more than `bad_share` of a kind had to be set aside, `NotThere` where there is nothing, and `BadSetting` for
    a manifest without the needed columns or a group that stands in two splits.
    """
    recordings: list[Recording] = []
    quarantined: list[Quarantined] = []
    for kind, where in zip(KINDS, (speech, noise, rirs), strict=True):
        if where == "none":
            continue
        lowest_rate = 0 if kind in narrow else sample_rate
        _refuse_narrow_sample(kind, where, lowest_rate)
        usable, bad = _shipped(kind, lowest_rate) if where == "sample" else _scan_kind(kind, where, lowest_rate)
        good, copies = without_copies(_in_splits(kind, where, usable))
        bad = [one.model_copy(update={"kind": kind}) for one in (*bad, *copies)]
        _refuse_too_many(kind, where, len(good), bad, bad_share)
        if bad:
            log.warning("Set aside %d %s recordings of %s: %s", len(bad), kind, where, _first(bad))
        recordings += good
        quarantined += bad
    return SourceManifest(recordings=tuple(recordings), quarantined=tuple(quarantined))


def located(place: str) -> str:
    """The full address of sources, or the word that stands in its place."""
    return place if place in WORDS else storage.normal(place)


class Asking(Protocol):
    """What a scenario says of its sources (`simulation.scenario.Scenario`, which imports this package)."""

    @property
    def speech(self) -> str:
        """Where the speech lies; so for the other two."""

    @property
    def noise(self) -> str: ...  # noqa: D102

    @property
    def rirs(self) -> str: ...  # noqa: D102

    @property
    def pairs(self) -> str:
        """Where recorded pairs lie, in place of the three; empty where there are none."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def narrow_sources(self) -> tuple[Kind, ...]:
        """Kinds whose recordings may have a lower rate."""

    @property
    def most_bad_sources(self) -> float:
        """Share of a kind's recordings that may be set aside."""


def scan_for(asking: Asking) -> SourceManifest:
    """The sources of a scenario as they are now; raises what `scan` raises."""
    if asking.pairs:
        lowest_rate = 0 if "speech" in asking.narrow_sources else asking.sample_rate
        return scan_pairs(asking.pairs, lowest_rate=lowest_rate, bad_share=asking.most_bad_sources)
    return scan(
        asking.speech,
        asking.noise,
        asking.rirs,
        sample_rate=asking.sample_rate,
        narrow=asking.narrow_sources,
        bad_share=asking.most_bad_sources,
    )


def scan_pairs(address: str, *, lowest_rate: int, bad_share: float = 0.05) -> SourceManifest:
    """Recorded pairs (`pairing.py`), each as two recordings; raises what `scan` raises."""
    pairs, bad = pairs_at(storage.normal(address), lowest_rate)
    clean, copies = without_copies(_in_splits("speech", address, [(place, found) for place, found, _ in pairs]))
    bad += [one.model_copy(update={"kind": "pairs"}) for one in copies]
    _refuse_too_many("pairs", address, len(clean), bad, bad_share)
    if bad:
        log.warning("Set aside %d pairs of %s: %s", len(bad), address, _first(bad))
    other = {place.id: found for place, _, found in pairs}
    noisy = [
        one.model_copy(
            update={
                "id": partner(one.id),
                "kind": "noisy",
                "address": _other_side(storage.normal(address), one.id),
                "samples": other[one.id].samples,
                "sha256": other[one.id].sha256,
                "probe": other[one.id].probe,
            }
        )
        for one in clean
    ]
    return SourceManifest(recordings=(*clean, *noisy), quarantined=tuple(bad))


def _other_side(address: str, speech_id: str) -> str:
    """Where the noisy side of a pair lies."""
    return storage.join(address, partner(speech_id))


def load(recording: Recording, sample_rate: int) -> audio.Waveform:
    """The first channel of a recording at `sample_rate`, `[samples]`, after its checksum was compared."""
    data = storage.read(recording.address)
    found = hashlib.sha256(data).hexdigest()
    if found != recording.sha256:
        raise ManifestMismatch(
            f"{recording.address} is not the file that was scanned as {recording.id!r}: "
            f"found sha256 {found[:12]}…, expected {recording.sha256[:12]}…. Put the file back, or scan again."
        )
    samples, from_rate = audio.read(data, recording.address)
    return audio.resample(audio.mono(samples), from_rate, sample_rate)


def _shipped(kind: Kind, lowest_rate: int) -> tuple[Usable, list[Quarantined]]:
    """The sample corpus: by its manifest alone, which holds what was measured when it was made."""
    address = storage.join(storage.normal(str(SAMPLE)), "manifest.csv")
    rows = [row for row in table_rows(address) if row["kind"] == kind]
    stated = (
        Found(
            sha256=row["sha256"],
            samples=int(row["samples"]),
            sample_rate=int(row["sample_rate"]),
            probe=Probe.model_validate({name: row[name] for name in Probe.model_fields if name in row}),
        )
        for row in rows
    )
    return _sorted_out(list(zip(from_rows(kind, address, rows), stated, strict=True)), lowest_rate)


def _scan_kind(kind: Kind, where: str, lowest_rate: int) -> tuple[Usable, list[Quarantined]]:
    """Usable files of one kind and those set aside."""
    candidates = candidates_at(kind, storage.normal(where))
    log.info("Looking at %d %s recordings of %s.", len(candidates), kind, where)
    return _sorted_out(list(zip(candidates, found_at(kind, candidates), strict=True)), lowest_rate)


def _sorted_out(looked_at: Usable, lowest_rate: int) -> tuple[Usable, list[Quarantined]]:
    """Those that can be used, ordered by id, and the others with the reason."""
    judged = [(one, found, _refusal(one, found, lowest_rate)) for one, found in looked_at]
    bad = [Quarantined(address=one.address, reason=reason) for one, _, reason in judged if reason]
    return sorted(((one, found) for one, found, reason in judged if not reason), key=lambda pair: pair[0].id), bad


def _refusal(candidate: Candidate, found: Found, lowest_rate: int) -> str:
    """Why a file cannot be used here; empty where it can."""
    if found.fault:
        return found.fault
    if candidate.sha256 not in ("", found.sha256):
        return f"The manifest states sha256 {candidate.sha256[:12]}…; found {found.sha256[:12]}…."
    if candidate.onset is not None and candidate.onset >= found.samples:
        return f"The manifest states onset {candidate.onset}; it has {found.samples} samples."
    if found.sample_rate < lowest_rate:  # no sound above its own band: mixtures would be band-limited unsaid
        return f"Its sample rate, {found.sample_rate} Hz, is below the corpus's {lowest_rate} Hz."
    return ""


def _in_splits(kind: Kind, where: str, usable: Usable) -> list[Recording]:
    """Recordings, each in the split of its group."""
    named = {one.group: one.split for one, _ in usable if one.split}
    splits = splits_of({one.group: named.get(one.group) for one, _ in usable})
    recordings = [
        Recording(
            id=one.id,
            kind=kind,
            address=one.address,
            group=one.group,
            split=one.split or splits[one.group],
            samples=found.samples,
            sample_rate=found.sample_rate,
            sha256=found.sha256,
            licence=one.licence,
            source=one.source,
            probe=found.probe,
            onset=one.onset,
        )
        for one, found in usable
    ]
    refuse_shared_groups(kind, where, recordings)
    return recordings


def _refuse_narrow_sample(kind: Kind, where: str, lowest_rate: int) -> None:
    if where == "sample" and lowest_rate > SAMPLE_RATE:
        raise BadSetting(
            f"The sample corpus is recorded at {SAMPLE_RATE} Hz, and this corpus is to have {lowest_rate} Hz. Give"
            f" {kind} recordings of your own ({OPTIONS[kind]} FOLDER), or copy the `scenario` from `unmuffle scenarios"
            f" --json` and name {kind!r} in its narrow_sources: it is resampled up, with nothing above its old band."
        )


def _refuse_too_many(kind: str, where: str, good: int, bad: list[Quarantined], bad_share: float) -> None:
    share = len(bad) / (good + len(bad))
    if share > bad_share or not good:
        raise TooManyQuarantined(
            f"{len(bad)} of {good + len(bad)} {kind} recordings of {where} ({share:.0%}) cannot be used; at most "
            f"{bad_share:.0%} may be set aside. Mend or remove them. {_first(bad)}"
        )


def _first(bad: list[Quarantined]) -> str:
    """The first three and why, for a message."""
    named = "; ".join(f"{one.address.rpartition('/')[2]}: {one.reason.rstrip('.')}" for one in bad[:3])
    return f"{'The first' if len(bad) > 3 else 'They are'}: {named}."
