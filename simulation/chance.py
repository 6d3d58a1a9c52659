"""Randomness without a stream: every number drawn has a generator of its own, keyed by what it is for.

The key is (seed, split, row, operation, field). So no draw can shift another, no worker needs to know what others drew,
and row 10**9 costs what row 0 costs.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from simulation.schema import canonical_json

Catalogue = Mapping[str, Mapping[str, Sequence[str]]]
"""What can be picked in one split: recordings' ids, by kind and group."""


class Chance:
    """The randomness of one operation of one row. Speech is picked from other speakers than the row's own."""

    def __init__(
        self, seed: int, split: str, index: int, operation: str, catalogue: Catalogue, speaker: str | None = None
    ) -> None:
        self._row = (seed, split, index)
        self._operation = operation
        self._catalogue = catalogue
        self._speaker = speaker

    def of(self, operation: str) -> "Chance":
        """The randomness of another operation of the same row."""
        return Chance(*self._row, operation, self._catalogue, self._speaker)

    def rng(self, field: str) -> np.random.Generator:
        """The generator of one field, always at its first number."""
        return generator(*self._row, self._operation, field)

    def group(self, kind: str, field: str, apart_from: Collection[str | None] = ()) -> str | None:
        """One group (speaker, noise recording, room) of this kind, uniformly; None where all are excluded."""
        excluded = {*apart_from, self._speaker} if kind == "speech" else apart_from
        groups = [group for group in self._catalogue[kind] if group not in excluded]
        return one_of(groups, self.rng(f"{field}.group")) if groups else None

    def member(self, kind: str, group: str, field: str) -> str:
        """The id of one recording of this group, uniformly."""
        return one_of(self._catalogue[kind][group], self.rng(f"{field}.member"))

    def pick(self, kind: str, field: str) -> str:
        """The id of one recording of this kind: group uniformly, then member uniformly."""
        group = self.group(kind, field)
        if group is None:
            raise RuntimeError(f"no {kind} to pick; the plan should have been refused")
        return self.member(kind, group, field)


def generator(*key: str | int) -> np.random.Generator:
    """A generator keyed by what it is for; equal on every machine and in every order."""
    digest = hashlib.sha256(canonical_json(key)).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


def one_of(items: Sequence[str], rng: np.random.Generator) -> str:
    """One item, uniformly. Built on `random` alone, whose stream NumPy keeps from version to version."""
    return items[int(rng.random() * len(items))]
