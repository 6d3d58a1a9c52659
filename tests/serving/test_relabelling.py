"""A-A by relabelling: equal versions are seldom promoted, and a real gain does not inflate the rate."""

import numpy as np
import pandas as pd
import pytest

from serving.policy import Budget, Limit, Policy
from serving.relabelling import Rate, aa

POLICY = Policy(name="aa", revision=1, minimum_gain=0.0)


def table(gain_db: float) -> pd.DataFrame:
    """Two systems on 200 utterances of 20 speakers; the second is better by the gain."""
    rng = np.random.default_rng(2)
    rows = [f"test-{k:04d}" for k in range(200)]
    labels = {"row": rows, "case": "noise", "noise": None, "speaker": [f"s{k % 20}" for k in range(200)]}
    second = gain_db + rng.normal(size=200) + 0.5 * rng.normal(size=20)[np.arange(200) % 20]
    parts = [{**labels, "system": "dm/1", "si_sdr": np.zeros(200)}, {**labels, "system": "dm/2", "si_sdr": second}]
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)


@pytest.mark.parametrize(("gain_db", "wins"), [(0.0, False), (2.0, True)])
def test_relabelled_versions_are_seldom_promoted(gain_db: float, wins: bool) -> None:
    """At most 8.5 in 100, also where the two differ in truth: relabelling takes the difference away."""
    found = aa(table(gain_db), "dm/1", "dm/2", POLICY)
    assert (found.verdict.winner == "dm/2") == wins
    assert (found.repeats, found.speakers) == (200, 20)
    assert found.promotions.share <= 0.085
    assert found.promotions.low <= found.promotions.share <= found.promotions.high


def test_the_rate_follows_alpha() -> None:
    """A careless gate promotes by chance, and the report says so."""
    careless = POLICY.model_copy(update={"alpha": 0.8})
    assert aa(table(0.0), "dm/1", "dm/2", careless, repeats=60).promotions.count > 12


def test_the_interval_of_a_rate_is_exact() -> None:
    """Nothing in 200 still allows 1.83 % (the rule of three says 1.5 % for one side); textbook values."""
    rate = Rate.of(0, 200)
    assert (rate.share, rate.low, round(rate.high, 4)) == (0.0, 0.0, 0.0183)


def test_what_blocks_whoever_is_better_is_told_apart_from_chance() -> None:
    """A limit that both break makes false promotions impossible; how often a gain was claimed still says how sure the
    comparison is. Budgets, which nobody measured here, do not matter."""
    scores = table(0.0).assign(planted_polarity=-1.0)
    strict = POLICY.model_copy(
        update={
            "alpha": 0.8,
            "limits": (Limit(metric="planted_polarity", lowest=0.0),),
            "budgets": (Budget(fact="size_mb", limit=1.0),),
        }
    )
    found = aa(scores, "dm/1", "dm/2", strict, repeats=60)
    assert found.promotions.count == 0 and found.gains.count > 12
    assert found.verdict.judgements[0].budgets == ()
