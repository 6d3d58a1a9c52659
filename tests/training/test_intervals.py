"""Intervals: wide enough for utterances that share speakers and noise recordings."""

from collections.abc import Sequence

import numpy as np
import pytest

from training.intervals import REPLICATES, Bootstrap, Interval

SPEAKERS, NOISES, UTTERANCES = 10, 12, 150


def clustered_interval(
    values: np.ndarray, clusters: Sequence[Sequence[str | None]], seed: int, replicates: int = REPLICATES
) -> Interval | None:
    """The interval of these values alone."""
    return Bootstrap(clusters, seed, replicates).interval(values)


def shared(rng: np.random.Generator, mean: float = 0.0) -> tuple[np.ndarray, list[str], list[str]]:
    """Values with a part of the speaker, a part of the noise recording and a part of their own, each of variance 1."""
    speaker, noise = rng.integers(0, SPEAKERS, UTTERANCES), rng.integers(0, NOISES, UTTERANCES)
    values = rng.normal(size=SPEAKERS)[speaker] + rng.normal(size=NOISES)[noise] + rng.normal(size=UTTERANCES)
    return mean + values, [f"s{k}" for k in speaker], [f"n{k}" for k in noise]


def holds(interval: Interval | None, truth: float) -> bool:
    """Whether the interval contains the truth."""
    assert interval is not None and interval.low is not None and interval.high is not None
    return interval.low <= truth <= interval.high


def test_the_interval_covers_where_single_utterances_would_mislead() -> None:
    """Over 300 simulated corpora the 95 % interval holds the truth at least 93 times in 100; an i.i.d. bootstrap does
    so less than 70 times in 100."""
    rng = np.random.default_rng(20_26)
    clustered = single = 0
    for trial in range(300):
        values, speakers, noises = shared(rng, mean=1.0)
        clustered += holds(clustered_interval(values, [speakers, noises], trial, replicates=400), 1.0)
        alone = [str(index) for index in range(UTTERANCES)]
        single += holds(clustered_interval(values, [alone], trial, replicates=400), 1.0)
    assert clustered / 300 >= 0.93
    assert single / 300 < 0.70


def test_resampling_one_way_only_is_too_narrow() -> None:
    """Speakers alone do not account for what the noise recordings share: both ways are needed."""
    rng = np.random.default_rng(7)
    widths = {"both": 0.0, "speakers": 0.0}
    for trial in range(50):
        values, speakers, noises = shared(rng)
        for name, clusters in (("both", [speakers, noises]), ("speakers", [speakers])):
            interval = clustered_interval(values, clusters, trial, replicates=400)
            assert interval is not None and interval.low is not None
            widths[name] += interval.mean - interval.low
    assert widths["both"] > 1.2 * widths["speakers"]


def test_independent_utterances_agree_with_the_textbook() -> None:
    """With every utterance its own cluster the interval is mean ± t · s / √n."""
    values = np.random.default_rng(3).normal(size=200)
    interval = clustered_interval(values, [[str(k) for k in range(200)]], seed=0, replicates=20_000)
    assert interval is not None and interval.low is not None
    assert interval.mean == pytest.approx(values.mean())
    assert interval.mean - interval.low == pytest.approx(1.972 * values.std(ddof=1) / np.sqrt(200), rel=0.03)


def test_a_paired_difference_is_narrower_than_the_two_means() -> None:
    """What both systems share, the difficulty of the utterance, cancels in the difference."""
    rng = np.random.default_rng(5)
    unprocessed, speakers, noises = shared(rng)
    enhanced = unprocessed + 1.0 + 0.1 * rng.normal(size=UTTERANCES)
    bootstrap = Bootstrap([speakers, noises], seed=0)
    difference, mean = bootstrap.interval(enhanced - unprocessed), bootstrap.interval(enhanced)
    assert difference is not None and difference.low is not None and mean is not None and mean.low is not None
    assert difference.low > 0.9
    assert difference.mean - difference.low < 0.1 * (mean.mean - mean.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    """Intervals are reproducible, and the seed matters."""
    values, speakers, noises = shared(np.random.default_rng(1))
    first = clustered_interval(values, [speakers, noises], seed=4)
    assert clustered_interval(values, [speakers, noises], seed=4) == first
    assert clustered_interval(values, [speakers, noises], seed=5) != first


def test_failed_utterances_are_left_out_of_the_mean() -> None:
    """NaN marks a failure: it is neither 0 nor part of n."""
    values = np.array([1.0, np.nan, 3.0, 2.0])
    interval = clustered_interval(values, [["a", "a", "b", "c"], ["x", "y", "x", "z"]], seed=0)
    assert interval is not None
    assert (interval.mean, interval.n, interval.clusters) == (2.0, 3, (3, 2))


def test_nothing_scored_has_no_interval() -> None:
    """Where every utterance failed there is no mean to state."""
    assert clustered_interval(np.array([np.nan, np.nan]), [["a", "b"]], seed=0) is None


def test_one_cluster_has_a_mean_but_no_interval() -> None:
    """From one speaker and one noise nothing can be said about others."""
    interval = clustered_interval(np.array([1.0, 2.0, 3.0]), [["a"] * 3, ["x"] * 3], seed=0)
    assert interval is not None
    assert (interval.mean, interval.low, interval.high) == (2.0, None, None)


def test_a_way_of_clustering_without_labels_is_left_out() -> None:
    """A slice without noise is clustered by speaker alone; pairs without any label by utterance."""
    values, speakers, _ = shared(np.random.default_rng(2))
    without = clustered_interval(values, [speakers, [None] * UTTERANCES], seed=0)
    assert without == clustered_interval(values, [speakers], seed=0)
    nothing = clustered_interval(values, [[None] * UTTERANCES, [None] * UTTERANCES], seed=0)
    assert nothing is not None and nothing.clusters == (UTTERANCES,)


def test_the_order_of_the_utterances_does_not_matter() -> None:
    """Replicates are drawn for labels, not for positions."""
    values, speakers, noises = shared(np.random.default_rng(8))
    order = np.random.default_rng(0).permutation(UTTERANCES)
    first = clustered_interval(values, [speakers, noises], seed=0)
    second = clustered_interval(values[order], [[speakers[k] for k in order], [noises[k] for k in order]], seed=0)
    assert first is not None and second is not None and first.low is not None and second.low is not None
    assert (first.mean, first.low) == pytest.approx((second.mean, second.low))
