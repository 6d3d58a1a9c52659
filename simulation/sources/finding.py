"""Finding recordings: the audio files of a folder or bucket prefix, or the rows of a CSV or Parquet manifest."""

import csv
import io
import os
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from simulation import audio, storage
from simulation.errors import BadSetting, NotThere
from simulation.place import Stored
from simulation.sources.recordings import SPLITS, Kind, Split

TABLES = (".csv", ".parquet")
"""Endings of manifests."""

GROUP_COLUMNS: dict[Kind, tuple[str, ...]] = {
    "speech": ("group", "speaker"),
    "noise": ("group", "recording", "class"),
    "rir": ("group", "room"),
}
"""Columns of a manifest that name the group, best first."""


@dataclass(frozen=True)
class Candidate:
    """A file that may become a recording, as its place and its manifest describe it."""

    id: str
    address: str
    group: str
    split: Split | None
    licence: str = ""
    source: str = ""
    sha256: str = ""
    """As stated; empty where nothing is."""
    onset: int | None = None
    """Of an RIR, as stated."""
    stored: Stored | None = None
    """Size and time, where they are known."""


def candidates_at(kind: Kind, address: str) -> list[Candidate]:
    """What the folder, prefix or manifest at this address names of this kind."""
    if not address.endswith(TABLES):
        return from_folder(kind, address)
    rows = table_rows(address)
    return from_rows(kind, address, rows)


def from_folder(kind: Kind, address: str) -> list[Candidate]:
    """Every audio file below a folder or prefix."""
    files = storage.listing(address)
    heard = [file for file in files if file.address.lower().endswith(audio.AUDIO_SUFFIXES)]
    if not heard:
        found = f"{len(files)} files, none of them audio" if files else "nothing (no such folder, or an empty one)"
        raise NotThere(
            f"There is no {kind} at {address}: found {found}. Expected a folder or bucket prefix with "
            f"{', '.join(audio.AUDIO_SUFFIXES[:4])} or similar files below it, a .csv or .parquet manifest, or the word"
            " 'sample'."
        )
    return [placed(kind, file.address, file.address.removeprefix(address).lstrip("/"), file) for file in heard]


def placed(prefix: str, address: str, relative: str, stored: Stored | None = None) -> Candidate:
    """What the place of a file says: id (`<prefix>/<relative>`), split and group."""
    parts = PurePosixPath(relative).parts
    split = SPLITS.get(parts[0]) if len(parts) > 1 else None
    folders = parts[1:-1] if split else parts[:-1]
    group = folders[0] if folders else str(PurePosixPath(relative).with_suffix(""))
    return Candidate(id=f"{prefix}/{relative}", address=address, group=group, split=split, stored=stored)


def from_rows(kind: Kind, address: str, rows: list[dict[str, str]]) -> list[Candidate]:
    """The rows of the manifest at this address that are of this kind."""
    rows = [row for row in rows if row.get("kind", kind) == kind]
    if not rows:
        raise BadSetting(f"{address} has no rows of kind {kind!r}; expected at least one, or no column 'kind'.")
    folder = address.rpartition("/")[0]
    addresses = [_resolved(row["path"], folder) for row in rows]
    root = _common_folder(folder, addresses)
    places = [placed(kind, one, one.removeprefix(root).lstrip("/")) for one in addresses]
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


def table_rows(address: str) -> list[dict[str, str]]:
    """Rows of a manifest with a column `path`, as text; blank cells left out."""
    data = storage.read(address)
    columns, table = _parquet(data, address) if address.endswith(".parquet") else _csv(data, address)
    rows = [
        {str(key): str(cell).strip() for key, cell in row.items() if key and str(cell or "").strip()} for row in table
    ]
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


def _csv(data: bytes, address: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a CSV file."""
    try:
        table = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), restval="")
        return list(table.fieldnames or []), list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadSetting(f"{address} is not a CSV file in UTF-8 ({error}).") from None


def _parquet(data: bytes, address: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
    except (pyarrow.ArrowException, OSError) as error:
        raise BadSetting(f"{address} is not a Parquet file ({error}).") from None
    return list(table.column_names), table.to_pylist()


def _stated(kind: Kind, place: Candidate, row: dict[str, str]) -> Candidate:
    """A candidate by its manifest row, and by its place where the row says nothing."""
    group = next((row[column] for column in GROUP_COLUMNS[kind] if column in row), place.group)
    return Candidate(
        id=f"{kind}/{row['id']}" if "id" in row else place.id,
        address=place.address,
        group=group,
        split=SPLITS[row["split"]] if "split" in row else place.split,
        licence=row.get("licence", ""),
        source=row.get("source", ""),
        sha256=row.get("sha256", ""),
        onset=_onset(row["onset"], place.address) if "onset" in row else None,
    )


def _onset(cell: str, address: str) -> int:
    if not cell.isdecimal():
        raise BadSetting(f"The onset of {address} is {cell!r}; expected the number of a sample, 0 for the first.")
    return int(cell)


def _refuse_repeated(candidates: list[Candidate], address: str) -> None:
    seen: set[str] = set()
    for candidate in candidates:
        if candidate.id in seen:
            raise BadSetting(f"{address} has {candidate.id!r} twice; expected each path and id once.")
        seen.add(candidate.id)
