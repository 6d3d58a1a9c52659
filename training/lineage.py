"""Which mixtures the weights of a run have learnt from: one row number for each position of the run, in order.

It lies in every checkpoint beside the weights it belongs to. So whatever is done again after a failure counts once, and
what was lost with a worker does not count. Four bytes an item, before compression.
"""

import hashlib
import io
from typing import Any, NamedTuple

import numpy as np
import torch.distributed
from numpy.typing import NDArray

from simulation.errors import CheckpointIncompatible
from training.loop import Seat

LINEAGE = "lineage.npz"
"""Its file in checkpoints and versions."""

Rows = NDArray[np.uint32]


class Epoch(NamedTuple):
    """How often the rows of a corpus were met in one epoch."""

    number: int
    rows: Rows
    """In order; fewer than the corpus has where the run ended within the epoch."""
    repeated: Rows
    """Those met more than once: each stood in for a row in quarantine."""


class Lineage:
    """What one worker has learnt from since the last checkpoint, and what all of them had before."""

    def __init__(self, corpus_rows: int, learnt: Rows | None = None) -> None:
        self.corpus_rows = corpus_rows
        self.learnt = np.zeros(0, np.uint32) if learnt is None else learnt
        self._since: list[list[int]] = []

    def note(self, ids: tuple[str, ...]) -> None:
        """This worker's share of the next step."""
        self._since.append([row_number(each) for each in ids])

    def gather(self, seat: Seat, group: Any = None) -> None:
        """Bring the shares of all workers together; for all of them at once, after the same step."""
        shares = [self._since]
        if seat.world > 1:
            found: list[Any] = [None] * seat.world
            torch.distributed.all_gather_object(found, self._since, group=group)
            shares = found
        steps = zip(*shares, strict=True)
        new = [number for step in steps for share in step for number in share]
        self.learnt = np.concatenate([self.learnt, np.array(new, np.uint32)])
        self._since = []

    def before(self, position: int) -> "Lineage":
        """That of the weights as they were when the run came to this position."""
        return Lineage(self.corpus_rows, self.learnt[:position])

    def epochs(self) -> list[Epoch]:
        """The same, epoch by epoch."""
        found = []
        for number, start in enumerate(range(0, len(self.learnt), self.corpus_rows)):
            rows = self.learnt[start : start + self.corpus_rows]
            values, counts = np.unique(rows, return_counts=True)
            found.append(Epoch(number, rows, values[counts > 1]))
        return found

    def facts(self) -> dict[str, Any]:
        """What a version says of it."""
        return {
            "items": len(self.learnt),
            "corpus_rows": self.corpus_rows,
            "sha256": hashlib.sha256(self.learnt.astype("<u4").tobytes()).hexdigest(),
        }

    def to_bytes(self) -> bytes:
        """As a compressed NumPy archive: `rows`, and `corpus_rows`."""
        file = io.BytesIO()
        np.savez_compressed(file, rows=self.learnt, corpus_rows=np.uint32(self.corpus_rows))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Lineage":
        """Back from `to_bytes`."""
        with np.load(io.BytesIO(data)) as archive:
            return cls(int(archive["corpus_rows"]), archive["rows"])


def row_number(mixture: str) -> int:
    """12, of the mixture `train-00000012`."""
    number = mixture.rpartition("-")[2]
    if not number.isdecimal():
        raise CheckpointIncompatible(
            f"The mixture {mixture!r} has no row number; expected an id such as train-00000012."
        )
    return int(number)
