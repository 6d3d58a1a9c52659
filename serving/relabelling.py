"""A-A: how often the gate would promote one of two versions that are equally good, on the very scores at hand.

Take the scores of two training seeds of one recipe. If neither is better, it does not matter which of them an utterance
was enhanced by, so their names may be swapped: for all utterances of a speaker at once, as these are not independent.
The share of such relabellings in which the gate promotes is its false promotion rate; it should be near alpha / 2, and
far below with a minimum gain. Budgets are left out: what a version costs is not up to chance.

Source: Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses", 3rd edition, 2005, chapter 3.
"""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from serving.policy import Policy
from serving.verdict import Verdict, verdict
from simulation.schema import Schema
from training.slices import is_harmless

REPEATS = 200
CONFIDENCE = 0.95


class Rate(Schema):
    """How often something happened in `repeats` relabellings, with its exact interval at 95 %.

    Source: Clopper & Pearson, "The use of confidence or fiducial limits", Biometrika 26(4), 1934.
    """

    count: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, count: int, repeats: int) -> "Rate":
        """From a count."""
        ends = binomtest(count, repeats).proportion_ci(CONFIDENCE, method="exact")
        return cls(count=count, share=count / repeats, low=float(ends.low), high=float(ends.high))


class AA(Schema):
    """Two seeds of one recipe through the gate."""

    verdict: Verdict
    """Of the second against the first, as if that one were champion."""
    repeats: int
    """Relabellings."""
    speakers: int
    """Whose names were swapped, or not, together: there are 2 to the power of this many relabellings."""
    promotions: Rate
    """False ones: the gate let the second through although nobody is better."""
    gains: Rate
    """The gain in the main metric was claimed, whatever else stood in the way."""


def aa(scores: pd.DataFrame, first: str, second: str, policy: Policy, repeats: int = REPEATS) -> AA:
    """Judge the second system against the first, and again under random relabellings drawn from the policy's seed."""
    policy = policy.model_copy(update={"budgets": ()})
    pair = scores["system"].isin([first, second])
    table = scores[pair].reset_index(drop=True)
    rest = scores[scores["system"] == "unprocessed"]
    names, member = np.unique(_who(table), return_inverse=True)
    other = table["system"].map({first: second, second: first})
    rng = np.random.default_rng(policy.seed)
    promoted = gained = 0
    for _ in range(repeats):
        swapped = rng.integers(2, size=len(names)).astype(bool)[member]
        relabelled = table.assign(system=np.where(swapped, other, table["system"]))
        found = verdict(pd.concat([relabelled, rest]), first, [second], policy)
        promoted += found.winner is not None
        gained += found.judgements[0].gain is not None and found.judgements[0].gain.met
    return AA(
        verdict=verdict(pd.concat([table, rest]), first, [second], policy),
        repeats=repeats,
        speakers=len(np.unique(_who(table[~is_harmless(table["case"])]))),
        promotions=Rate.of(promoted, repeats),
        gains=Rate.of(gained, repeats),
    )


def _who(table: pd.DataFrame) -> np.ndarray:
    """Whose utterance each line is; one without a speaker, or to do no harm on, stands alone."""
    alone = table["speaker"].isna() | is_harmless(table["case"])
    return np.where(alone, table["row"], table["speaker"]).astype(str)
