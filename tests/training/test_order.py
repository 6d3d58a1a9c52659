"""Which row comes when: once an epoch, near its neighbours, mixed from many shards."""

from collections import OrderedDict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.order import WINDOW, kept, order

LARGE = 20_000
"""Rows of a corpus of many windows."""


@given(seed=st.integers(0, 9), epoch=st.integers(0, 99), rows=st.integers(1, 5000), stretch=st.integers(1, 2000))
def test_every_row_comes_once_an_epoch(seed: int, epoch: int, rows: int, stretch: int) -> None:
    """For any corpus, any seed; asked again, it is the same."""
    found = order(seed, epoch, rows, stretch)
    assert np.array_equal(np.sort(found), np.arange(rows))
    assert np.array_equal(found, order(seed, epoch, rows, stretch))


def test_a_corpus_of_one_window_is_mixed_as_a_whole() -> None:
    """Its order is the plain permutation, whatever lies together: weights trained on it stay what they are."""
    for stretch in (1, 32, 500):
        assert np.array_equal(order(3, 5, WINDOW, stretch), np.random.default_rng((3, 5)).permutation(WINDOW))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    """Both which stretches come early and where their rows fall."""
    first, next_epoch, next_seed = (order(seed, epoch, LARGE, 32) for seed, epoch in ((0, 0), (0, 1), (1, 0)))
    for other in (next_epoch, next_seed):
        assert abs(np.corrcoef(np.argsort(first), np.argsort(other))[0, 1]) < 0.1


def test_each_stretch_is_fetched_once_an_epoch() -> None:
    """Whoever keeps as many as `kept` says, dropping the one that was used longest ago, fetches at most 1 % twice."""
    for stretch in (8, 32, 50, 64):
        held: OrderedDict[int, None] = OrderedDict()
        fetched = 0
        for row in order(0, 0, LARGE, stretch):
            fetched += row // stretch not in held
            held[row // stretch] = None
            held.move_to_end(row // stretch)
            if len(held) > kept(stretch):
                held.popitem(last=False)
        assert fetched <= 1.01 * np.ceil(LARGE / stretch)


def test_a_batch_is_mixed_from_many_stretches() -> None:
    """Sixteen rows come from more than eleven stretches of 32 on average; neighbours hardly ever follow each other."""
    found = order(0, 0, LARGE, 32)
    batches = found[: LARGE // 16 * 16].reshape(-1, 16)
    assert np.mean([len(set(batch // 32)) for batch in batches]) > 11
    assert np.mean(np.diff(found) == 1) < 0.01
