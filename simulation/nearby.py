"""A corpus for somebody who asks for neighbours: rows that lie together are fetched together, and kept for a while.

A row by itself costs a request. Rows in training's order cost one for each stretch of neighbours, as long as the
stretches in play are kept. What is kept are the bytes of the store; a row is decoded when it is asked for.
"""

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from simulation import storage
from simulation.degradations.base import Mixture
from simulation.rows import Around

if TYPE_CHECKING:
    from simulation.corpus import Corpus


class Part(NamedTuple):
    """Bytes of one object."""

    address: str
    start: int
    data: bytes


class Stretch:
    """Neighbouring rows: fetched when the first of them is asked for, once, whoever asks."""

    def __init__(self, corpus: "Corpus", rows: range) -> None:
        self.corpus, self.rows = corpus, rows
        self._lock = threading.Lock()
        self._parts: list[Part] | None = None

    def read_range(self, address: str, start: int, size: int) -> bytes:
        """As `storage.read_range`, out of what was fetched."""
        with self._lock:
            if self._parts is None:
                self._parts = [
                    Part(tar, first, storage.read_range(tar, first, end - first))
                    for tar, first, end in self.corpus.places(self.rows)
                ]
        (part,) = (part for part in self._parts if part.address == address)
        first = start - part.start
        return part.data[first : first + size]


class Nearby(Around):
    """A corpus that keeps the last `kept` stretches; otherwise as the corpus. For any number of threads."""

    corpus: "Corpus"

    def __init__(self, corpus: "Corpus", kept: int) -> None:
        self.corpus, self.kept = corpus, kept
        self._lock = threading.Lock()
        self._stretches: OrderedDict[int, Stretch] = OrderedDict()

    def row(self, number: int) -> tuple[str, Mixture]:
        """Id and mixture of a row; `BadAudio` where it is in quarantine."""
        return self.corpus.row(number, self._stretch(number // self.stretch).read_range)

    def nearby(self, kept: int) -> "Nearby":
        """The same, keeping another number of stretches."""
        return Nearby(self.corpus, kept)

    def _stretch(self, number: int) -> Stretch:
        first = number * self.stretch
        with self._lock:
            if number not in self._stretches:
                self._stretches[number] = Stretch(self.corpus, range(first, min(first + self.stretch, self.rows)))
            self._stretches.move_to_end(number)
            if len(self._stretches) > self.kept:
                self._stretches.popitem(last=False)
            return self._stretches[number]
