"""Planted cases: versions that gain on average and must not pass, each blocked for its own reason."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serving.judgement import Facts
from serving.policy import EVERY_SLICE, POLICIES, Budget, Limit, Policy, SliceMargin, policy_for
from serving.verdict import Judgement, Verdict, verdict
from simulation.errors import BadSetting, UnknownName

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
FACTS = Facts(real_time_factor=0.3, latency_ms=20.0, machine="a test's")
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


def judged(scores: pd.DataFrame, facts: Facts = FACTS, policy: Policy = POLICY) -> Judgement:
    """The judgement on the challenger."""
    (judgement,) = verdict(scores, "dm/1", ["dm/2"], policy, {"dm/2": facts}).judgements
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
        (FACTS.model_copy(update={"real_time_factor": 1.0}), "its real_time_factor of 1 is above 0.5"),
        (FACTS.model_copy(update={"latency_ms": 5000.0}), "its latency_ms of 5000 is above 40"),
        (Facts(latency_ms=20.0), "its real_time_factor was not measured"),
        (Facts(), "its real_time_factor was not measured and its latency_ms was not measured"),
    ],
)
def test_a_budget_that_is_exceeded_or_unknown_blocks(facts: Facts, reason: str) -> None:
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


def sampled(scores: pd.DataFrame, seeds: int, noise_db: float) -> pd.DataFrame:
    """The challenger sampled with so many seeds, whose SI-SDR scatters around what it was."""
    rng = np.random.default_rng(7)
    theirs = scores[scores["system"] == "dm/2"]
    parts = [
        theirs.assign(seed=seed, si_sdr=theirs["si_sdr"] + noise_db * rng.normal(size=len(theirs)))
        for seed in range(seeds)
    ]
    return pd.concat([scores[scores["system"] == "dm/1"], *parts], ignore_index=True)


def test_sampling_seeds_are_averaged_before_pairing() -> None:
    """Many seeds take the scatter of sampling away, and are no further utterances."""
    found = {seeds: judged(sampled(table(), seeds, 6.0)).gain for seeds in (1, 25)}
    one, many = (gain.interval for gain in found.values() if gain is not None)
    assert (one.n, many.n) == (180, 180)
    width = [interval.high - interval.low for interval in (one, many)]  # type: ignore[operator]
    assert width[1] < width[0] / 1.5


def test_one_harmful_sample_is_not_averaged_away() -> None:
    """A stochastic model that flips polarity now and then is blocked, though its mean polarity is positive."""
    scores = sampled(table(), 5, 0.1)
    scores.loc[scores.index[scores["seed"] == 3][:9], "planted_polarity"] = -1.0
    assert "planted_polarity is below 0 or missing on 9 of 900 utterances" in judged(scores).reason


def harmless(metric: str, value: float) -> pd.DataFrame:
    """The table with ten rows of clean input more, on which the challenger has this value."""
    base = table()
    rows = base[base["case"] == "clean"].groupby("system").head(10)
    added = rows.assign(case="harmless_clean", row=rows["row"].str.replace("test", "harmless"), si_sdr=50.0)
    added.loc[added["system"] == "dm/2", ["si_sdr", metric]] = [20.0, value]
    return pd.concat([base, added], ignore_index=True)


def test_rows_to_do_no_harm_on_count_in_limits_that_name_them_and_nowhere_else() -> None:
    """30 dB less SI-SDR on clean input is no harm; muting it is, though the other slices allow as much."""
    named = Limit(metric="planted_muted_share", highest=0.05, slices=("harmless_clean",))
    policy = POLICY.model_copy(update={"limits": (*POLICY.limits, named)})
    assert judged(harmless("planted_muted_share", 0.04), policy=policy).wins
    blocked = judged(harmless("planted_muted_share", 0.9), policy=policy)
    assert "but planted_muted_share is above 0.05 or missing on 10 of 10 utterances in harmless_clean:" in (
        blocked.reason
    )
    assert not blocked.wins
    assert [(check.worst, check.n) for check in blocked.limits if not check.met] == [(0.9, 10)]
    assert judged(harmless("planted_delay_samples", 320.0), policy=policy).wins, "that limit does not name the slice"
    assert not judged(table(), policy=policy).wins, "a slice that is named and was not scored is a no"


def test_where_the_input_has_no_value_either_nobody_is_blamed() -> None:
    """Polarity cannot be told on silence, whoever is asked; where the input has one, a missing value is a no."""
    scores = table()
    silent = scores["row"].isin([f"test-noise-{k:04d}" for k in range(5)])
    scores.loc[silent & (scores["system"] == "dm/2"), "planted_polarity"] = np.nan
    unprocessed = scores[scores["system"] == "dm/1"].assign(system="unprocessed")
    assert not judged(pd.concat([scores, unprocessed], ignore_index=True)).wins
    unprocessed.loc[silent[unprocessed.index], "planted_polarity"] = np.nan
    judgement = judged(pd.concat([scores, unprocessed], ignore_index=True))
    assert judgement.wins
    assert [(check.excused, check.n) for check in judgement.limits] == [(0, 180)] * 2 + [(5, 175)] + [(0, 60), (0, 180)]


def test_one_that_cannot_be_compared_is_told_which_limits_it_broke() -> None:
    """A model that mutes everything has no SI-SDR; "it failed" alone would not say why."""
    scores = table()
    muted = scores["system"] == "dm/2"
    scores.loc[muted, "si_sdr"], scores.loc[muted, "planted_muted_share"] = np.nan, 1.0
    judgement = judged(scores)
    assert "cannot be judged: SI-SDR failed on 180 utterances" in judgement.reason
    assert "and planted_muted_share is above 0.05 or missing on 60 of 60 utterances in clean" in judgement.reason


def test_a_loser_is_told_which_limits_it_broke() -> None:
    """A delay costs SI-SDR as well; the reason is the delay."""
    scores = table()
    planted("planted_delay_samples", 320.0)(scores)
    scores.loc[scores["system"] == "dm/2", "si_sdr"] -= 20.0
    assert "loses to dm/1 and planted_delay_samples is below -16 or above 16 or missing" in judged(scores).reason


def test_a_policy_of_ones_own_is_read_from_a_file(tmp_path: Path) -> None:
    """As JSON; a metric that does not exist, and a limit that limits nothing, are refused before anything is scored."""
    own = POLICIES["realtime"].model_copy(update={"name": "ours", "minimum_gain": 0.5})
    file = tmp_path / "ours.json"
    file.write_bytes(own.canonical())
    assert policy_for("denoise-16k", str(file)) == own
    file.write_text(own.model_dump_json().replace('"pesq"', '"pesk"'))
    with pytest.raises(UnknownName, match="no metric named 'pesk'"):
        policy_for("denoise-16k", str(file))
    file.write_text('{"name": "ours", "revision": 1, "limits": [{"metric": "muted"}]}')
    with pytest.raises(BadSetting, match="limits nothing"):
        policy_for("denoise-16k", str(file))


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
