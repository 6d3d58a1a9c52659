"""`unmuffle corpus gc`: what lost attempts left behind, shown, and removed where that was asked for."""

import re
import time

from pipelines.answer import Answer, line, stacked, table
from simulation.errors import BadSetting
from simulation.orphans import LEAST_AGE_S, Orphan, orphans

SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


def collected(address: str, older_than: str, delete: bool) -> Answer:
    """The orphans below an address that are older than `older_than` ("24h"); removed if `delete`."""
    age_s = _seconds(older_than)
    found = orphans(address, age_s)
    kept = [orphan.address for orphan in found if not orphan.remove()] if delete else []
    gone = [orphan for orphan in found if delete and orphan.address not in kept]
    data = {
        "address": address,
        "older_than_s": age_s,
        "deleted": delete,
        "bytes": sum(orphan.bytes for orphan in found),
        "orphans": [_facts(orphan) for orphan in found],
        "kept": kept,
    }
    rows = [(orphan.kind, _size(orphan.bytes), _age(orphan), orphan.address) for orphan in found]
    parts = [table(f"Orphans below {address}", ("kind", "bytes", "age", "address"), rows)] if found else []
    return Answer(data, stacked(*parts, *map(line, _told(address, older_than, found, gone, kept, delete))))


def _told(
    address: str, older_than: str, found: list[Orphan], gone: list[Orphan], kept: list[str], delete: bool
) -> list[str]:
    """How it ended, in lines."""
    if not found:
        return [f"No orphans older than {older_than} below {address}."]
    if not delete:
        total = _size(sum(orphan.bytes for orphan in found))
        return [f"{len(found)} orphans, {total} bytes. Nothing was removed; to remove them add --delete."]
    removed = f"Removed {len(gone)} orphans, {_size(sum(orphan.bytes for orphan in gone))} bytes."
    return [removed, *(f"Kept, because a writer committed it meanwhile: {one}" for one in kept)]


def _facts(orphan: Orphan) -> dict[str, str | int | float]:
    return {"address": orphan.address, "kind": orphan.kind, "bytes": orphan.bytes, "modified": orphan.modified}


def _seconds(text: str) -> float:
    """The length of time that a text such as 90m, 24h or 7d stands for; BadSetting if none, or too short to be safe."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text.strip())
    if not match:
        raise BadSetting(f"Found the age {text!r}; expected minutes, hours or days, such as 90m, 24h or 7d.")
    seconds = float(match[1]) * SECONDS[match[2]]
    if seconds < LEAST_AGE_S:
        raise BadSetting(f"Found the age {text!r}; expected at least 1h: younger files may be somebody's work in hand.")
    return seconds


def _age(orphan: Orphan) -> str:
    return f"{(time.time() - orphan.modified) / 3600:.0f} h"


def _size(count: int) -> str:
    return f"{count:,}"
