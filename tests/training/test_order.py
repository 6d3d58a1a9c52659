"""Which row comes when: once an epoch, near its neighbours, mixed from many shards."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.order import WINDOW, bucketed, kept, order

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


def fetches(found: np.ndarray, stretch: int, most: int) -> int:
    """Of stretches, by somebody who keeps so many, and drops the one that was used longest ago."""
    held: OrderedDict[int, None] = OrderedDict()
    count = 0
    for place in found // stretch:
        count += place not in held
        held[place] = None
        held.move_to_end(place)
        if len(held) > most:
            held.popitem(last=False)
    return count


@pytest.mark.parametrize("stretch", [8, 32, 50, 64])
def test_each_stretch_is_fetched_once_an_epoch(stretch: int) -> None:
    """Whoever keeps as many as `kept` says fetches at most 1 % of them twice."""
    assert fetches(order(0, 0, LARGE, stretch), stretch, kept(stretch)) <= 1.01 * np.ceil(LARGE / stretch)


def test_workers_that_share_steps_by_row_number_read_less_than_the_whole_each() -> None:
    """Four workers with batches of 64 fetch half of the stretches each; of steps in random order, they fetch all."""
    batches = order(0, 0, LARGE, 32)[: LARGE // 64 * 64].reshape(-1, 64)
    some, every = (fetches(part[:, :16].ravel(), 32, kept(32)) / (LARGE / 32) for part in (np.sort(batches), batches))
    assert some < 0.55 < 0.95 < every


def test_a_batch_is_mixed_from_many_stretches() -> None:
    """Sixteen rows come from more than eleven stretches of 32 on average; neighbours hardly ever follow each other."""
    found = order(0, 0, LARGE, 32)
    batches = found[: LARGE // 16 * 16].reshape(-1, 16)
    assert np.mean([len(set(batch // 32)) for batch in batches]) > 11
    assert np.mean(np.diff(found) == 1) < 0.01


@given(seed=st.integers(0, 9), rows=st.integers(1, 3000), first=st.integers(0, 100), batch=st.integers(1, 70))
def test_bucketing_keeps_every_row(seed: int, rows: int, first: int, batch: int) -> None:
    """Wherever in a batch the epoch begins, and however few rows it has; asked again, it is the same."""
    lengths = np.random.default_rng(seed).integers(1, 9, rows)
    found = bucketed(order(seed, 0, rows, 8), lengths, seed, 0, first, batch)
    assert np.array_equal(np.sort(found), np.arange(rows))
    assert np.array_equal(found, bucketed(order(seed, 0, rows, 8), lengths, seed, 0, first, batch))


def utterances(rows: int) -> np.ndarray:
    """Lengths of one to twenty seconds, half of them between 2.7 and 6."""
    return (np.exp(np.random.default_rng(0).normal(np.log(4), 0.6, rows)).clip(1, 20) * 16_000).astype(int)


@pytest.mark.parametrize("rows", [700, LARGE])
def test_bucketed_batches_are_of_like_lengths(rows: int) -> None:
    """Cut to their shortest, batches of eight lose less than 6 % of the sound, where those of any lengths lose half;
    also those that lie across the end of an epoch."""
    lengths, batch = utterances(rows), 8
    plain = [order(0, epoch, rows, 32) for epoch in range(3)]
    alike = [bucketed(each, lengths, 0, epoch, epoch * rows, batch) for epoch, each in enumerate(plain)]

    def lost(epochs: list[np.ndarray]) -> float:
        batches = lengths[np.concatenate(epochs)][: 3 * rows // batch * batch].reshape(-1, batch)
        return float(1 - batch * batches.min(1).sum() / batches.sum())

    assert lost(alike) < 0.06
    assert lost(plain) > 0.5
    across = lengths[np.concatenate(alike)][rows // batch * batch :][:batch]
    assert across.min() > 0.8 * across.max()


def test_bucketing_varies_the_company_and_the_lengths() -> None:
    """Long batches come between short ones, and a row meets others in the next epoch."""
    lengths = utterances(LARGE)
    first, later = (bucketed(order(0, epoch, LARGE, 32), lengths, 0, epoch, 0, 8).reshape(-1, 8) for epoch in range(2))
    means = lengths[first].mean(1)
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.1
    company = {row: set(batch) for batch in later for row in batch}
    assert np.mean([len(set(batch) & company[batch[0]]) for batch in first]) < 1.5


def test_bucketing_fetches_each_stretch_once_too() -> None:
    """With as many kept as `kept` says for it, at most 2 % come twice."""
    found = bucketed(order(0, 0, LARGE, 32), utterances(LARGE), 0, 0, 0, 8)
    assert fetches(found, 32, kept(32, bucketing=True)) <= 1.02 * LARGE / 32
