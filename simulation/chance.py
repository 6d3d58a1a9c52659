"""Randomness without a stream: every number drawn has a generator of its own, keyed by what it is for.

The key is (seed, split, row, operation, field). So no draw can shift another, no worker needs to know what others drew,
and row 10**9 costs what row 0 costs.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from simulation.schema import canonical_json

Catalogue = Mapping[str, Mapping[str, Sequence[str]]]
"""What can be picked in one split: recordings' ids, by kind and group."""


class Chance:
    """The randomness of one operation of one row."""

    def __init__(self, seed: int, split: str, index: int, operation: str, catalogue: Catalogue) -> None:
        self._key = (seed, split, index, operation)
        self._catalogue = catalogue

    def rng(self, field: str) -> np.random.Generator:
        """The generator of one field, always at its first number."""
        return generator(*self._key, field)

    def group(self, kind: str, field: str) -> str:
        """One group (speaker, noise recording, room) of this kind, uniformly."""
        return one_of(list(self._catalogue[kind]), self.rng(f"{field}.group"))

    def pick(self, kind: str, field: str) -> str:
        """The id of one recording of this kind: group uniformly, then member uniformly."""
        return one_of(self._catalogue[kind][self.group(kind, field)], self.rng(f"{field}.member"))


def generator(*key: str | int) -> np.random.Generator:
    """A generator keyed by what it is for; equal on every machine and in every order."""
    digest = hashlib.sha256(canonical_json(key)).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


def one_of(items: Sequence[str], rng: np.random.Generator) -> str:
    """One item, uniformly. Built on `random` alone, whose stream NumPy keeps from version to version."""
    return items[int(rng.random() * len(items))]
