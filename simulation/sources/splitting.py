"""Splitting: no speaker, noise recording or room in two of train, valid and test."""

import hashlib
from collections.abc import Iterable

from simulation.errors import BadSetting
from simulation.sources.recordings import SPLITS, Kind, Quarantined, Recording, Split


def splits_of(groups: dict[str, Split | None]) -> dict[str, Split]:
    """The split of each group: as named, else by a hash of its name."""
    named = {group: split for group, split in groups.items() if split}
    return named | by_hash(groups.keys() - named.keys())


def by_hash(groups: Iterable[str]) -> dict[str, Split]:
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


def refuse_shared_groups(kind: Kind, where: str, recordings: list[Recording]) -> None:
    """Raise `BadSetting` where a group stands in two splits."""
    seen: dict[str, Recording] = {}
    for recording in recordings:
        first = seen.setdefault(recording.group, recording)
        if first.split != recording.split:
            raise BadSetting(
                f"{where}: the {kind} group {recording.group!r} stands in {first.split} ({first.id}) and in "
                f"{recording.split} ({recording.id}); splits share no speaker, noise recording or room. Name one split."
            )


def without_copies(recordings: list[Recording]) -> tuple[list[Recording], list[Quarantined]]:
    """Recordings without those whose very bytes stand in another split too, under another name."""
    kept: dict[str, Recording] = {}
    copies = []
    for recording in recordings:
        first = kept.setdefault(recording.sha256, recording)
        if first.split != recording.split:
            reason = f"In {recording.split}, and the same bytes as {first.id!r} in {first.split}."
            copies.append(Quarantined(address=recording.address, reason=reason))
    return [one for one in recordings if one.split == kept[one.sha256].split], copies
