"""Planted cases: versions that gain on average and must not pass, each blocked for its own reason."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from serving.policy import EVERY_SLICE, POLICIES, Budget, Limit, Policy, SliceMargin, policy_for
from serving.verdict import Judgement, Verdict, verdict
from simulation.errors import UnknownName

EACH = 60
CASES = ("noise", "reverb", "clean")
POLICY = Policy(
    name="strict",
    revision=1,
    slice_margins=(SliceMargin(slice=EVERY_SLICE, margin=0.3),),
    limits=(
        Limit(metric="planted_level_drift_db", lowest=-3.0, highest=3.0),
        Limit(metric="planted_delay_samples", lowest=-16.0, highest=16.0),
        Limit(metric="planted_polarity", lowest=0.0),
        Limit(metric="planted_muted_share", highest=0.05, share=0.01, slices=("clean",)),
        Limit(metric="planted_clipped_share", highest=0.001, share=0.05),
    ),
    budgets=(Budget(fact="real_time_factor", limit=0.5), Budget(fact="latency_ms", limit=40.0)),
)
FACTS = {"real_time_factor": 0.3, "latency_ms": 20.0}
HARMLESS = {
    "planted_level_drift_db": 0.2,
    "planted_delay_samples": 0.0,
    "planted_polarity": 1.0,
    "planted_muted_share": 0.0,
    "planted_clipped_share": 0.0,
}


def table() -> pd.DataFrame:
    """A champion and a challenger that gains 2 dB everywhere and harms nobody."""
    rng = np.random.default_rng(4)
    labels = pd.DataFrame(
        [
            {"row": f"test-{case}-{k:04d}", "case": case, "speaker": f"s{k % 10}", "noise": f"n{k % 12}", "room": None}
            for case in CASES
            for k in range(EACH)
        ]
    )
    level = rng.normal(size=len(labels))
    champion = labels.assign(system="dm/1", si_sdr=level, **HARMLESS)
    challenger = labels.assign(system="dm/2", si_sdr=level + 2.0 + 0.3 * rng.normal(size=len(labels)), **HARMLESS)
    return pd.concat([champion, challenger], ignore_index=True)


def judged(scores: pd.DataFrame, facts: dict[str, float] | None = None, policy: Policy = POLICY) -> Judgement:
    """The judgement on the challenger."""
    (judgement,) = verdict(scores, "dm/1", ["dm/2"], policy, {"dm/2": FACTS if facts is None else facts}).judgements
    return judgement


def planted(metric: str, value: float, case: str = "", share: float = 1.0) -> Callable[[pd.DataFrame], None]:
    """Sets a column of the challenger on some of its utterances (everywhere, or in one slice)."""

    def plant(scores: pd.DataFrame) -> None:
        theirs = scores.index[(scores["system"] == "dm/2") & ((scores["case"] == case) | (not case))]
        scores.loc[theirs[: round(share * len(theirs))], metric] = value

    return plant


def test_the_harmless_challenger_wins() -> None:
    """Without a planted fault nothing stands in its way: the other tests fail for their fault alone."""
    judgement = judged(table())
    assert judgement.wins
    assert {each.slice for each in judgement.margins} == set(CASES)


def test_better_on_average_but_worse_in_a_slice_is_blocked() -> None:
    """A loss of 0.5 dB in one slice, hidden in a mean gain of more than 1 dB, is found and named."""
    scores = table()
    scores.loc[(scores["system"] == "dm/2") & (scores["case"] == "reverb"), "si_sdr"] -= 2.5
    judgement = judged(scores)
    assert judgement.gain is not None and judgement.gain.met and judgement.gain.interval.mean > 1.0
    assert not judgement.wins
    assert "but it may lose more than 0.3 in the slice reverb:" in judgement.reason


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (
            planted("planted_muted_share", 0.9, "clean", 0.1),
            "planted_muted_share is above 0.05 or missing on 6 of 60 utterances",
        ),
        (planted("planted_polarity", -1.0), "planted_polarity is below 0 or missing on 180 of 180 utterances"),
        (
            planted("planted_delay_samples", 320.0),
            "planted_delay_samples is below -16 or above 16 or missing on 180 of 180",
        ),
        (
            planted("planted_level_drift_db", 6.0),
            "planted_level_drift_db is below -3 or above 3 or missing on 180 of 180",
        ),
        (
            planted("planted_level_drift_db", -6.0),
            "planted_level_drift_db is below -3 or above 3 or missing on 180 of 180",
        ),
        (
            planted("planted_clipped_share", 0.2, share=0.1),
            "planted_clipped_share is above 0.001 or missing on 18 of 180",
        ),
        (
            planted("planted_polarity", np.nan, share=0.01),
            "planted_polarity is below 0 or missing on 2 of 180 utterances",
        ),
    ],
)
def test_harm_is_blocked_for_its_own_reason(plant: Callable[[pd.DataFrame], None], reason: str) -> None:
    """Muted clean speech, flipped polarity, a delay of 20 ms, 6 dB more, clipping, a value that is missing."""
    scores = table()
    plant(scores)
    judgement = judged(scores)
    assert not judgement.wins
    assert f"but {reason}" in judgement.reason
    assert sum(not check.met for check in judgement.limits) == 1


def test_a_share_of_a_limit_is_forgiven_and_no_more() -> None:
    """5 % of the utterances may clip where the limit says so."""
    scores = table()
    planted("planted_clipped_share", 0.2, share=0.05)(scores)
    assert judged(scores).wins


@pytest.mark.parametrize("metric", list(HARMLESS))
def test_a_limit_on_a_column_that_is_not_there_is_a_no(metric: str) -> None:
    """What was not measured was not shown to be harmless."""
    assert f"{metric} is " in judged(table().drop(columns=metric)).reason
    assert not judged(table().drop(columns=metric)).wins


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (FACTS | {"real_time_factor": 1.0}, "its real_time_factor of 1 is above 0.5"),
        ({"latency_ms": 20.0}, "its real_time_factor was not measured"),
        (FACTS | {"latency_ms": float("nan")}, "its latency_ms was not measured"),
        ({}, "its real_time_factor was not measured and its latency_ms was not measured"),
    ],
)
def test_a_budget_that_is_exceeded_or_unknown_blocks(facts: dict[str, float], reason: str) -> None:
    """Twice too slow, or nobody looked: both are a no."""
    judgement = judged(table(), facts)
    assert not judgement.wins
    assert f"but {reason}:" in judgement.reason


def test_a_slice_that_a_policy_names_must_be_there() -> None:
    """A gate corpus without the slice cannot show that nothing was lost in it."""
    margins = (*POLICY.slice_margins, SliceMargin(slice="music", margin=0.3))
    judgement = judged(table(), policy=POLICY.model_copy(update={"slice_margins": margins}))
    assert "but the slice music has no scores:" in judgement.reason
    assert not judgement.wins


def test_each_slice_is_judged_at_its_own_alpha() -> None:
    """A smaller alpha asks for more: the same small loss passes at one and not at the other."""
    scores = table()
    scores.loc[(scores["system"] == "dm/2") & (scores["case"] == "reverb"), "si_sdr"] -= 2.2
    lenient, strict = (
        POLICY.model_copy(update={"slice_margins": (SliceMargin(slice="reverb", margin=0.3, alpha=alpha),)})
        for alpha in (0.2, 0.001)
    )
    assert judged(scores, policy=lenient).wins
    assert not judged(scores, policy=strict).wins


def test_policies_are_found_by_use_and_by_name() -> None:
    """`quality` and `realtime` are for any use; realtime alone has budgets; a name that is none is refused."""
    assert policy_for("denoise-16k") == POLICIES["denoise-16k"]
    assert policy_for("denoise-16k", "realtime").budgets and not policy_for("denoise-16k", "quality").budgets
    with pytest.raises(UnknownName, match="no policy named 'cheap'"):
        policy_for("denoise-16k", "cheap")


def test_a_verdict_with_all_its_checks_survives_json() -> None:
    """Every number is kept, and read back as it was."""
    found = verdict(table(), "dm/1", ["dm/2"], POLICY, {"dm/2": FACTS}, looks=40)
    assert found.warnings and "looked at 40 times" in found.warnings[0]
    assert Verdict.parse(found.canonical(), "verdict.json") == found
