"""Ranking: systems ordered by a metric, with how sure the order is.

Each system is compared with the next one by paired differences, and the same bootstrap says how often each would come
first on other speakers, noise recordings and rooms. That is a property of the data, not a belief: two equal systems
have about a half each, and the shares of all systems add up to 1.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from simulation.errors import BadSetting, UnknownName
from simulation.schema import Schema
from training.intervals import Bootstrap, Interval, clusters_of
from training.metrics import METRICS
from training.sampling import averaged
from training.slices import is_harmless


class Place(Schema):
    """One system in the order."""

    system: str
    mean: Interval
    """Over the utterances that every system has a value for."""
    best_share: float
    """Share of the bootstrap's replicates in which it comes first."""
    lead: Interval | None
    """Paired difference to the next system, positive is better; None for the last one."""


class Ranking(Schema):
    """Systems, best first."""

    metric: str
    utterances: int
    left_out: int
    """Utterances on which some system has no value."""
    places: tuple[Place, ...]


def ranking(scores: pd.DataFrame, systems: Sequence[str], metric: str = "si_sdr", seed: int = 0) -> Ranking:
    """Rank systems by a table of scores (see `training.scorecard`) in one metric, do-no-harm rows left out.

    Raises UnknownName for a metric or system without scores, BadSetting where no utterance can be compared.
    """
    if metric not in METRICS or metric not in scores.columns:
        raise UnknownName("metric", metric, [name for name in METRICS if name in scores.columns])
    own = ~is_harmless(scores["case"]) if "case" in scores.columns else slice(None)
    scores = averaged(scores[own], [metric])
    table = scores.pivot(index="row", columns="system", values=metric)
    for name in systems:
        if name not in table.columns:
            raise UnknownName("system", name, list(table.columns))
    values = table[list(dict.fromkeys(systems))].astype(float)
    complete = values[np.isfinite(values).all(axis=1)]
    if complete.empty:
        raise BadSetting(
            f"No utterance has a value of {metric} for all of {', '.join(systems)}; rank by another metric."
        )
    direction = 1.0 if METRICS[metric].higher_is_better else -1.0
    labels = scores.drop_duplicates("row").set_index("row")
    order = np.argsort(-direction * complete.to_numpy().mean(axis=0), kind="stable")
    names, ordered = [str(complete.columns[place]) for place in order], complete.to_numpy()[:, order]
    bootstrap = Bootstrap(clusters_of(labels.reindex(complete.index)), seed)
    shares = _best_shares(direction * bootstrap.means(ordered))
    places = []
    for place, name in enumerate(names):
        mean = bootstrap.interval(ordered[:, place])
        assert mean is not None
        gaps = direction * (ordered[:, [place]] - ordered[:, place + 1 : place + 2])
        lead = bootstrap.interval(gaps[:, 0]) if gaps.size else None
        places.append(Place(system=name, mean=mean, best_share=float(shares[place]), lead=lead))
    return Ranking(metric=metric, utterances=len(complete), left_out=len(values) - len(complete), places=tuple(places))


def _best_shares(means: np.ndarray) -> np.ndarray:
    """How often each system is first in `means` [replicates, systems]; a tie is shared."""
    first = means >= means.max(axis=1, keepdims=True)
    return np.asarray((first / first.sum(axis=1, keepdims=True)).mean(axis=0))
