"""Which items a step learns from, and that nobody waits or misses one."""

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simulation.errors import BadSetting, CorpusIncomplete, SampleRateMismatch
from training.batches import Batches, Item, share
from training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]


def test_every_mixture_comes_once_an_epoch(tones: object, small_recipe: MakeRecipe) -> None:
    """Steps run across the ends of epochs; cut into epochs, each is a permutation, and they differ."""
    batches = Batches(tones, small_recipe(steps=14))
    drawn = [item.index for step in range(14) for item in batches.indices(step)]
    epochs = [drawn[start : start + 7] for start in range(0, 70, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("world", [2, 3])
def test_going_on_with_other_workers_misses_nothing(tones: object, small_recipe: MakeRecipe, world: int) -> None:
    """Four steps by one worker, the rest by several: each mixture still comes once an epoch."""
    batches = Batches(tones, small_recipe(steps=14))
    ids = [name for step in range(4) for name in batches.load(step).ids]
    ids += [name for step in range(4, 14) for rank in range(world) for name in batches.load(step, rank, world).ids]
    assert set(Counter(ids).values()) == {10}


def test_the_shares_of_a_step_are_the_step(tones: object, small_recipe: MakeRecipe) -> None:
    """Joined in order of rank, the shares are what one worker would load."""
    batches = Batches(tones, small_recipe())
    whole = batches.load(3)
    for world in (2, 3, 5):
        shares = [batches.load(3, rank, world) for rank in range(world)]
        assert torch.equal(torch.cat([each.noisy for each in shares]), whole.noisy)
        assert torch.equal(torch.cat([each.clean for each in shares]), whole.clean)


@given(items=st.integers(1, 40), world=st.integers(1, 40))
def test_shares_are_even_and_complete(items: int, world: int) -> None:
    """Sizes differ by one at most; more workers than items is answered."""
    listed = [Item(index, 0) for index in range(items)]
    if world > items:
        with pytest.raises(BadSetting, match=f"at most {items} workers"):
            share(listed, 0, world)
        return
    shares = [share(listed, rank, world) for rank in range(world)]
    assert [item for each in shares for item in each] == listed
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_items_are_a_pure_function_of_seed_epoch_and_index(tones: object, small_recipe: MakeRecipe) -> None:
    """Asked again, or by another process: the same; with another seed: others."""
    first, again = (Batches(tones, small_recipe()).indices(6) for _ in range(2))
    assert first == again
    assert Batches(tones, small_recipe(seed=1)).indices(6) != first


def test_pieces_lie_inside_and_short_mixtures_are_filled(tones: object, small_recipe: MakeRecipe) -> None:
    """6400 samples from 4000 to 8200: zeros behind the short ones, no start beyond the end of the long ones."""
    batches = Batches(tones, small_recipe(steps=40))
    starts = set()
    for step in range(40):
        loaded = batches.load(step)
        assert loaded.noisy.shape == loaded.clean.shape == (5, 6400)
        assert loaded.noisy.dtype == torch.float32
        for item, noisy in zip(batches.indices(step), loaded.noisy, strict=True):
            samples = 4000 + 700 * item.index
            assert 0 <= item.start <= max(0, samples - 6400)
            assert (noisy[samples:] == 0).all()
            wanted = tones.read(item.index).noisy[item.start :][:6400]  # type: ignore[attr-defined]
            assert np.array_equal(noisy[: len(wanted)].numpy(), wanted)
            starts.add(item.start)
    assert len(starts) > 20


def test_the_stream_is_the_steps_in_order(tones: object, small_recipe: MakeRecipe) -> None:
    """From any step to the last one, read ahead or not."""
    batches = Batches(tones, small_recipe())
    streamed = list(batches.stream(4))
    assert len(streamed) == 6
    for step, batch in enumerate(streamed, start=4):
        assert batch.ids == batches.load(step).ids
        assert torch.equal(batch.noisy, batches.load(step).noisy)


def test_a_mixture_that_cannot_be_read_stops_the_stream(tones: object, small_recipe: MakeRecipe) -> None:
    """The reader's error reaches the loop; nothing is skipped in silence."""

    def broken(index: int) -> None:
        raise OSError("gone")

    tones.read = broken  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="gone"):
        next(Batches(tones, small_recipe()).stream(0))


def test_a_corpus_that_does_not_fit_is_refused(small_recipe: MakeRecipe) -> None:
    """Another sample rate, or nothing in it."""
    with pytest.raises(SampleRateMismatch, match="48000 Hz"):
        Batches(SimpleNamespace(sample_rate=48000, entries=[1], read=id), small_recipe())
    with pytest.raises(CorpusIncomplete, match="no mixtures"):
        Batches(SimpleNamespace(sample_rate=16000, entries=[], read=id), small_recipe())
