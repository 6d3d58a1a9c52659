"""`unmuffle compare`: what it shows."""

import io
import types

import pytest
from rich.console import Console

from pipelines import compare
from pipelines.compare import shown, shown_aa
from serving.judgement import Judgement, Verdict
from serving.policy import policy_for
from serving.relabelling import AA, Rate
from simulation.errors import BadSetting
from training.intervals import Interval
from training.ranking import Place, Ranking
from training.registry import Version


def interval(mean: float, low: float | None, high: float | None) -> Interval:
    """Over 100 utterances in 10 clusters."""
    return Interval(mean=mean, low=low, high=high, n=100, clusters=(10,))


def test_a_ranking_is_shown_with_how_sure_it_is() -> None:
    """Order, means, leads and shares for people; the same numbers for machines; left out utterances are said."""
    first = Place(system="dm/2", mean=interval(9.0, 8.0, 10.0), best_share=0.93, lead=interval(0.5, 0.1, 0.9))
    last = Place(system="dm/1", mean=interval(8.5, None, None), best_share=0.07, lead=None)
    ranking = Ranking(metric="si_sdr", utterances=100, left_out=3, places=(first, last))
    answer = shown(ranking, "file:///store/report.html")
    console = Console(file=io.StringIO(), width=120)
    console.print(answer)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "dm/2" in text and "0.500 [0.100, 0.900]" in text and "93%" in text
    assert text.index("dm/2") < text.index("dm/1")
    assert "3 utterances left out" in text and "/store/report.html" in text
    assert [place["best_share"] for place in answer.data["places"]] == [0.93, 0.07]


def test_a_worn_gate_corpus_is_told_with_the_ranking() -> None:
    """Comparing looks at it, too."""
    ranking = Ranking(metric="si_sdr", utterances=1, left_out=0, places=())
    answer = shown(ranking, "file:///report.html", ("it wears out",))
    assert answer.data["warnings"] == ["it wears out"]
    console = Console(file=io.StringIO(), width=120)
    console.print(answer)
    assert "Warning: it wears out" in console.file.getvalue()  # type: ignore[attr-defined]


def test_an_a_a_report_shows_rates_with_their_intervals() -> None:
    """For people and for machines; how the two do as they are is told as well."""
    judgement = Judgement(
        candidate="gru/2", wins=False, confidence=0.95, gain=None, others=(), slices=(), reason="is tied with gru/1"
    )
    found = Verdict(
        policy=policy_for("denoise-16k"),
        opponent="gru/1",
        slices=("noise",),
        judgements=(judgement,),
        ranking=("gru/2",),
        winner=None,
        reason="nobody",
    )
    rates = {"promotions": Rate.of(2, 200), "gains": Rate.of(5, 200)}
    answer = shown_aa(AA(verdict=found, repeats=200, speakers=23, **rates), "file:///store/report.html")
    console = Console(file=io.StringIO(), width=140)
    console.print(answer)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1.0% [0.1%, 3.6%]" in text and "2.5% [0.8%, 5.7%]" in text
    assert "As they are: gru/2 is tied with gru/1" in text and "(23 speakers)" in " ".join(text.split())
    assert answer.data["promotions"]["count"] == 2


def version(number: str, recipe: str, corpus: str = "c") -> Version:
    """A registered one whose weights are its number."""
    tags = {"number": number, "recipe": recipe, "corpus_digest": corpus}
    return Version("denoise-16k", number, "gru", f"file:///{number}", number * 64, "", tags)


KNOWN = [
    version("1", "gru"),
    version("2", "gru"),
    version("3", "dm"),
    version("4", "gru", "other"),
    version("5", "gru"),
]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five versions."""
    named = {one.name: one for one in KNOWN}
    tracking = types.SimpleNamespace(versions=lambda use: KNOWN, resolve=lambda model, use: named[model])
    monkeypatch.setattr(compare, "Tracking", lambda: tracking)


def test_a_recipe_stands_for_its_two_newest_seeds_on_one_corpus(registry: None) -> None:
    """Seeds on different corpora are no two seeds of one recipe."""
    assert [one.version for one in compare._seeds(["gru"], "denoise-16k")] == ["2", "5"]
    assert [one.version for one in compare._seeds(["gru/1", "gru/2"], "denoise-16k")] == ["1", "2"]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["dm"], "dm are not two versions"),
        (["gru/1", "gru/1"], "are not two versions"),
        (["gru/1", "gru/3"], "gru/1 is of the recipe gru, gru/3 of dm"),
        (["gru/1", "gru/4"], "were trained on different corpora"),
    ],
)
def test_what_are_not_two_seeds_of_one_recipe_is_refused(registry: None, models: list[str], message: str) -> None:
    """A-A between different things would measure a difference and call it chance."""
    with pytest.raises(BadSetting, match=message):
        compare._seeds(models, "denoise-16k")
