"""Intervals for means over utterances that are not independent: they share speakers and noise recordings.

Utterances of one speaker, or under one noise recording, tend to be easy or hard together, so a bootstrap over single
utterances gives intervals that are too narrow. The pigeonhole bootstrap resamples each way of clustering on its own
(speakers with replacement, noise recordings with replacement) and weighs an utterance by the product of how often its
speaker and its noise were drawn. Its variance is right for the clusters and a little large for what single utterances
add, so it errs to the wide side.

Source: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student_t

from simulation.schema import Schema

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
    """How many clusters they form, one number for each way of clustering (speakers, noise recordings)."""


class Bootstrap:
    """Replicate weights for one set of utterances, drawn once and used for every metric and difference on it."""

    def __init__(self, clusters: Sequence[Sequence[str | None]], seed: int, replicates: int = REPLICATES) -> None:
        """Each element of `clusters` labels every utterance in one way; None is "no such thing in this utterance".

        An unlabelled utterance keeps the weight 1 in that way of clustering; one without any label is a cluster of its
        own.
        """
        self.labels = _ways(clusters)
        size = len(clusters[0])
        rng = np.random.default_rng(seed)
        self.weights = np.ones((replicates, size))
        for labels in self.labels:
            self.weights *= _weights(labels, rng, replicates)

    def interval(self, values: np.ndarray, confidence: float = CONFIDENCE) -> Interval | None:
        """The mean of `values` [utterances] and its interval; NaN marks an utterance without a value.

        The interval is mean ± t · s, where s is the standard deviation of the replicates' means and t has as many
        degrees of freedom as the way of clustering with the fewest clusters has clusters, less one.
        """
        scored = np.isfinite(values)
        if not scored.any():
            return None
        counts = tuple(
            len({label for label, used in zip(labels, scored, strict=True) if used and label is not None})
            for labels in self.labels
        )
        mean = float(values[scored].mean())
        spread = self._spread(values, scored, counts, confidence)
        if spread is None:
            return Interval(mean=mean, low=None, high=None, n=int(scored.sum()), clusters=counts)
        return Interval(mean=mean, low=mean - spread, high=mean + spread, n=int(scored.sum()), clusters=counts)

    def _spread(
        self, values: np.ndarray, scored: np.ndarray, counts: tuple[int, ...], confidence: float
    ) -> float | None:
        """Half the width of the interval."""
        several = [count for count in counts if count > 1]
        if not several:
            return None
        mass = self.weights @ scored
        means = (self.weights @ np.where(scored, values, 0.0))[mass > 0] / mass[mass > 0]
        return float(student_t.ppf(0.5 + confidence / 2, min(several) - 1) * means.std(ddof=1))


def clustered_interval(
    values: np.ndarray, clusters: Sequence[Sequence[str | None]], seed: int, replicates: int = REPLICATES
) -> Interval | None:
    """The mean of `values` [utterances] with its interval; None where no utterance has a value.

    For a paired difference pass the differences. `clusters` holds one list of labels for each way of clustering.
    """
    return Bootstrap(clusters, seed, replicates).interval(np.asarray(values, dtype=np.float64))


def _ways(clusters: Sequence[Sequence[str | None]]) -> list[list[str | None]]:
    """The ways of clustering in which anything is labelled, every utterance being labelled in at least one."""
    ways = [list(labels) for labels in clusters]
    for index, labels in enumerate(zip(*clusters, strict=True)):
        if all(label is None for label in labels):
            ways[0][index] = f"utterance {index}"
    return [labels for labels in ways if any(label is not None for label in labels)]


def _weights(labels: list[str | None], rng: np.random.Generator, replicates: int) -> np.ndarray:
    """How often each utterance's cluster was drawn, [replicates, utterances]; 1 where there is no label."""
    names = sorted({label for label in labels if label is not None})
    place: dict[str | None, int] = {name: index for index, name in enumerate(names)}
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates)
    drawn = np.concatenate([drawn, np.ones((replicates, 1), dtype=drawn.dtype)], axis=1)
    return drawn[:, np.array([place.get(label, len(names)) for label in labels])]
