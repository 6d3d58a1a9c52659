"""Intervals for means over utterances that are not independent: they share speakers, noise recordings and rooms.

Utterances of one speaker, or under one noise recording, tend to be easy or hard together, so a bootstrap over single
utterances gives intervals that are too narrow. Each way of clustering is resampled on its own (speakers with
replacement, noise recordings with replacement), and so is each of their crossings (all pairs of a speaker and a noise).
The variances of the single ways are added, and what they count twice is taken off again by the crossings':
V = V(speaker) + V(noise) - V(speaker x noise), and so on for three ways. Unlike the product of the weights (the
pigeonhole bootstrap, Owen 2007), which counts what single utterances add 3 times over with two ways and 7 times over
with three, this neither wastes utterances nor misses what they share.

Source: Cameron, Gelbach & Miller, "Robust inference with multiway clustering", Journal of Business & Economic
Statistics 29(2), 2011, equations 2.10 and 2.13; degrees of freedom as their section 2.3.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from simulation.schema import Schema

WAYS = ("speaker", "noise", "room")
"""Columns of a table of scores that say what utterances share."""

REPLICATES = 2_000
CONFIDENCE = 0.95


class Interval(Schema):
    """A mean over utterances with its interval, at 95 % unless another confidence was asked for."""

    mean: float
    low: float | None
    """None where there are fewer than two clusters each way: then no interval can be stated."""
    high: float | None
    n: int
    """Utterances that went into the mean."""
    clusters: tuple[int, ...]
    """How many clusters they form, one number for each way of clustering (speakers, noise recordings, rooms)."""


class Bootstrap:
    """Replicates of one set of utterances, drawn once and used for every metric and difference on it."""

    def __init__(self, clusters: Sequence[Sequence[str | None]], seed: int, replicates: int = REPLICATES) -> None:
        """Each element of `clusters` labels every utterance in one way; None is "no such thing in this utterance".

        An utterance that is not labelled in some way shares nothing with others in that way.
        """
        self.labels = _ways(clusters)
        rng = np.random.default_rng(seed)
        ways = range(len(self.labels))
        subsets = [subset for size in ways for subset in combinations(ways, size + 1)]
        self._draws = {subset: _Draws([self.labels[way] for way in subset], rng, replicates) for subset in subsets}

    def interval(self, values: np.ndarray, confidence: float = CONFIDENCE) -> Interval | None:
        """The mean of `values` [utterances] and its interval; NaN marks an utterance without a value.

        The interval is mean ± t · s, where s² is the variance of the mean and t has as many degrees of freedom as the
        way of clustering with the fewest clusters has clusters, less one.
        """
        scored = np.isfinite(values)
        if not scored.any():
            return None
        counts = tuple(
            len({label for label, used in zip(labels, scored, strict=True) if used and label is not None})
            for labels in self.labels
        )
        mean = float(values[scored].mean())
        spread = self._spread(values - mean, scored, counts, confidence)
        if spread is None:
            return Interval(mean=mean, low=None, high=None, n=int(scored.sum()), clusters=counts)
        return Interval(mean=mean, low=mean - spread, high=mean + spread, n=int(scored.sum()), clusters=counts)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Means of `values` [utterances, systems] in every replicate, [replicates, systems]; for questions that an
        interval does not answer, such as which system is best.

        Each utterance weighs the product of how often its clusters were drawn (Owen, "The pigeonhole bootstrap",
        Annals of Applied Statistics 1(2), 2007), so the means scatter too much rather than too little.
        """
        mass = self._weights.sum(axis=1)
        return (self._weights @ values)[mass > 0] / mass[mass > 0, None]

    @cached_property
    def _weights(self) -> np.ndarray:
        """Of every utterance in every replicate, [replicates, utterances]."""
        return np.prod([self._draws[(way,)].weights for way in range(len(self.labels))], axis=0)

    def _spread(
        self, residuals: np.ndarray, scored: np.ndarray, counts: tuple[int, ...], confidence: float
    ) -> float | None:
        """Half the width of the interval."""
        several = {way for way, count in enumerate(counts) if count > 1}
        if not several:
            return None
        variances = {
            subset: draws.variance(np.where(scored, residuals, 0.0), scored)
            for subset, draws in self._draws.items()
            if several.issuperset(subset)
        }
        total = sum((1 if len(subset) % 2 else -1) * variance for subset, variance in variances.items())
        # A difference of estimates can come out too small, even negative; no way of clustering alone may exceed it.
        total = max(total, *(variance for subset, variance in variances.items() if len(subset) == 1), 0.0)
        degrees = min(counts[way] for way in several) - 1
        return float(student_t.ppf(0.5 + confidence / 2, degrees) * np.sqrt(total))


class _Draws:
    """How often each cluster of one way (or of one crossing of ways) was drawn in every replicate."""

    def __init__(self, labels: Sequence[Sequence[str | None]], rng: np.random.Generator, replicates: int) -> None:
        pairs = enumerate(zip(*labels, strict=True))
        crossed = [("alone", str(index)) if None in each else ("shared", *each) for index, each in pairs]
        # Clusters in the order of their labels, so that replicates do not depend on the order of the utterances.
        place = {name: index for index, name in enumerate(sorted(set(crossed)))}
        self.member = np.array([place[each] for each in crossed])
        count = len(place)
        picks = rng.integers(count, size=(replicates, count)) + count * np.arange(replicates)[:, None]
        self.drawn = np.bincount(picks.ravel(), minlength=replicates * count).reshape(replicates, count).astype(float)

    @property
    def weights(self) -> np.ndarray:
        """[replicates, utterances]."""
        return self.drawn[:, self.member]

    def variance(self, residuals: np.ndarray, scored: np.ndarray) -> float:
        """Variance of the mean of the scored residuals [utterances], which are 0 elsewhere and 0 on average.

        A bootstrap of G clusters scatters by (G - 1) / G too little, which is made good.
        """
        count = self.drawn.shape[1]
        mass = self.drawn @ np.bincount(self.member, weights=scored, minlength=count)
        sums = self.drawn @ np.bincount(self.member, weights=residuals, minlength=count)
        means = sums[mass > 0] / mass[mass > 0]
        return float(means.var(ddof=1)) * count / (count - 1)


def clusters_of(labels: pd.DataFrame) -> list[list[str | None]]:
    """What utterances share, one list of labels for each of `WAYS`; a column that is not there labels nothing."""
    columns = labels.reindex(columns=list(WAYS))
    return [[None if pd.isna(label) else str(label) for label in columns[way]] for way in WAYS]


def _ways(clusters: Sequence[Sequence[str | None]]) -> list[list[str | None]]:
    """The ways of clustering in which anything is labelled, every utterance being labelled in at least one."""
    ways = [list(labels) for labels in clusters]
    for index, labels in enumerate(zip(*clusters, strict=True)):
        if all(label is None for label in labels):
            ways[0][index] = f"utterance {index}"
    return [labels for labels in ways if any(label is not None for label in labels)]
