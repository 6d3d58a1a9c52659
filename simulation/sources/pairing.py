"""Recorded pairs: a folder or bucket prefix that holds `clean/` and `noisy/` with files of equal names.

Each pair is two recordings, `speech/<name>` and `noisy/<name>`, of one group in one split. Splits and groups follow the
rules for folders, below `clean/`; or `pairs.csv` (or `pairs.parquet`) beside the two folders lists them: a column
`path`, the name below both, and where known speaker, split, licence and source.

A file without its partner, two sides of different rates, or of lengths further apart than an analysis frame, are
quarantined as pairs. A noisy side may be clipped: that may be what is to be undone. Whether the two are aligned is
measured when they are rendered (`simulation/recorded.py`).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from simulation import audio, storage
from simulation.errors import BadSetting, NotThere
from simulation.place import Stored
from simulation.sources.finding import GROUP_COLUMNS, Candidate, placed, table_rows
from simulation.sources.measuring import Found, found_at
from simulation.sources.recordings import SPLITS, Quarantined

MOST_TRIM_S = 0.032
"""Clean and noisy may differ by one analysis frame in length, as codecs and STFTs leave behind; no more."""

TABLES = ("pairs.csv", "pairs.parquet")

Pair = tuple[Candidate, Found, Found]
"""Place, and what was found of its clean and of its noisy side."""


def partner(speech_id: str) -> str:
    """The id of the noisy side of a clean recording: `speech/p1/a.wav` -> `noisy/p1/a.wav`."""
    return f"noisy/{speech_id.removeprefix('speech/')}"


def pairs_at(address: str, lowest_rate: int) -> tuple[list[Pair], list[Quarantined]]:
    """The pairs of a folder that can be used, ordered by id, and those that cannot, with the reason."""
    files = {side: _files(address, side) for side in ("clean", "noisy")}
    names = sorted(files["clean"].keys() & files["noisy"].keys())
    if not names:
        counts = " and ".join(f"{len(found)} audio files in {side}/" for side, found in files.items())
        raise NotThere(
            f"There are no pairs at {address}: found {counts}, and no name in both. Expected a folder with clean/ and"
            " noisy/ that hold audio files of equal names."
        )
    bad = [
        Quarantined(address=found[name].address, reason=f"It has no partner in {other}/.", kind="pairs")
        for side, other in (("clean", "noisy"), ("noisy", "clean"))
        for name, found in ((name, files[side]) for name in sorted(files[side].keys() - files[other].keys()))
    ]
    places = _places(address, {name: files["clean"][name] for name in names})
    names = sorted(places)
    other = {
        name: replace(places[name], address=at.address, stored=at)
        for name, at in files["noisy"].items()
        if name in places
    }
    clean = found_at("speech", [places[name] for name in names])
    noisy = found_at("noisy", [other[name] for name in names])
    pairs: list[Pair] = []
    for name, clean_side, noisy_side in zip(names, clean, noisy, strict=True):
        reason = _refusal(clean_side, noisy_side, lowest_rate)
        if reason:
            bad.append(Quarantined(address=places[name].address, reason=reason, kind="pairs"))
        else:
            pairs.append((places[name], clean_side, noisy_side))
    return sorted(pairs, key=lambda pair: pair[0].id), bad


def _files(address: str, side: str) -> dict[str, Stored]:
    """Audio files below one side, by name, sub-folders included."""
    root = storage.join(address, side)
    below = {stored.address.removeprefix(root).lstrip("/"): stored for stored in storage.listing(root)}
    return {name: stored for name, stored in below.items() if name.lower().endswith(audio.AUDIO_SUFFIXES)}


def _places(address: str, clean: dict[str, Stored]) -> dict[str, Candidate]:
    """What is known of each pair by its name: from the table if there is one, else from its folders."""
    by_folder = {name: placed("speech", stored.address, name, stored) for name, stored in clean.items()}
    table = next((at for name in TABLES if storage.exists(at := storage.join(address, name))), None)
    if table is None:
        return by_folder
    rows = {row["path"]: row for row in table_rows(table)}
    unknown = sorted(rows.keys() - clean.keys())
    if unknown:
        raise BadSetting(
            f"{table} lists {unknown[0]!r}, which is not in both clean/ and noisy/ ({len(unknown)} such rows). Expected"
            " names below these folders."
        )
    return {name: _stated(by_folder[name], row) for name, row in rows.items()}


def _stated(place: Candidate, row: dict[str, str]) -> Candidate:
    """A pair by its row, and by its place where the row says nothing."""
    return replace(
        place,
        group=next((row[column] for column in GROUP_COLUMNS["speech"] if column in row), place.group),
        split=SPLITS[row["split"]] if "split" in row else place.split,
        licence=row.get("licence", ""),
        source=row.get("source", ""),
    )


def _refusal(clean: Found, noisy: Found, lowest_rate: int) -> str:
    """Why two files are no pair that can be used; empty where they are."""
    for side, found in (("clean", clean), ("noisy", noisy)):
        if found.fault:
            return f"Its {side} side: {found.fault}"
    if clean.sample_rate != noisy.sample_rate:
        return (
            f"Its clean side has {clean.sample_rate} Hz and its noisy side {noisy.sample_rate} Hz; expected one rate."
        )
    if clean.sample_rate < lowest_rate:
        return f"Its sample rate, {clean.sample_rate} Hz, is below the corpus's {lowest_rate} Hz."
    if abs(clean.samples - noisy.samples) > MOST_TRIM_S * clean.sample_rate:
        return (
            f"Its clean side has {clean.samples} samples and its noisy side {noisy.samples}; expected equal lengths (up"
            f" to {1000 * MOST_TRIM_S:.0f} ms is trimmed)."
        )
    return ""


def folder_name(address: str) -> str:
    """The folder's own name, as a scenario may be called."""
    name = PurePosixPath(address.rstrip("/")).name.lower()
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name).strip("_") or "pairs"


def commonest_rate(pairs: Sequence[Pair]) -> int:
    """The sample rate that most pairs have, in Hz; of equally common ones the lower."""
    rates = [clean.sample_rate for _, clean, _ in pairs]
    return max(sorted(set(rates)), key=rates.count)
