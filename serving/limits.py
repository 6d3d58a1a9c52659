"""Do no harm, and cost no more than allowed: checks of one candidate that need no opponent.

Every output counts by itself: an average over utterances, or over the sampling seeds of one, hides the one that harms.
"""

import numpy as np
import pandas as pd

from serving.judgement import BudgetCheck, Facts, LimitCheck
from serving.policy import Budget, Limit
from training.slices import is_harmless


def limit_check(limit: Limit, outputs: pd.DataFrame, unprocessed: pd.DataFrame) -> LimitCheck:
    """Count a candidate's outputs outside a limit; nothing to count is not within it.

    Both tables have a column for the limit's metric, `row` and `case`. An output without a value lies outside, unless
    the unprocessed input of that row has none either: then the metric has nothing to measure there.
    """
    inside_slices = outputs["case"].isin(limit.slices) if limit.slices else ~is_harmless(outputs["case"])
    held = outputs[inside_slices.to_numpy(bool)]
    without = unprocessed["row"][~finite(unprocessed[limit.metric]).to_numpy(bool)]
    excused = ~finite(held[limit.metric]).to_numpy(bool) & held["row"].isin(without).to_numpy(bool)
    values = held[limit.metric].to_numpy(np.float64)[~excused]
    over = _over(limit, values)
    outside, n = int((~np.isfinite(values) | (over > 0)).sum()), len(values)
    return LimitCheck(
        limit=limit,
        outside=outside,
        n=n,
        excused=int(excused.sum()),
        worst=float(values[np.nanargmax(over)]) if np.isfinite(values).any() else None,
        met=n > 0 and outside <= limit.share * n,
    )


def budget_check(budget: Budget, facts: Facts) -> BudgetCheck:
    """Hold a fact against its budget; one that nobody measured is not within it."""
    value: float | None = getattr(facts, budget.fact)
    return BudgetCheck(budget=budget, value=value, met=value is not None and value <= budget.limit)


def finite(values: pd.Series) -> pd.Series:
    """Which of them are there, and numbers."""
    return pd.Series(np.isfinite(values.to_numpy(dtype=np.float64)), index=values.index)


def _over(limit: Limit, values: np.ndarray) -> np.ndarray:
    """By how much each value lies outside; negative inside, NaN where there is none."""
    over = np.full(values.shape, -np.inf)
    if limit.lowest is not None:
        over = np.maximum(over, limit.lowest - values)
    if limit.highest is not None:
        over = np.maximum(over, values - limit.highest)
    return over
