"""Source recordings (speech, noise, measured RIRs): what there is, who is in it, which split it belongs to.

Each kind is given as one of

- `sample`: the corpus that ships with the project (`simulation/corpora/sample.py`); write `./sample` for a folder of
  that name;
- a folder or bucket prefix: every file below it with an ending of `audio.AUDIO_SUFFIXES`. A first folder named train,
  valid or test names the split. The next one names the group, so `<root>/<speaker>/<chapter>/1.wav` and
  `<root>/train/<speaker>/1.wav` both belong to `<speaker>`; a file in no such folder is a group of its own;
- a CSV manifest (ends in .csv): a column `path`, absolute or relative to the manifest, and where known `group` (or
  `speaker` for speech, `recording`, else `class`, for noise, `room` for RIRs), `split`, `id`, `kind`, `sha256`,
  `licence`, `source`. Rows of another kind are passed over; what a row leaves open follows the rules for folders.

Splits share no group: speaker, noise recording or room. Groups whose split is not named are spread by a hash of their
name, 80 % train, 10 % valid, 10 % test, so files may be added later without moving anybody; only where a split would
stay empty, and there are at least three groups, does the one nearest by hash move.

Every file is read once: a recording that is no audio, empty, not finite, silent, clipped, below the corpus's sample
rate, not what its manifest says, or a copy of one in another split, is quarantined with its reason, never dropped in
silence. The sample corpus is scanned by its manifest alone. Whenever a recording is loaded, its checksum is compared.
"""

import csv
import hashlib
import io
import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from simulation import audio, levels, storage
from simulation.corpora.sample import SAMPLE
from simulation.errors import BadAudio, BadSetting, ManifestMismatch, NotThere, TooManyQuarantined
from simulation.schema import Schema, canonical_json

log = logging.getLogger(__name__)

Kind = Literal["speech", "noise", "rir"]
Split = Literal["train", "valid", "test"]
KINDS: tuple[Kind, ...] = ("speech", "noise", "rir")
SPLITS: dict[str, Split] = {"train": "train", "valid": "valid", "test": "test"}

GROUP_COLUMNS: dict[Kind, tuple[str, ...]] = {
    "speech": ("group", "speaker"),
    "noise": ("group", "recording", "class"),
    "rir": ("group", "room"),
}
"""Columns of a CSV manifest that name the group, best first."""

CLIPPED_SHARE = 0.002
"""Largest share of samples that may lie on flat tops."""

FLAT_TOP = 0.99
"""A flat top is two or more equal samples at or above this share of the peak."""


class Recording(Schema):
    """One source file: an utterance, a stretch of noise or a measured RIR."""

    id: str
    """`<kind>/<name>`, unique in its manifest; does not change when the files move."""
    kind: Kind
    address: str
    """Where it lies now; no part of its identity."""
    group: str
    """Speaker, noise recording or room: what no two splits share."""
    split: Split
    samples: int
    """A channel, at its own sample rate."""
    sample_rate: int
    """Of the file, in Hz."""
    sha256: str
    """Of the file's bytes."""
    licence: str = ""
    source: str = ""
    """Where it was published, for the corpus card."""


class Quarantined(Schema):
    """A source file set aside, and why."""

    address: str
    reason: str


class SourceManifest(Schema):
    """All usable recordings, ordered by id, and those set aside."""

    recordings: tuple[Recording, ...]
    quarantined: tuple[Quarantined, ...] = ()

    def groups(self, kind: Kind, split: Split) -> dict[str, list[Recording]]:
        """Recordings of a kind in a split by group, groups and members in order; empty where there are none."""
        return self.grouped.get((kind, split), {})

    def find(self, recording_id: str) -> Recording:
        """The recording of this id. Raises `BadSetting` where there is none."""
        if recording_id not in self.by_id:
            raise BadSetting(
                f"There is no recording {recording_id!r} among the {len(self.recordings)} sources. "
                "Expected the sources that the row was drawn from; give the same speech, noise and rirs addresses."
            )
        return self.by_id[recording_id]

    def digest(self) -> str:
        """sha256 of what the recordings are. Where they lie, their notes and what was set aside do not count."""
        fields = ("id", "kind", "group", "split", "samples", "sample_rate", "sha256")
        identity = [[getattr(recording, field) for field in fields] for recording in self.recordings]
        return hashlib.sha256(canonical_json(identity)).hexdigest()

    @cached_property
    def grouped(self) -> dict[tuple[Kind, Split], dict[str, list[Recording]]]:
        """Recordings by kind and split, then by group."""
        grouped: dict[tuple[Kind, Split], dict[str, list[Recording]]] = {}
        for recording in sorted(self.recordings, key=lambda one: (one.kind, one.group, one.id)):
            groups = grouped.setdefault((recording.kind, recording.split), {})
            groups.setdefault(recording.group, []).append(recording)
        return grouped

    @cached_property
    def by_id(self) -> dict[str, Recording]:
        """Recordings by id."""
        return {recording.id: recording for recording in self.recordings}


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


def scan(speech: str, noise: str, rirs: str, *, sample_rate: int, bad_share: float = 0.05) -> SourceManifest:
    """Look at every source file once; see the top of this file for what may be given and how it is split.

    Raises `TooManyQuarantined` where more than `bad_share` of a kind had to be set aside, `NotThere` where there is
    nothing, and `BadSetting` for a manifest without the needed columns or a group that stands in two splits.
    """
    recordings: list[Recording] = []
    quarantined: list[Quarantined] = []
    for kind, where in zip(KINDS, (speech, noise, rirs), strict=True):
        candidates, bad = _scan_kind(kind, where, sample_rate)
        good, copies = _without_copies(_in_splits(kind, where, candidates))
        bad += copies
        _refuse_too_many(kind, where, len(good), bad, bad_share)
        if bad:
            log.warning("Set aside %d %s recordings of %s: %s", len(bad), kind, where, _first(bad))
        recordings += good
        quarantined += bad
    return SourceManifest(recordings=tuple(recordings), quarantined=tuple(quarantined))


@dataclass(frozen=True)
class _Candidate:
    """A file that may become a recording: what its place or its manifest says, then what was measured."""

    id: str
    address: str
    group: str
    split: Split | None
    licence: str = ""
    source: str = ""
    sha256: str = ""
    samples: int = 0
    sample_rate: int = 0


def _scan_kind(kind: Kind, where: str, sample_rate: int) -> tuple[list[_Candidate], list[Quarantined]]:
    """Usable files of one kind and those set aside, both ordered by id or address."""
    if where == "sample":
        candidates = _from_csv(kind, storage.join(storage.normal(str(SAMPLE)), "manifest.csv"))
        results = [_refused(candidate, sample_rate) or candidate for candidate in candidates]
    else:
        address = storage.normal(where)
        candidates = _from_csv(kind, address) if address.endswith(".csv") else _from_folder(kind, address)
        log.info("Looking at %d %s recordings of %s.", len(candidates), kind, where)
        with ThreadPoolExecutor(storage.PARALLEL, thread_name_prefix="scan") as pool:
            results = list(pool.map(partial(_probe, sample_rate=sample_rate), candidates))
    bad = [result for result in results if isinstance(result, Quarantined)]
    return sorted((result for result in results if isinstance(result, _Candidate)), key=lambda one: one.id), bad


# ---- finding ----------------------------------------------------------------------------------------------------


def _from_folder(kind: Kind, address: str) -> list[_Candidate]:
    """Every audio file below a folder or prefix."""
    files = [stored.address for stored in storage.listing(address)]
    heard = [file for file in files if file.lower().endswith(audio.AUDIO_SUFFIXES)]
    if not heard:
        found = f"{len(files)} files, none of them audio" if files else "nothing (no such folder, or an empty one)"
        raise NotThere(
            f"There is no {kind} at {address}: found {found}. Expected a folder or bucket prefix with "
            f"{', '.join(audio.AUDIO_SUFFIXES[:4])} or similar files below it, a .csv manifest, or the word 'sample'."
        )
    return [_placed(kind, file, file.removeprefix(address).lstrip("/")) for file in heard]


def _placed(kind: Kind, address: str, relative: str) -> _Candidate:
    """What the place of a file says: id, split and group."""
    parts = PurePosixPath(relative).parts
    split = SPLITS.get(parts[0]) if len(parts) > 1 else None
    folders = parts[1:-1] if split else parts[:-1]
    group = folders[0] if folders else str(PurePosixPath(relative).with_suffix(""))
    return _Candidate(id=f"{kind}/{relative}", address=address, group=group, split=split)


def _from_csv(kind: Kind, address: str) -> list[_Candidate]:
    """The rows of a CSV manifest that are of this kind."""
    rows = [row for row in _rows(address) if row.get("kind", kind) == kind]
    if not rows:
        raise BadSetting(f"{address} has no rows of kind {kind!r}; expected at least one, or no column 'kind'.")
    folder = address.rpartition("/")[0]
    addresses = [_resolved(row["path"], folder) for row in rows]
    root = _common_folder(folder, addresses)
    places = [_placed(kind, one, one.removeprefix(root).lstrip("/")) for one in addresses]
    candidates = [_stated(kind, place, row) for place, row in zip(places, rows, strict=True)]
    _refuse_repeated(candidates, address)
    return candidates


def _resolved(path: str, folder: str) -> str:
    """A path of a manifest in `folder` as a full address."""
    absolute = "://" in path or path.startswith(("/", "~"))
    return storage.normal(path if absolute else storage.join(folder, path))


def _common_folder(folder: str, addresses: list[str]) -> str:
    """What ids and groups are relative to: the manifest's folder, or the lowest that holds files from elsewhere."""
    if all(one.startswith(f"{folder}/") for one in addresses):
        return folder
    return os.path.commonprefix(addresses).rpartition("/")[0]  # noqa: RUF071 - cut back to a whole folder


def _rows(address: str) -> list[dict[str, str]]:
    """Rows of a CSV file with a column `path`; blank cells left out."""
    try:
        table = csv.DictReader(io.StringIO(storage.read(address).decode("utf-8-sig"), newline=""), restval="")
        columns = table.fieldnames or []
        rows = [{key: cell.strip() for key, cell in row.items() if key and cell.strip()} for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadSetting(f"{address} is not a CSV file in UTF-8 ({error}).") from None
    if "path" not in columns:
        raise BadSetting(
            f"{address} has the columns {', '.join(columns) or '(none)'}; expected a column 'path', and where known "
            "group (or speaker, recording, class, room), split and licence."
        )
    for number, row in enumerate(rows, start=1):
        if "path" not in row:
            raise BadSetting(f"Row {number} of {address} has no path; expected the path or address of a recording.")
        if row.get("split", "train") not in SPLITS:
            raise BadSetting(f"Row {number} of {address} names split {row['split']!r}; expected train, valid or test.")
    return rows


def _stated(kind: Kind, place: _Candidate, row: dict[str, str]) -> _Candidate:
    """A candidate by its manifest row, and by its place where the row says nothing."""
    group = next((row[column] for column in GROUP_COLUMNS[kind] if column in row), place.group)
    return _Candidate(
        id=f"{kind}/{row['id']}" if "id" in row else place.id,
        address=place.address,
        group=group,
        split=SPLITS[row["split"]] if "split" in row else place.split,
        licence=row.get("licence", ""),
        source=row.get("source", ""),
        sha256=row.get("sha256", ""),
        samples=_whole(row.get("samples", "")),
        sample_rate=_whole(row.get("sample_rate", "")),
    )


def _whole(cell: str) -> int:
    """A stated count, 0 if there is none; measured anyway, save for the shipped corpus."""
    return int(cell) if cell.isdecimal() else 0


def _refuse_repeated(candidates: list[_Candidate], address: str) -> None:
    seen: set[str] = set()
    for candidate in candidates:
        if candidate.id in seen:
            raise BadSetting(f"{address} has {candidate.id!r} twice; expected each path and id once.")
        seen.add(candidate.id)


# ---- probing ----------------------------------------------------------------------------------------------------


def _probe(candidate: _Candidate, sample_rate: int) -> "_Candidate | Quarantined":
    """Read a file whole: the candidate with what was measured, or why it cannot be used."""
    try:
        data = storage.read(candidate.address)
        samples, own_rate = audio.read(data, candidate.address)
        _refuse_unusable(audio.mono(samples))
    except (NotThere, BadAudio) as error:
        return Quarantined(address=candidate.address, reason=str(error))
    found = hashlib.sha256(data).hexdigest()
    if candidate.sha256 not in ("", found):
        reason = f"The manifest states sha256 {candidate.sha256[:12]}…; found {found[:12]}…."
        return Quarantined(address=candidate.address, reason=reason)
    probed = replace(candidate, sha256=found, samples=len(samples), sample_rate=own_rate)
    return _refused(probed, sample_rate) or probed


def _refused(candidate: _Candidate, sample_rate: int) -> Quarantined | None:
    """Set aside what has no sound above its own band: mixtures would be band-limited without saying so."""
    if candidate.sample_rate >= sample_rate:
        return None
    reason = f"Its sample rate, {candidate.sample_rate} Hz, is below the corpus's {sample_rate} Hz."
    return Quarantined(address=candidate.address, reason=reason)


def _refuse_unusable(samples: audio.Waveform) -> None:
    """Raise `BadAudio` for silence and for clipping; samples [samples], the channel that would be used."""
    if levels.silent(samples):
        raise BadAudio(f"Silent: {levels.rms_db(samples):.1f} dBFS in its first channel.")
    top = np.abs(samples) >= FLAT_TOP * np.abs(samples).max()
    share = np.count_nonzero(top[1:] & (samples[1:] == samples[:-1])) / len(samples)
    if share > CLIPPED_SHARE:
        raise BadAudio(f"Clipped: {share:.1%} of its samples lie on flat tops; at most {CLIPPED_SHARE:.1%} may.")


def _refuse_too_many(kind: Kind, where: str, good: int, bad: list[Quarantined], bad_share: float) -> None:
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


# ---- splitting --------------------------------------------------------------------------------------------------


def _in_splits(kind: Kind, where: str, candidates: list[_Candidate]) -> list[Recording]:
    """Recordings with the split of their group: as named, else by hash."""
    splits = {candidate.group: candidate.split for candidate in candidates if candidate.split}
    splits.update(_by_hash({candidate.group for candidate in candidates} - splits.keys()))
    recordings = [
        Recording(kind=kind, **(vars(candidate) | {"split": candidate.split or splits[candidate.group]}))
        for candidate in candidates
    ]
    _refuse_shared_groups(kind, where, recordings)
    return recordings


def _by_hash(groups: Iterable[str]) -> dict[str, Split]:
    """80 % train, 10 % valid, 10 % test by a hash of the name; no split empty where there are three groups or more."""
    draws = {group: int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 2**32 for group in groups}
    ordered = sorted(draws, key=lambda group: (draws[group], group))
    train = sum(draw < 0.8 for draw in draws.values())
    test = sum(draw >= 0.9 for draw in draws.values())
    if len(ordered) >= len(SPLITS):
        test = min(max(test, 1), len(ordered) - 2)
        train = min(max(train, 1), len(ordered) - test - 1)
    valid = len(ordered) - train - test
    names = ["train"] * train + ["valid"] * valid + ["test"] * test
    return {group: SPLITS[name] for group, name in zip(ordered, names, strict=True)}


def _refuse_shared_groups(kind: Kind, where: str, recordings: list[Recording]) -> None:
    """Raise `BadSetting` where a group stands in two splits."""
    seen: dict[str, Recording] = {}
    for recording in recordings:
        first = seen.setdefault(recording.group, recording)
        if first.split != recording.split:
            raise BadSetting(
                f"{where}: the {kind} group {recording.group!r} stands in {first.split} ({first.id}) and in "
                f"{recording.split} ({recording.id}); splits share no speaker, noise recording or room. Name one split."
            )


def _without_copies(recordings: list[Recording]) -> tuple[list[Recording], list[Quarantined]]:
    """Recordings without those whose very bytes stand in another split too, under another name."""
    kept: dict[str, Recording] = {}
    copies = []
    for recording in recordings:
        first = kept.setdefault(recording.sha256, recording)
        if first.split != recording.split:
            reason = f"In {recording.split}, and the same bytes as {first.id!r} in {first.split}."
            copies.append(Quarantined(address=recording.address, reason=reason))
    return [one for one in recordings if one.split == kept[one.sha256].split], copies
