"""Sampling seeds: a stochastic system has several outputs for a row; before rows are paired, its scores are averaged.

A row counts once, however many seeds it was sampled with: more seeds make its score surer, but are no further evidence.
"""

from collections.abc import Sequence

import pandas as pd

SEED = "seed"
"""Column of a table of scores: which sample of its output; a table of deterministic systems need not have it."""


def averaged(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """One line for each row and system, with the means of these metrics over the seeds.

    Where one seed has no value the mean has none: what fails now and then is not better for it.
    """
    if SEED not in scores.columns:
        return scores
    means = scores.groupby(["row", "system"], sort=False)[list(metrics)].mean(skipna=False)
    lines = scores.drop(columns=[*metrics, SEED]).drop_duplicates(["row", "system"])
    return lines.merge(means, left_on=["row", "system"], right_index=True, validate="one_to_one")
