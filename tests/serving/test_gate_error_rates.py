"""How often the gate errs, by simulation: 200 repeats of a corpus of 200 utterances, paired differences of 1 dB SD."""

import numpy as np
import pandas as pd
import pytest

from serving.policy import NotWorse, Policy
from serving.verdict import UNPROCESSED, Verdict, verdict

UTTERANCES, CLUSTERS, REPEATS = 200, 20, 200
MARGIN_DB = 0.3
MOST_ERRORS = 0.085
"""5 % and what 200 repeats scatter about it: exceeded by an honest gate once in 50 simulations."""

POLICY = Policy(
    name="simulated",
    revision=1,
    minimum_gain=0.0,
    not_worse=(NotWorse(metric="stoi", margin=MARGIN_DB), NotWorse(metric="estoi", margin=MARGIN_DB)),
)
"""Three independent questions in one verdict; the columns hold simulated dB, whatever their names say."""
TRUTHS = {"si_sdr": 0.0, "stoi": 0.0, "estoi": -MARGIN_DB}
"""No difference where a gain is asked for; no difference, and just the margin's, where a loss is looked for."""


def corpus(ways: tuple[str, ...]) -> dict[str, list[str | None]]:
    """Labels of 200 utterances in 20 clusters each way; the ways are crossed at random, as scenarios draw them."""
    rng = np.random.default_rng(11)
    blank: dict[str, list[str | None]] = {name: [None] * UTTERANCES for name in ("speaker", "noise", "room")}
    members = np.repeat(np.arange(CLUSTERS), UTTERANCES // CLUSTERS)
    return blank | {way: [f"{way}{k}" for k in rng.permutation(members)] for way in ways}


def differences(rng: np.random.Generator, labels: dict[str, list[str | None]], shared: float) -> np.ndarray:
    """Paired differences of variance 1, of which a share belongs to the clusters: [utterances]."""
    ways = [pd.factorize(np.array(column))[0] for column in labels.values() if column[0] is not None]
    total = np.sqrt(1 - shared) * rng.normal(size=UTTERANCES)
    for way in ways:
        total += np.sqrt(shared / len(ways)) * rng.normal(size=CLUSTERS)[way]
    return total


def gates(ways: tuple[str, ...], shared: float) -> list[Verdict]:
    """The verdict of every repeat."""
    rng = np.random.default_rng(20_26)
    labels = corpus(ways)
    base = {"row": [f"test-{index:08d}" for index in range(UTTERANCES)], "case": "noise", **labels}
    found = []
    for repeat in range(REPEATS):
        values = {metric: truth + differences(rng, labels, shared) for metric, truth in TRUTHS.items()}
        level = {metric: np.zeros(UTTERANCES) for metric in TRUTHS}
        table = pd.concat(
            [
                pd.DataFrame({**base, "system": UNPROCESSED, **level}),
                pd.DataFrame({**base, "system": "dm/1", **values}),
            ]
        )
        found.append(verdict(table, None, ["dm/1"], POLICY.model_copy(update={"seed": repeat})))
    return found


@pytest.mark.parametrize(
    ("ways", "shared"),
    [(("speaker",), 0.0), (("speaker", "noise", "room"), 0.0), (("speaker", "noise", "room"), 0.3)],
)
def test_the_gate_errs_as_seldom_as_it_says(ways: tuple[str, ...], shared: float) -> None:
    """A difference of 0 passes non-inferiority, one of just the margin does not, and no gain is found where none is.

    Clusters that share nothing must not cost power, in however many ways they are crossed; clusters that do share
    must not cost honesty (then 200 utterances are too few for the power, which is not asked for).
    """
    judgements = [each.judgements[0] for each in gates(ways, shared)]
    superior = np.mean([each.gain is not None and each.gain.met for each in judgements])
    equal, at_margin = (np.mean([each.others[place].met for each in judgements]) for place in (0, 1))
    assert superior <= MOST_ERRORS
    assert at_margin <= MOST_ERRORS
    assert shared or equal >= 0.95
