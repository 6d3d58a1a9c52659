"""A-A: how often the gate would promote one of two versions that are equally good, on the very scores at hand.

Take the scores of two training seeds of one recipe. If neither is better, it does not matter which of them an utterance
was enhanced by, so their names may be swapped: for all utterances of a speaker at once, as these are not independent.
The share of such relabellings in which the gate promotes is its false promotion rate; it should be near alpha / 2, and
far below with a minimum gain.

Source: Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses", 3rd edition, 2005, chapter 3.
"""

import numpy as np
import pandas as pd

from serving.policy import Policy
from serving.verdict import Verdict, verdict
from simulation.schema import Schema

REPEATS = 200


class AA(Schema):
    """Two seeds of one recipe through the gate."""

    verdict: Verdict
    """Of the second against the first, as if that one were champion."""
    repeats: int
    false_promotions: int
    """Relabellings in which the gate promoted; `repeats` of them were tried."""


def aa(scores: pd.DataFrame, first: str, second: str, policy: Policy, repeats: int = REPEATS) -> AA:
    """Judge the second system against the first, and again under random relabellings drawn from the policy's seed."""
    table = scores[scores["system"].isin([first, second])].reset_index(drop=True)
    speakers = table["speaker"].fillna(table["row"]).astype(str).to_numpy()
    names, member = np.unique(speakers, return_inverse=True)
    other = table["system"].map({first: second, second: first})
    rng = np.random.default_rng(policy.seed)
    promoted = 0
    for _ in range(repeats):
        swapped = rng.integers(2, size=len(names)).astype(bool)[member]
        relabelled = table.assign(system=np.where(swapped, other, table["system"]))
        promoted += verdict(relabelled, first, [second], policy).winner is not None
    return AA(verdict=verdict(table, first, [second], policy), repeats=repeats, false_promotions=promoted)
