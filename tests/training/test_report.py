"""The listening page: self-contained, honest about its choice, and right about what it plays."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from simulation import audio
from simulation.sources import Quarantined
from training import report
from training.pairs import Labels
from training.report import Example, Pick, picks, render, spectrogram
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


def card_of(scores: pd.DataFrame, quarantined: tuple[Quarantined, ...] = ()) -> Scorecard:
    """The scorecard of such a table."""
    slices, cells = summarise(scores, ["si_sdr", "pesq"], None, seed=0)
    return Scorecard(
        corpus="file:///store/corpora/sample@12345678/test",
        corpus_digest="cd" * 32,
        rows=ROWS,
        quarantined=quarantined,
        systems=SYSTEMS,
        champion=None,
        metrics=(note("si_sdr"), note("pesq")),
        slices=slices,
        scores=cells,
        seed=0,
        packages={"pesq": "0.0.4"},
    )


def heard(pick: Pick, seconds: float = 0.5) -> Example:
    """Some audio for a pick: a tone a system, so that they can be told apart."""
    t = np.arange(int(seconds * RATE)) / RATE
    tones = {name: 0.25 * np.sin(2 * np.pi * hz * t) for name, hz in (("clean", 500), ("unprocessed", 1000),
             ("spectral_subtraction", 2000), ("dm/3", 3000))}  # fmt: skip
    labels = Labels(id=pick.row, case="noise", snr_db=2.0, speaker="s", noise="n", room=None)
    return Example(pick, labels, tones.pop("clean"), tones, RATE)


def page_of(scores: pd.DataFrame, **options: object) -> str:
    """The rendered page."""
    scorecard = card_of(scores, **options)  # type: ignore[arg-type]
    return render(scorecard, scores, [heard(pick) for pick in picks(scorecard, scores)]).decode()


def shown(page: str, group: str) -> list[str]:
    """The rows of one group on the page, in order."""
    return re.findall(rf'data-group="{group}" data-row="([^"]*)"', page)


GAINS = [3.0, -2.0, 5.0, 0.5, 7.0, 1.0, -1.0, 2.0, 6.0, 4.0, 8.0, 0.0]


def test_the_page_refers_to_nothing_outside() -> None:
    """Every src is a data: address, there is no href, no stylesheet, no import and no web address at all."""
    page = page_of(scores_of(GAINS))
    sources = re.findall(r"""\bsrc\s*=\s*["']?([^"'\s>]{5})""", page)
    assert len(sources) == 8 * 4 * 2 and set(sources) == {"data:"}
    without_data = re.sub(r"data:[a-z/]+;base64,[A-Za-z0-9+/=]+", "", page)
    for forbidden in ("href", "http:", "https:", "//cdn", "@import", "url(", "<link", "<iframe", "fetch("):
        assert forbidden not in without_data, forbidden


def test_it_shows_exactly_the_worst_and_the_best_utterances_of_the_best_learnt_system() -> None:
    """Four rows that gain least, worst first; four that gain most, best first; by paired SI-SDR gain of dm/3."""
    page = page_of(scores_of(GAINS))
    assert shown(page, "worst") == ["row1", "row6", "row11", "row3"]
    assert shown(page, "best") == ["row10", "row4", "row8", "row2"]
    assert "How dm/3 does on 12 rows" in page


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_few_rows_are_shown_once(rows: int) -> None:
    """Best and worst never overlap, and a single row is shown."""
    scores = scores_of(GAINS[:rows])
    chosen = picks(card_of(scores), scores)
    assert sorted(pick.row for pick in chosen) == sorted(f"row{k}" for k in range(rows))


def test_a_row_that_failed_is_not_picked() -> None:
    """Without a gain there is no rank."""
    scores = scores_of(GAINS)
    scores.loc[(scores["row"] == "row1") & (scores["system"] == "dm/3"), "si_sdr"] = np.nan
    assert "row1" not in {pick.row for pick in picks(card_of(scores), scores)}


def test_every_utterance_can_be_heard_noisy_through_each_system_and_clean() -> None:
    """The sounds in the page decode to the waveforms that were handed in, in that order and under their names."""
    scores = scores_of(GAINS)
    page = page_of(scores)
    first = page[page.index('data-row="row1"') : page.index('data-row="row6"')]
    assert re.findall(r"<figcaption><b>([^<]*)</b>", first) == ["noisy", "spectral_subtraction", "dm/3", "clean"]
    sounds = [base64.b64decode(text) for text in re.findall(r"data:audio/flac;base64,([^\"]+)", first)]
    loudest = [np.abs(np.fft.rfft(audio.read(sound, "sound")[0][:, 0])).argmax() * 2 for sound in sounds]
    assert loudest == [1000, 2000, 3000, 500]


def test_the_page_stays_below_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not everything fits, worst and best take turns, and the worst one is always there."""
    scores = scores_of(GAINS)
    whole = len(page_of(scores))
    monkeypatch.setattr(report, "PAGE_BYTES", whole // 3)
    page = page_of(scores)
    assert len(page) < 0.6 * whole
    assert shown(page, "worst")[0] == "row1" and shown(page, "best")[0] == "row10"
    assert len(shown(page, "worst")) - len(shown(page, "best")) in (0, 1)
    monkeypatch.setattr(report, "PAGE_BYTES", 1)
    assert shown(page_of(scores), "worst") == ["row1"]


def test_a_long_utterance_is_cut_and_the_page_says_so() -> None:
    """Twenty seconds are heard for eight, which stands beside the row."""
    scores = scores_of(GAINS)
    scorecard = card_of(scores)
    page = render(scorecard, scores, [heard(picks(scorecard, scores)[0], seconds=20.0)]).decode()
    sound = re.search(r"data:audio/flac;base64,([^\"]+)", page)
    assert sound is not None and len(audio.read(base64.b64decode(sound[1]), "sound")[0]) == 8 * RATE
    assert "first 8 s of 20.0" in page


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
    for text in ("cd" * 32, "ab" * 32, "sample@12345678/test", "P.862.2", "pesq 0.0.4", "pigeonhole"):
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
    top_db = report._levels_db(tone, RATE).max()
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
