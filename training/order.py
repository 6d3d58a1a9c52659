"""Which row comes when, as a pure function of (seed, epoch), so that neighbours in a corpus are read together.

Rows that lie together (a stretch of a shard) come into play together: stretches in random order, a new one as an old
one is used up, and rows at random out of all that are in play. So a reader keeps a few stretches in memory and reads
each once an epoch, and a batch is still mixed from many. A corpus of up to `WINDOW` rows is mixed as a whole.
"""

import numpy as np
from numpy.typing import NDArray

Order = NDArray[np.int64]
"""The row at each place of an epoch; every row once."""

WINDOW = 1024
"""Rows in play at a time. Of utterances of 3.4 s at 16 kHz, they are 130 MB of FLAC."""


def order(seed: int, epoch: int, rows: int, stretch: int) -> Order:
    """The rows of an epoch, where each `stretch` of them, counted from the first, lies together."""
    chance = np.random.default_rng((seed, epoch))
    if rows <= WINDOW:
        return chance.permutation(rows)
    turn = chance.permutation(-(-rows // stretch))[np.arange(rows) // stretch]
    return np.argsort(turn * stretch + chance.uniform(0, WINDOW, rows), kind="stable")


def kept(stretch: int) -> int:
    """Stretches to keep in memory, so that hardly any is read twice an epoch: those in play, and half as many again."""
    return 1 + 3 * WINDOW // (2 * stretch)
