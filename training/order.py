"""Which row comes when, as a pure function of (seed, epoch), so that neighbours in a corpus are read together.

Rows that lie together (a stretch of a shard) come into play together: stretches in random order, a new one as an old
one is used up, and rows at random out of all that are in play. So a reader keeps a few stretches in memory and reads
each once an epoch, and a batch is still mixed from many. A corpus of up to `WINDOW` rows is mixed as a whole.

Where batches are to be of like lengths, rows change places with others that come soon before or after them.
"""

import numpy as np
from numpy.typing import NDArray

Order = NDArray[np.int64]
"""The row at each place of an epoch; every row once."""

WINDOW = 1024
"""Rows in play at a time. Of utterances of 3.4 s at 16 kHz, they are 130 MB of FLAC."""


MIXED = 512
"""Rows among which those of like lengths are sought."""
JITTER = 0.03
"""Lengths count as so much longer or shorter, at random, so that a row does not meet the same others in each epoch."""


def order(seed: int, epoch: int, rows: int, stretch: int) -> Order:
    """The rows of an epoch, where each `stretch` of them, counted from the first, lies together."""
    chance = np.random.default_rng((seed, epoch))
    if rows <= WINDOW:
        return chance.permutation(rows)
    turn = chance.permutation(-(-rows // stretch))[np.arange(rows) // stretch]
    return np.argsort(turn * stretch + chance.uniform(0, WINDOW, rows), kind="stable")


def kept(stretch: int, bucketing: bool = False) -> int:
    """Stretches to keep in memory, so that hardly any is read twice an epoch: those in play, and half as many again."""
    rows = WINDOW + 2 * MIXED if bucketing else WINDOW
    return 1 + 3 * rows // (2 * stretch)


def bucketed(found: Order, lengths: NDArray[np.int64], seed: int, epoch: int, first: int, batch: int) -> Order:
    """The rows of an epoch in an order in which each batch is of like lengths.

    `first` is the place of the epoch's first row in the run, and batches are cut from there: the row before it may be
    of the same batch.
    """
    chance = np.random.default_rng((seed, epoch, batch))
    head, size = -first % batch, batch * max(1, MIXED // batch)
    parts = np.split(found, range(head + size, len(found), size))
    heads = [head, *[0] * (len(parts) - 1)]
    return np.concatenate([_alike(*pair, lengths, batch, chance) for pair in zip(parts, heads, strict=True)])


def _alike(rows: Order, head: int, lengths: NDArray[np.int64], batch: int, chance: np.random.Generator) -> Order:
    """`head` rows that end a batch, then whole batches, then rows that begin one.

    Batches that are begun or ended elsewhere are of middle lengths, there and here.
    """
    ranked = rows[np.argsort(lengths[rows] * chance.uniform(1 - JITTER, 1 + JITTER, len(rows)), kind="stable")]
    count = max(0, len(rows) - head) // batch
    edge = len(rows) - count * batch
    middle = slice((len(rows) - edge) // 2, (len(rows) - edge) // 2 + edge)
    batches = np.delete(ranked, middle).reshape(count, batch)
    return np.concatenate([ranked[middle][:head], chance.permutation(batches).ravel(), ranked[middle][head:]])
