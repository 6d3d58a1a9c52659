"""The listening page: self-contained, honest about its choice, and right about what it plays."""

import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from simulation import audio
from simulation.embedded import loudest_db, spectrogram
from simulation.sources import Quarantined
from training import listening, report
from training.listening import Example, contest, picks, rows_of
from training.pairs import Labels
from training.report import render
from training.scorecard import Scorecard, System, note, summarise

RATE = 16_000
ROWS = 12
SYSTEMS = (
    System(name="unprocessed", address="unprocessed", weights_sha256=None),
    System(name="spectral_subtraction", address="spectral_subtraction", weights_sha256=None),
    System(name="dm/3", address="file:///store/dm3", weights_sha256="ab" * 32),
)


def scores_of(gains: list[float], failed: str = "{}") -> pd.DataFrame:
    """Twelve rows: `dm/3` gains what is listed, spectral subtraction 20 dB everywhere (it is no learnt system)."""
    lines = []
    for system in SYSTEMS:
        for row, gain in enumerate(gains):
            add = {"unprocessed": 0.0, "spectral_subtraction": 20.0, "dm/3": gain}[system.name]
            lines.append(
                {
                    "row": f"row{row}", "system": system.name, "case": "noise", "snr_db": 2.0, "speaker": f"s{row % 4}",
                    "noise": f"n{row % 3}", "room": None, "seconds": 0.5, "si_sdr": 5.0 + add, "pesq": 1.5,
                    "failed": failed if system.name == "dm/3" and row == 0 else "{}",
                }
            )  # fmt: skip
    return pd.DataFrame(lines)


def card_of(scores: pd.DataFrame, quarantined: tuple[Quarantined, ...] = (), champion: str | None = None) -> Scorecard:
    """The scorecard of such a table."""
    slices, cells = summarise(scores, ["si_sdr", "pesq"], champion, seed=0)
    return Scorecard(
        corpus="file:///store/corpora/sample@12345678/test",
        corpus_digest="cd" * 32,
        rows=ROWS,
        quarantined=quarantined,
        systems=SYSTEMS,
        champion=champion,
        metrics=(note("si_sdr"), note("pesq")),
        slices=slices,
        scores=cells,
        seed=0,
        packages={"pesq": "0.0.4"},
    )


def heard(row: str, seconds: float = 0.5) -> Example:
    """Some audio for a row: a tone a system, so that they can be told apart."""
    t = np.arange(int(seconds * RATE)) / RATE
    tones = {name: 0.25 * np.sin(2 * np.pi * hz * t) for name, hz in (("clean", 500), ("unprocessed", 1000),
             ("spectral_subtraction", 2000), ("dm/3", 3000))}  # fmt: skip
    labels = Labels(id=row, case="noise", snr_db=2.0, speaker="s", noise="n", room=None)
    return Example(labels, tones.pop("clean"), tones, RATE)


def page_of(scores: pd.DataFrame, seconds: float = 0.5, **options: object) -> str:
    """The rendered page."""
    scorecard = card_of(scores, **options)  # type: ignore[arg-type]
    chosen = picks(scorecard, scores)
    return render(scorecard, scores, chosen, {row: heard(row, seconds) for row in rows_of(chosen)}).decode()


def shown(page: str) -> dict[str, tuple[list[str], list[str]]]:
    """The rows of each slice on the page, worst and best, in order."""
    facts = re.search(r'<script type="application/json" id="facts">(.*?)</script>', page)
    assert facts is not None
    parts = json.loads(facts[1])["slices"]
    return {part["slice"]: tuple([pick["row"] for pick in part[end]] for end in ("worst", "best")) for part in parts}


GAINS = [3.0, -2.0, 5.0, 0.5, 7.0, 1.0, -1.0, 2.0, 6.0, 4.0, 8.0, 0.0]


def test_the_page_refers_to_nothing_outside() -> None:
    """Every src is a data: address; no link, no stylesheet, no import and no web address at all."""
    page = page_of(scores_of(GAINS))
    markup = page[: page.index("<script>")]
    sources = re.findall(r"""\bsrc\s*=\s*["']?([^"'\s>]{5})""", markup)
    assert len(sources) == 4 * 4 * 2 and set(sources) == {"data:"}
    without_data = re.sub(r"data:[a-z/]+;base64,[A-Za-z0-9+/=]+", "", page)
    for forbidden in ("<a ", "href=", "http:", "https:", "//cdn", "@import", "url(", "<link", "<iframe", "fetch("):
        assert forbidden not in without_data, forbidden


def test_it_shows_exactly_the_worst_and_the_best_utterances_of_the_best_learnt_system() -> None:
    """Two rows that gain least, worst first; two that gain most, best first; by paired SI-SDR gain of dm/3."""
    page = page_of(scores_of(GAINS))
    assert shown(page)["overall"] == (["row1", "row6"], ["row10", "row4"])
    assert re.findall(r'data-row="([^"]*)"', page) == ["row1", "row6", "row10", "row4"]
    assert "How dm/3 does on 12 rows" in page


def test_each_case_has_its_own_worst_and_best() -> None:
    """Within a case only its rows are ranked; a row at the end of two slices is in the page once."""
    scores = scores_of(GAINS)
    scores.loc[scores["row"].isin(["row0", "row3", "row4", "row11"]), "case"] = "reverb"
    page = page_of(scores)
    assert shown(page) == {
        "overall": (["row1", "row6"], ["row10", "row4"]),
        "noise": (["row1", "row6"], ["row10", "row8"]),
        "reverb": (["row11", "row3"], ["row4", "row0"]),
    }
    rows = re.findall(r'data-row="([^"]*)"', page)
    assert len(rows) == len(set(rows)) == 8


def test_against_a_champion_the_difference_to_it_ranks() -> None:
    """The champion is 20 dB better everywhere but on two rows: there alone the challenger is not at its worst."""
    scores = scores_of(GAINS)
    champion = (scores["system"] == "spectral_subtraction") & scores["row"].isin(["row1", "row6"])
    scores.loc[champion, "si_sdr"] = -20.0
    page = " ".join(page_of(scores, champion="spectral_subtraction").split())
    assert shown(page)["overall"] == (["row11", "row3"], ["row6", "row1"])
    assert "over the champion" in page and "over spectral_subtraction" in page


def test_the_champion_is_never_its_own_challenger() -> None:
    """The best learnt system but the champion challenges; alone, the champion is held against the input."""
    scores = scores_of(GAINS)
    assert contest(card_of(scores, champion="dm/3")).against == "unprocessed"
    second = System(name="gru/1", address="file:///gru", weights_sha256="ef" * 32)
    more = pd.concat([scores, scores[scores["system"] == "dm/3"].assign(system="gru/1", si_sdr=1.0)])
    card = card_of(more, champion="dm/3").model_copy(update={"systems": (*SYSTEMS, second)})
    assert (contest(card).challenger, contest(card).opponent, contest(card).against) == ("gru/1", "dm/3", "dm/3")


def test_what_a_reader_should_know_of_a_network_stands_beside_its_scores() -> None:
    """With the name of the system; a network without remarks has none."""
    scores = scores_of(GAINS)
    card = card_of(scores)
    remarked = card.systems[2].model_copy(update={"remarks": ("its SSL model has random weights",)})
    cards = (card, card.model_copy(update={"systems": (*card.systems[:2], remarked)}))
    chosen = picks(card, scores)
    examples = {row: heard(row) for row in rows_of(chosen)}
    pages = [render(each, scores, chosen, examples).decode() for each in cards]
    sentence = '<p class="soft remark">dm/3: its SSL model has random weights.</p>'
    assert [sentence in page for page in pages] == [False, True]


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_few_rows_are_shown_once(rows: int) -> None:
    """Best and worst never overlap, and a single row is shown."""
    scores = scores_of(GAINS[:rows])
    (overall, _) = picks(card_of(scores), scores)
    assert len(set(overall.rows)) == len(overall.rows) == min(rows, 4)


def test_a_row_that_failed_is_not_picked() -> None:
    """Without a gain there is no rank."""
    scores = scores_of(GAINS)
    scores.loc[(scores["row"] == "row1") & (scores["system"] == "dm/3"), "si_sdr"] = np.nan
    assert "row1" not in rows_of(picks(card_of(scores), scores))


def test_the_heat_map_holds_every_gain_with_its_sign_and_strength() -> None:
    """A cell has the gain in numbers, the colour of its sign, and more of it the larger it is."""
    heat = report._heat_map(card_of(scores_of(GAINS)), note("si_sdr"))
    subtraction, learnt = next(cells for part, cells in heat["lines"] if part.name == "overall")
    assert (subtraction["text"], subtraction["kind"], subtraction["percent"]) == ("+20.00", "better", 62)
    assert learnt["text"] == f"{np.mean(GAINS):+.2f}" and 0 < learnt["percent"] < 20
    harmed = report._heat_map(card_of(scores_of([-3.0 + 0.1 * gain for gain in GAINS])), note("si_sdr"))
    assert {cells[1]["kind"] for _, cells in harmed["lines"]} == {"worse"}
    assert all(cells[1]["sure"] for _, cells in harmed["lines"])


def with_clean_rows(scores: pd.DataFrame) -> pd.DataFrame:
    """Three rows become clean input, which a system can only lose on: 90 dB here, where a row of noise gains a few."""
    clean = scores["row"].isin(["row0", "row1", "row2"])
    scores.loc[clean & (scores["system"] == "unprocessed"), "si_sdr"] = 100.0
    return scores.assign(case=scores["case"].where(~clean, "harmless_clean"))


def test_rows_to_do_no_harm_on_pale_no_other_slice() -> None:
    """A loss of 90 dB on clean input has the full colour, and the other slices have a scale of their own."""
    heat = report._heat_map(card_of(with_clean_rows(scores_of(GAINS))), note("si_sdr"))
    cells = {part.name: cells for part, cells in heat["lines"]}
    assert cells["harmless_clean"][1]["percent"] == 62 == cells["overall"][0]["percent"]
    assert cells["overall"][1]["percent"] > 5


def test_of_rows_to_do_no_harm_on_the_worst_is_heard() -> None:
    """One of them, with the largest loss; nothing in there is a gain."""
    page = page_of(with_clean_rows(scores_of(GAINS)))
    assert shown(page)["harmless_clean"] == (["row1"], [])
    assert shown(page)["overall"] == (["row6", "row11"], ["row10", "row4"])


def test_every_utterance_can_be_heard_noisy_through_each_system_and_clean() -> None:
    """The sounds in the page decode to the waveforms that were handed in, in that order and under their names."""
    scores = scores_of(GAINS)
    page = page_of(scores)
    first = page[page.index('data-row="row1"') : page.index('data-row="row6"')]
    assert re.findall(r"<figcaption><b>([^<]*)</b>", first) == ["noisy", "spectral_subtraction", "dm/3", "clean"]
    sounds = [base64.b64decode(text) for text in re.findall(r"data:audio/wav;base64,([^\"]+)", first)]
    loudest = [np.abs(np.fft.rfft(audio.read(sound, "sound")[0][:, 0])).argmax() * 2 for sound in sounds]
    assert loudest == [1000, 2000, 3000, 500]


def test_the_page_stays_below_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not everything fits, each slice has fewer; then there are fewer slices; the worst one is always there."""
    scores = scores_of(GAINS)
    scores.loc[scores["row"].isin(["row0", "row3", "row4", "row11"]), "case"] = "reverb"
    whole = len(page_of(scores))
    monkeypatch.setattr(listening, "PAGE_BYTES", whole // 2)
    page = page_of(scores)
    assert len(page) < 0.75 * whole
    assert shown(page) == {
        "overall": (["row1"], ["row10"]),
        "noise": (["row1"], ["row10"]),
        "reverb": (["row11"], ["row4"]),
    }
    monkeypatch.setattr(listening, "PAGE_BYTES", 1)
    assert shown(page_of(scores)) == {"overall": (["row1"], ["row10"])}


def test_a_long_utterance_is_cut_and_the_page_says_so() -> None:
    """Twenty seconds are heard for six, which stands beside the row."""
    page = page_of(scores_of(GAINS), seconds=20.0)
    sound = re.search(r"data:audio/wav;base64,([^\"]+)", page)
    assert sound is not None and len(audio.read(base64.b64decode(sound[1]), "sound")[0]) == 6 * RATE
    assert "first 6 s of 20.0" in page


def test_failures_and_what_was_set_aside_are_listed() -> None:
    """Row, system, metric and reason of each failed score, and every quarantined record."""
    aside = (Quarantined(address="test-00000007", reason="speech is silent"),)
    page = page_of(scores_of(GAINS, failed='{"pesq": "enhanced is silent"}'), quarantined=aside)
    assert re.search(r"row0</th><td>dm/3</td><td>pesq</td><td>enhanced is silent", page)
    assert "1 scores could not be computed and 1 records were set aside" in page
    assert "test-00000007" in page and "speech is silent" in page
    assert "Nothing: every system has a value" in page_of(scores_of(GAINS))


def test_many_failures_are_counted_where_they_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is cut with a count of the rest, never in silence."""
    monkeypatch.setattr(report, "LISTED_FAILURES", 1)
    page = page_of(scores_of(GAINS, failed='{"pesq": "a", "si_sdr": "b"}'))
    assert "… and 1 more, in scores.parquet" in page


def test_it_says_what_was_measured_and_how() -> None:
    """Definitions of the metrics, corpus address and digest, weights, and package versions."""
    page = page_of(scores_of(GAINS))
    for text in ("cd" * 32, "ab" * 32, "sample@12345678/test", "P.862.2", "pesq 0.0.4", "noise recording and room"):
        assert text in page, text


def test_slices_in_which_a_system_does_worse_are_marked() -> None:
    """A gain whose whole interval lies below 0 has the class that is drawn red with ▼."""
    assert 'class="gain worse"' in page_of(scores_of([-3.0] * ROWS)).split("<h2>Overall</h2>")[1]
    assert 'class="gain worse"' not in page_of(scores_of([3.0] * ROWS)).split("<h2>Overall</h2>")[1]


def test_names_are_escaped() -> None:
    """A file name cannot smuggle in a script."""
    scores = scores_of(GAINS).replace({"row": {"row1": "<script>alert(1)</script>.wav"}})
    page = page_of(scores)
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_a_spectrogram_has_frequency_upwards_and_one_scale() -> None:
    """A tone of 2 kHz is a bright line a quarter of the way up; 20 dB less is darker on the same scale."""
    tone = np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE)
    top_db = loudest_db(tone, RATE)
    loud, quiet = (
        imread(io.BytesIO(spectrogram(gain * tone, RATE, top_db)))[:, :, :3].sum(axis=2) for gain in (1.0, 0.1)
    )
    height = loud.shape[0]
    assert loud.mean(axis=1).argmax() == pytest.approx(height * 0.75, abs=2)
    assert quiet.max() < 0.9 * loud.max()


@pytest.mark.parametrize("samples", [1, 100, 600])
def test_the_shortest_waveform_has_a_spectrogram(samples: int) -> None:
    """Less than a window is padded."""
    assert imread(io.BytesIO(spectrogram(np.ones(samples), RATE, 0.0))).ndim == 3
