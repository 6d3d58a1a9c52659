"""Which items a step learns from, and that nobody waits or misses one."""

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulation.errors import BadAudio, BadSetting, CorpusIncomplete, SampleRateMismatch, TooManyQuarantined
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


class Numbers:
    """Rows of four to ten samples, as many as are wanted, three of them lying together."""

    sample_rate, renders, most_quarantined, stretch = 16000, False, 0, 3

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.lengths = 4 + np.arange(rows) % 7

    def nearby(self, kept: int) -> "Numbers":
        """Itself."""
        return self

    def row(self, number: int) -> tuple[str, SimpleNamespace]:
        """Its number."""
        side = np.full(self.lengths[number], number, np.float32)
        return str(number), SimpleNamespace(clean=side, noisy=side)


@given(
    rows=st.integers(1, 40),
    batch=st.integers(1, 12),
    legs=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    bucketing=st.booleans(),
    window=st.sampled_from([4, 1024]),
)
@example(rows=23, batch=6, legs=[2, 1, 2], bucketing=False, window=4)
@example(rows=23, batch=6, legs=[4, 2], bucketing=True, window=1024)
@settings(deadline=None, max_examples=25)
def test_a_run_that_is_resumed_on_other_workers_meets_every_sample_exactly_once(
    rows: int, batch: int, legs: list[int], bucketing: bool, window: int, small_recipe: MakeRecipe
) -> None:
    """Any corpus, any batch, stopped any number of times, each leg on another number of workers: in every step they
    share what one worker would have had, and over all legs every row comes once an epoch."""
    with patch("training.order.WINDOW", window), patch("training.batches.WINDOW", window):
        _check_legs(rows, batch, legs, bucketing, small_recipe)


def _check_legs(rows: int, batch: int, legs: list[int], bucketing: bool, small_recipe: MakeRecipe) -> None:
    steps_a_leg, corpus = 4, Numbers(rows)
    whole = Batches(corpus, small_recipe(batch_size=batch, steps=steps_a_leg * len(legs), bucketing=bucketing))
    met: list[str] = []
    for leg, workers in enumerate(legs):
        world, first = min(workers, batch), leg * steps_a_leg
        recipe = small_recipe(batch_size=batch, steps=first + steps_a_leg, bucketing=bucketing)
        streams = [Batches(corpus, recipe, 1).stream(first, rank, world) for rank in range(world)]
        for step, shares in enumerate(zip(*streams, strict=True), start=first):
            together = whole.load(step)
            assert torch.equal(torch.cat([share.noisy for share in shares]), together.noisy)
            assert tuple(name for share in shares for name in share.ids) == together.ids
            met += together.ids
    epochs = [Counter(met[start : start + rows]) for start in range(0, len(met), rows)]
    assert all(set(epoch.values()) == {1} for epoch in epochs)
    assert all(len(epoch) == rows for epoch in epochs[:-1])


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
            assert (noisy[samples:] == 0).all()
            whole = tones.read(item.index).noisy  # type: ignore[attr-defined]
            inside = min(samples, 6400)
            (start,) = np.flatnonzero(whole[: samples - inside + 1] == noisy[0].item())
            assert np.array_equal(noisy[:inside].numpy(), whole[start : start + inside])
            starts.add(start)
    assert len(starts) > 20


@pytest.mark.parametrize(("segment_s", "longest"), [(None, 8200), (0.4, 6400)])
def test_bucketed_batches_are_filled_with_nothing(
    tones: object, small_recipe: MakeRecipe, segment_s: float | None, longest: int
) -> None:
    """Each is as long as its shortest mixture, and a segment at most; every sample is one of the mixture's, and over
    the epochs they come from everywhere in it."""
    batches = Batches(tones, small_recipe(steps=70, batch_size=2, segment_s=segment_s, bucketing=True))
    starts = set()
    for step, batch in enumerate(batches.stream(0)):
        samples = [4000 + 700 * item.index for item in batches.indices(step)]
        assert batch.noisy.shape == batch.clean.shape == (2, min(*samples, longest))
        for item, noisy in zip(batches.indices(step), batch.noisy, strict=True):
            whole = tones.read(item.index).noisy  # type: ignore[attr-defined]
            (start,) = np.flatnonzero(whole[: len(whole) - len(noisy) + 1] == noisy[0].item())
            assert np.array_equal(noisy.numpy(), whole[start : start + len(noisy)])
            starts.add(start)
    assert len(starts) > 20


def test_bucketing_brings_like_lengths_together(small_recipe: MakeRecipe) -> None:
    """Of 70 mixtures of seven lengths, batches of five are of one length or two."""
    batches = Batches(Numbers(70), small_recipe(steps=14, segment_s=None, bucketing=True))
    spread = [np.ptp([4 + item.index % 7 for item in batches.indices(step)]) for step in range(14)]
    assert max(spread) <= 1


def test_whole_utterances_need_bucketing_and_bucketing_needs_lengths(small_recipe: MakeRecipe) -> None:
    """Both are answered with what to set."""
    with pytest.raises(ValueError, match="that needs bucketing"):
        small_recipe(segment_s=None)
    unknown = Numbers(7)
    unknown.lengths = None  # type: ignore[assignment]
    with pytest.raises(BadSetting, match="Build the corpus without --virtual"):
        Batches(unknown, small_recipe(bucketing=True))


def test_the_stream_is_the_steps_in_order(tones: object, small_recipe: MakeRecipe) -> None:
    """From any step to the last one, read ahead or not."""
    batches = Batches(tones, small_recipe())
    streamed = list(batches.stream(4))
    assert len(streamed) == 6
    for step, batch in enumerate(streamed, start=4):
        assert batch.ids == batches.load(step).ids
        assert torch.equal(batch.noisy, batches.load(step).noisy)


def test_batches_wait_in_page_locked_memory_where_there_is_a_gpu(tones: object, small_recipe: MakeRecipe) -> None:
    """So that the GPU fetches them while it computes; without one, they are left where they are."""
    with closing(Batches(tones, small_recipe()).stream(0)) as stream:
        batch = next(stream)
    assert batch.noisy.is_pinned() == batch.clean.is_pinned() == torch.cuda.is_available()


def test_a_mixture_that_cannot_be_read_stops_the_stream(tones: object, small_recipe: MakeRecipe) -> None:
    """The reader's error reaches the loop; nothing is skipped in silence."""

    def broken(index: int) -> None:
        raise OSError("gone")

    tones.read = broken  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="gone"):
        next(Batches(tones, small_recipe()).stream(0))


class Gappy:
    """Another corpus whose rows 2 and 3 are in quarantine."""

    def __init__(self, sound: object, most_quarantined: int = 2) -> None:
        self.sound, self.most_quarantined = sound, most_quarantined

    def __getattr__(self, name: str) -> Any:
        """As the other."""
        return getattr(self.sound, name)

    def nearby(self, kept: int) -> "Gappy":
        """Itself."""
        return self

    def row(self, number: int) -> tuple[str, SimpleNamespace]:
        """`BadAudio` for the two."""
        if number in (2, 3):
            raise BadAudio("the noise is silent")
        return self.sound.row(number)  # type: ignore[attr-defined, no-any-return]


def test_the_next_row_stands_in_for_one_in_quarantine(tones: object, small_recipe: MakeRecipe) -> None:
    """Row 4 comes three times an epoch, in its own place and in those of 2 and 3, and both are counted; no other row
    changes its place or its piece."""
    gappy, sound = (Batches(corpus, small_recipe(steps=7)) for corpus in (Gappy(tones), tones))
    ids = Counter(name for step in range(7) for name in gappy.load(step).ids)
    assert ids == {f"train-0000000{row}": 15 if row == 4 else 5 for row in (0, 1, 4, 5, 6)}
    assert gappy.bad == dict.fromkeys((2, 3), "the noise is silent")
    for step in range(7):
        for one, other, item in zip(gappy.load(step).noisy, sound.load(step).noisy, sound.indices(step), strict=True):
            assert torch.equal(one, other) == (item.index not in (2, 3))
    assert [batch.ids[0][-1] for batch in gappy.whole(4)] == ["0", "1", "4", "5"]


def test_more_rows_in_quarantine_than_may_be_stop_the_run(tones: object, small_recipe: MakeRecipe) -> None:
    """One is allowed, two are met: the message names the last and why."""
    with pytest.raises(TooManyQuarantined, match=r"2 of 7 rows .* at most 1 .*Row 3: the noise is silent\."):
        list(Batches(Gappy(tones, most_quarantined=1), small_recipe()).stream(0))


def test_a_corpus_that_does_not_fit_is_refused(small_recipe: MakeRecipe) -> None:
    """Another sample rate, or nothing in it."""
    of = {"renders": False, "most_quarantined": 0, "stretch": 1, "lengths": None, "row": id, "nearby": id}
    with pytest.raises(SampleRateMismatch, match="48000 Hz"):
        Batches(SimpleNamespace(sample_rate=48000, rows=1, **of), small_recipe())
    with pytest.raises(CorpusIncomplete, match="no mixtures"):
        Batches(SimpleNamespace(sample_rate=16000, rows=0, **of), small_recipe())
