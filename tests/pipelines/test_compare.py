"""`unmuffle compare`: what it shows."""

import io

from rich.console import Console

from pipelines.compare import shown
from training.intervals import Interval
from training.ranking import Place, Ranking


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
