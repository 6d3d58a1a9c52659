"""The ranking: right order, honest uncertainty."""

import numpy as np
import pandas as pd
import pytest

from simulation.errors import BadSetting, UnknownName
from training.ranking import ranking

UTTERANCES = 120


def table(levels: dict[str, float], metric: str = "si_sdr", spread: float = 1.0) -> pd.DataFrame:
    """Systems whose means differ by exactly their levels, on common utterances."""
    rng = np.random.default_rng(9)
    common = 5 * rng.normal(size=UTTERANCES)
    labels = {
        "row": [f"test-{k:04d}" for k in range(UTTERANCES)],
        "speaker": [f"s{k % 12}" for k in range(UTTERANCES)],
        "noise": [f"n{k % 17}" for k in range(UTTERANCES)],
        "room": None,
    }
    parts = []
    for name, level in levels.items():
        own = spread * rng.normal(size=UTTERANCES)
        parts.append(pd.DataFrame({**labels, "system": name, metric: common + own - own.mean() + level}))
    return pd.concat(parts, ignore_index=True)


def test_the_best_comes_first_with_its_lead() -> None:
    """Order, paired leads, and shares that add up to 1; what the systems have in common does not blur the leads."""
    found = ranking(table({"a": 0.0, "b": 3.0, "c": 1.0}), ["a", "b", "c"])
    assert [place.system for place in found.places] == ["b", "c", "a"]
    first, second, last = found.places
    assert first.lead is not None and second.lead is not None and last.lead is None
    assert (first.lead.mean, second.lead.mean) == pytest.approx((2.0, 1.0))
    assert first.lead.low is not None and first.lead.low > 1.5
    assert first.mean.low is not None and first.mean.mean - first.mean.low > 0.7
    assert first.best_share > 0.99
    assert sum(place.best_share for place in found.places) == pytest.approx(1.0)


def test_equal_systems_share_the_first_place() -> None:
    """Nobody is declared best where the data do not say so."""
    found = ranking(table({"a": 0.0, "b": 0.0}), ["a", "b"])
    assert all(0.3 < place.best_share < 0.7 for place in found.places)
    lead = found.places[0].lead
    assert lead is not None and lead.low is not None and lead.low < 0 < (lead.high or 0)
    same = table({"a": 0.0, "b": 0.0}, spread=0.0)
    assert [place.best_share for place in ranking(same, ["a", "b"]).places] == pytest.approx([0.5, 0.5])


def test_a_metric_in_which_less_is_better_is_ranked_the_other_way() -> None:
    """The lowest log-spectral distance comes first, and its lead is positive."""
    first, _ = ranking(table({"a": 0.0, "b": 2.0}, "lsd"), ["a", "b"], "lsd").places
    assert first.system == "a" and first.best_share > 0.99
    assert first.lead is not None and first.lead.mean == pytest.approx(2.0)


def test_only_common_utterances_count() -> None:
    """An utterance that one system failed on is left out for all, and counted."""
    scores = table({"a": 0.0, "b": 1.0})
    scores.loc[5, "si_sdr"] = np.nan
    found = ranking(scores, ["a", "b"])
    assert (found.utterances, found.left_out) == (UTTERANCES - 1, 1)
    assert {place.mean.n for place in found.places} == {UTTERANCES - 1}


def test_what_cannot_be_ranked_is_said() -> None:
    """Unknown systems and metrics are named; nothing in common is no ranking."""
    scores = table({"a": 0.0, "b": 1.0})
    with pytest.raises(UnknownName, match="no system named 'c'"):
        ranking(scores, ["a", "c"])
    with pytest.raises(UnknownName, match="no metric named 'pesq'"):
        ranking(scores, ["a", "b"], "pesq")
    with pytest.raises(BadSetting, match="No utterance has a value of si_sdr"):
        ranking(scores.assign(si_sdr=np.nan), ["a", "b"])
