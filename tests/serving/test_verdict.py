from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest

from serving.policy import NotWorse, Policy, policy_for
from serving.verdict import UNPROCESSED, Verdict, verdict
from simulation.errors import UnknownName
from training.intervals import Bootstrap

POLICY = policy_for("denoise-16k").model_copy(update={"limits": ()})
"""Limits have tests of their own (`test_gate_planted.py`, `test_gate_on_audio.py`)."""
SPREAD = {"si_sdr": 0.5, "pesq": 0.05, "stoi": 0.005, "lsd": 0.05}
"""Standard deviation of the differences between two systems that are equally good."""


def scores(
    gains: Mapping[str, Mapping[str, float]],
    *,
    cases: tuple[str, ...] = ("noise",),
    each: int = 60,
    speakers: int = 10,
    noises: int = 12,
) -> pd.DataFrame:
    """A table in which each system is better than a common level by `gains[system][metric or slice]` on average.

    The differences scatter, but their mean over each slice is exactly the gain.
    """
    rng = np.random.default_rng(1)
    parts = []
    for case in cases:
        level = {metric: rng.normal(size=each) for metric in SPREAD}
        for system, gain in gains.items():
            scatter = {metric: rng.normal(size=each) * spread for metric, spread in SPREAD.items()}
            values = {
                metric: level[metric] + scatter[metric] - scatter[metric].mean() + gain.get(metric, 0.0)
                for metric in SPREAD
            }
            values["si_sdr"] += gain.get(case, 0.0)
            rows = [f"test-{case}-{index:04d}" for index in range(each)]
            labels = {
                "speaker": [f"speaker{index % speakers}" for index in range(each)],
                "noise": [f"noise{index % noises}" for index in range(each)],
            }
            parts.append(pd.DataFrame({"row": rows, "system": system, "case": case, **labels, **values}))
    return pd.concat(parts, ignore_index=True)


def judged(table: pd.DataFrame, *candidates: str, champion: str | None = "dm/1", policy: Policy = POLICY) -> Verdict:
    """The verdict on these candidates."""
    return verdict(table, champion, candidates, policy)


def test_a_clear_winner_wins_and_the_reason_has_its_numbers() -> None:
    """The gain with its interval, which is the clustered interval of the paired differences."""
    table = scores({"dm/1": {}, "dm/2": {"si_sdr": 2.0, "pesq": 0.3, "stoi": 0.02}})
    found = judged(table, "dm/2")
    ours, theirs = (table[table["system"] == name].set_index("row") for name in ("dm/2", "dm/1"))
    difference = (ours["si_sdr"] - theirs["si_sdr"]).to_numpy()
    interval = Bootstrap([list(ours["speaker"]), list(ours["noise"])], POLICY.seed).interval(difference)
    (judgement,) = found.judgements
    assert found.winner == "dm/2"
    assert judgement.gain is not None and interval is not None
    assert judgement.gain.interval == interval
    assert judgement.gain.interval.mean == pytest.approx(2.0)
    assert judgement.confidence == pytest.approx(0.95)
    assert f"wins over dm/1: SI-SDR +2.00 dB [{interval.low:.2f}, {interval.high:.2f}]" in judgement.reason
    assert found.reason == f"dm/2 {judgement.reason}"


@pytest.mark.parametrize(
    ("gain_db", "outcome"),
    [(0.0, "is tied with dm/1"), (0.1, "is tied with dm/1"), (-2.0, "loses to dm/1"), (0.15, "is tied with dm/1")],
)
def test_equal_or_worse_is_not_enough(gain_db: float, outcome: str) -> None:
    """The whole interval has to lie above the minimum gain: the default is no, with the numbers that say why."""
    found = judged(scores({"dm/1": {}, "dm/2": {"si_sdr": gain_db}}), "dm/2")
    assert found.winner is None
    assert outcome in found.judgements[0].reason
    assert found.reason.startswith("nobody wins over dm/1: dm/2 ")
    assert found.ranking == ("dm/2",)


@pytest.mark.parametrize(("metric", "loss"), [("pesq", -0.2), ("stoi", -0.02)])
def test_a_gain_does_not_pay_for_a_loss_in_another_metric(metric: str, loss: float) -> None:
    """PESQ and STOI must be shown not to be worse by more than their margins."""
    found = judged(scores({"dm/1": {}, "dm/2": {"si_sdr": 3.0, metric: loss}}), "dm/2")
    assert found.winner is None
    assert f"{metric.upper()} may be worse" in found.judgements[0].reason


def test_a_loss_within_the_margin_is_accepted() -> None:
    """Not worse means: by less than the margin, interval included."""
    assert judged(scores({"dm/1": {}, "dm/2": {"si_sdr": 3.0, "pesq": -0.01}}), "dm/2").winner == "dm/2"


def test_a_metric_in_which_less_is_better_counts_the_other_way() -> None:
    """A higher log-spectral distance is a loss."""
    policy = POLICY.model_copy(update={"not_worse": (NotWorse(metric="lsd", margin=0.1),)})
    further = scores({"dm/1": {}, "dm/2": {"si_sdr": 3.0, "lsd": 1.0}})
    nearer = scores({"dm/1": {}, "dm/2": {"si_sdr": 3.0, "lsd": -1.0}})
    assert judged(further, "dm/2", policy=policy).winner is None
    assert judged(nearer, "dm/2", policy=policy).winner == "dm/2"


def test_without_a_champion_the_unprocessed_input_is_the_opponent() -> None:
    """The first champion has to be better than doing nothing."""
    found = judged(scores({UNPROCESSED: {}, "dm/1": {"si_sdr": 2.0}}), "dm/1", champion=None)
    assert (found.opponent, found.winner) == (UNPROCESSED, "dm/1")
    assert judged(scores({UNPROCESSED: {}, "dm/1": {}}), "dm/1", champion=None).winner is None


def _without(system: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table[table["system"] != system]


def _nan(system: str, metric: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def spoil(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table.index[table["system"] == system][3], metric] = np.nan
        return table

    return spoil


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_without("dm/2"), "there are no scores of dm/2"),
        (_without("dm/1"), "there are no scores of dm/1"),
        (lambda table: table.iloc[:0], "there are no scores of dm/1"),
        (lambda table: table.drop(index=table.index[-1]), "1 utterances were scored for it only or for dm/1 only"),
        (lambda table: table.drop(index=0), "1 utterances were scored for it only or for dm/1 only"),
        (lambda table: pd.concat([table, table.iloc[-1:]]), "utterances were scored twice"),
        (lambda table: table.drop(columns=["pesq", "noise"]), "the scores lack the columns noise, pesq"),
        (_nan("dm/2", "si_sdr"), "SI-SDR failed on 1 utterances where dm/1 has a value"),
        (lambda table: _nan("dm/2", "stoi")(table.astype({"stoi": object})), "STOI failed on 1 utterances where dm/1"),
        (_nan("dm/2", "pesq"), "PESQ failed on 1 utterances where dm/1 has a value"),
        (lambda table: table[table["row"] < "test-noise-0029"], "on 29 utterances of the deciding slices, fewer than"),
    ],
)
def test_whatever_is_missing_is_a_no(spoil: Callable[[pd.DataFrame], pd.DataFrame], complaint: str) -> None:
    """A candidate far ahead does not win with a number missing, and is not even ranked."""
    complete = scores({"dm/1": {}, "dm/2": {"si_sdr": 9.0, "pesq": 1.0, "stoi": 0.1}})
    assert judged(complete.copy(), "dm/2").winner == "dm/2"
    found = judged(spoil(complete), "dm/2")
    assert (found.winner, found.ranking) == (None, ())
    assert complaint in found.judgements[0].reason


def test_no_candidate_and_the_champion_itself_win_nothing() -> None:
    """There is nothing to gain from judging the champion against itself, or nobody."""
    table = scores({"dm/1": {}})
    assert judged(table).reason == "nobody wins over dm/1: there are no candidates"
    assert "it is the opponent itself" in judged(table, "dm/1").reason


def test_too_few_speakers_for_an_interval_is_a_no() -> None:
    """One speaker under one noise recording shows nothing about others."""
    found = judged(scores({"dm/1": {}, "dm/2": {"si_sdr": 9.0}}, speakers=1, noises=1), "dm/2")
    assert found.winner is None
    assert "too few speakers, noises or rooms" in found.reason


def test_what_the_opponent_could_not_score_is_left_out_and_counted() -> None:
    """A candidate is not punished for the opponent's failures, nor rewarded."""
    table = _nan("dm/1", "pesq")(scores({"dm/1": {}, "dm/2": {"si_sdr": 2.0, "pesq": 0.3}}))
    found = judged(table, "dm/2")
    (pesq, stoi) = found.judgements[0].others
    assert found.winner == "dm/2"
    assert (pesq.left_out, pesq.interval.n, stoi.left_out) == (1, 59, 0)


def test_a_gain_with_one_speaker_only_is_not_a_gain() -> None:
    """Utterances of one speaker are not independent: the interval is clustered."""
    table = scores({"dm/1": {}, "dm/2": {}}, each=200, speakers=4)
    table.loc[(table["system"] == "dm/2") & (table["speaker"] == "speaker0"), "si_sdr"] += 4.0
    found = judged(table, "dm/2")
    assert found.judgements[0].gain is not None
    assert found.judgements[0].gain.interval.mean == pytest.approx(1.0)
    assert found.winner is None


def test_only_the_slices_of_the_policy_decide() -> None:
    """A gain under reverberation does not make a better denoiser; a corpus without those slices decides as a whole."""
    cases = ("noise", "reverb")
    elsewhere = scores({"dm/1": {}, "dm/2": {"reverb": 9.0}}, cases=cases)
    assert judged(elsewhere, "dm/2").winner is None
    assert judged(elsewhere, "dm/2").slices == ("noise",)
    whole = judged(scores({"dm/1": {}, "dm/2": {"si_sdr": 2.0}}, cases=("reverb", "wind")), "dm/2")
    assert (whole.winner, whole.slices) == ("dm/2", ("reverb", "wind"))


def test_a_slice_that_a_winner_harms_is_shown_and_against_a_champion_vetoes() -> None:
    """A regression hidden in another slice does not replace a champion; a first champion may have it, visibly."""
    gains = {"noise": 3.0, "reverb": -4.0}
    cases = ("noise", "reverb")
    later = judged(scores({"dm/1": {}, "dm/2": gains}, cases=cases), "dm/2")
    first = judged(scores({UNPROCESSED: {}, "dm/1": gains}, cases=cases), "dm/1", champion=None)
    assert later.winner is None
    assert "gains over dm/1, but it harms the slice reverb" in later.reason
    assert first.winner == "dm/1"
    for found in (later, first):
        noise, reverb = found.judgements[0].slices
        assert (noise.worse, reverb.worse) == (False, True)
        assert "worse in reverb (SI-SDR -4.00 dB" in found.judgements[0].reason


def test_the_best_of_several_winners_wins() -> None:
    """One champion at most; the others are ranked behind it."""
    table = scores({"dm/1": {}, "dm/2": {"si_sdr": 2.0}, "gru/1": {"si_sdr": 3.0}, "dm/3": {"si_sdr": -1.0}})
    found = judged(table, "dm/2", "gru/1", "dm/3")
    assert found.winner == "gru/1"
    assert found.ranking == ("gru/1", "dm/2", "dm/3")
    assert [judgement.wins for judgement in found.judgements] == [True, True, False]


def test_more_candidates_need_stronger_evidence() -> None:
    """Holm: what wins alone does not win among nine that are equal; a clear winner beside it costs nothing."""
    losers = [f"gru/{number}" for number in range(8)]
    gains = {"dm/1": {}, "dm/2": {"si_sdr": 0.34}, "dm/3": {"si_sdr": 3.0}}
    table = scores(gains | {name: {} for name in losers})
    alone, crowded, behind = judged(table, "dm/2"), judged(table, "dm/2", *losers), judged(table, "dm/2", "dm/3")
    assert alone.winner == "dm/2"
    assert crowded.winner is None
    assert crowded.judgements[0].confidence == pytest.approx(1 - 0.05 / 9)
    assert [judgement.wins for judgement in behind.judgements] == [True, True]
    assert [judgement.confidence for judgement in behind.judgements] == pytest.approx([0.95, 0.975])


def test_the_verdict_is_pure_and_survives_json() -> None:
    """Equal tables, in any order of rows, give equal bytes; they are all there is to know."""
    table = scores({"dm/1": {}, "dm/2": {"si_sdr": 2.0}, "gru/1": {}}, cases=("noise", "reverb"))
    found = judged(table, "dm/2", "gru/1")
    shuffled = judged(table.sample(frac=1.0, random_state=3), "dm/2", "gru/1")
    assert shuffled.canonical() == found.canonical()
    assert Verdict.parse(found.canonical(), "verdict.json") == found


def test_every_use_has_a_policy_and_others_have_none() -> None:
    """Policies are named after their use, with a revision that a change of numbers raises."""
    assert policy_for("fullband-48k").name == "fullband-48k"
    assert POLICY.revision >= 1
    with pytest.raises(UnknownName, match="no use named 'denoise-8k'"):
        policy_for("denoise-8k")
