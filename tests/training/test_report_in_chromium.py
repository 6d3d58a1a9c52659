"""The listening page as people open it: in a browser, from disk, with the network off."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from training.listening import Example, contest, picks, rows_of
from training.pairs import Labels
from training.report import render
from training.scorecard import Scorecard, System, note, summarise

Tab = Any
"""`tests.conftest.Tab`: one tab of a browser, with the network off."""
RATE = 16_000


GAINS = {"new": [0.5, -2.0, 3.0, 1.0, 4.0, -1.0], "old": [0.4, -1.0, 1.0, 1.5, 0.0, -1.5]}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two learnt systems, one of them the champion, on six rows of two cases; each system sounds as its own tone."""
    systems = tuple(
        System(name=name, address=f"file:///{name}", weights_sha256="ab" * 32 if name in GAINS else None)
        for name in ("unprocessed", *GAINS)
    )
    lines = [
        {
            "row": f"row{row}", "system": system.name, "case": "reverb" if row % 2 else "noise", "snr_db": 2.0,
            "speaker": f"s{row % 3}", "noise": f"n{row % 2}", "room": None, "seconds": 0.5, "failed": "{}",
            "si_sdr": 5.0 + (GAINS[system.name][row] if system.name in GAINS else 0.0),
        }
        for system in systems for row in range(6)
    ]  # fmt: skip
    scores = pd.DataFrame(lines)
    slices, cells = summarise(scores, ["si_sdr"], "old", seed=0)
    card = Scorecard(
        corpus="file:///corpus", corpus_digest="cd" * 32, rows=6, quarantined=(), systems=systems, champion="old",
        metrics=(note("si_sdr"),), slices=slices, scores=cells, seed=0, packages={},
    )  # fmt: skip
    chosen, t = picks(card, scores), np.arange(RATE // 2) / RATE
    examples = {}
    for row in rows_of(chosen):
        outputs = {name: 0.2 * np.sin(2 * np.pi * (300 + 200 * k) * t) for k, name in enumerate(contest(card).heard)}
        labels = Labels(id=row, case="noise", snr_db=2.0, speaker="s", noise="n", room=None)
        examples[row] = Example(labels, 0.1 * np.sin(2 * np.pi * 900 * t), outputs, RATE)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(render(card, scores, chosen, examples))
    return path


@pytest.fixture(scope="module")
def browser_tab(page: Path, new_tab: Callable[[], Tab]) -> Tab:
    """The page, opened once for all tests."""
    tab = new_tab()
    tab.open(page)
    return tab


def test_every_sound_plays_with_the_network_off(browser_tab: Tab) -> None:
    """Each audio element starts, can be entered late, and goes on from there; there are four a row."""
    played = browser_tab.js(
        """(async () => {
             const times = [];
             for (const sound of document.querySelectorAll(".utterance audio")) {
               sound.muted = true;
               await sound.play();
               sound.currentTime = 0.9 * sound.duration;
               const silent = () => sound.seeking || sound.readyState < 2;
               while (silent() && !sound.error) await new Promise((next) => setTimeout(next, 10));
               times.push([sound.error ? sound.error.message : sound.readyState, sound.duration, sound.currentTime]);
               sound.pause();
             }
             return times;
           })()"""
    )
    assert len(played) == 4 * 6
    assert all(state in (2, 3, 4) and at >= 0.45 for state, _, at in played), played
    assert [length for _, length, _ in played] == pytest.approx([0.5] * 24, abs=0.02)


def test_a_slice_shows_exactly_its_ends_by_paired_difference_to_the_champion(browser_tab: Tab) -> None:
    """Differences of new to old are 0.1, -1, 2, -0.5, 4, 0.5; the chip of a slice brings its rows, worst first."""
    seen = """[...document.querySelectorAll("#slice-chips input")].map((chip) => {
        chip.click();
        const rows = (where) => [...document.querySelectorAll(where)].filter((one) => one.checkVisibility())
                                  .map((one) => one.dataset.row);
        return [chip.nextElementSibling.textContent, rows("#worst .utterance"), rows("#best .utterance"),
                rows(".utterance").length];
      })"""
    assert browser_tab.js(seen) == [
        ["overall", ["row1", "row3"], ["row4", "row2"], 4],
        ["noise", ["row0", "row2"], ["row4"], 3],
        ["reverb", ["row1", "row3"], ["row5"], 3],
    ]


def test_votes_are_cast_by_keyboard_and_saved_as_json(browser_tab: Tab, tmp_path: Path) -> None:
    """Hear X and A, vote twice; the file names who A, B and X were, and counts what was right."""
    tab = browser_tab
    before = _count(tab)  # other tests vote too
    tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.js("document.querySelector('[data-play=\"x\"]').focus()")
    tab.press("1")
    assert _count(tab) == before, "nothing was heard yet"
    for vote in ("1", "2"):
        tab.press("x")
        tab.press("a")
        tab.wait("document.getElementById('abx-sound').currentTime > 0")
        tab.press(vote)
    assert _count(tab) == before + 2
    assert not tab.js("/\\b(new|old)\\b/.test(document.getElementById('abx').innerText)"), "blind"
    tab.js("document.getElementById('abx-save').focus()")
    tab.press("Enter")
    end = time.monotonic() + 10
    while not (files := list(tmp_path.glob("abx-votes-*.json"))):
        assert time.monotonic() < end, "no file was saved"
        time.sleep(0.05)
    saved = json.loads(files[0].read_text())
    votes = saved["votes"][before:]
    assert [vote["answer"] for vote in votes] == ["a", "b"]
    assert all({vote["a"], vote["b"]} == {"new", "old"} and vote["x"] in "ab" for vote in votes)
    assert [vote["correct"] for vote in votes] == [vote["answer"] == vote["x"] for vote in votes]
    assert saved["tally"]["correct"] == sum(vote["correct"] for vote in saved["votes"])
    assert saved["tally"]["votes"] == before + 2
    assert (saved["challenger"], saved["opponent"], saved["corpus"]) == ("new", "old", "cd" * 32)


def _count(tab: Tab) -> int:
    """Votes cast so far, as the page says."""
    return int(tab.js("document.querySelector('#abx-count').textContent").split()[0])


def test_x_is_drawn_anew_and_sounds_as_one_of_the_two(browser_tab: Tab) -> None:
    """Over many trials A and X each take both values, and what X plays is what A or B plays."""
    browser_tab.js(
        """(async () => {
             const press = (what) => document.querySelector(what).click(), sound = document.getElementById("abx-sound");
             window.same = [];
             for (let k = 0; k < 40; k++) {
               const heard = {};
               for (const letter of "abx") { press(`[data-play="${letter}"]`); heard[letter] = sound.src; }
               if (heard.a === heard.b) throw Error("A and B are one");
               window.same.push(heard.x === heard.a ? "a" : heard.x === heard.b ? "b" : "?");
               press('[data-vote="a"]');
             }
           })()"""
    )
    assert set(browser_tab.js("window.same")) == {"a", "b"}
    votes = browser_tab.js("JSON.parse(localStorage.getItem('unmuffle-abx-' + facts.scorecard))")[-40:]
    assert [vote["x"] for vote in votes] == browser_tab.js("window.same")
    assert {vote["a"] for vote in votes} == {"new", "old"}


@pytest.mark.parametrize("width", [400, 1200])
def test_nothing_sticks_out_sideways(browser_tab: Tab, width: int) -> None:
    """On a phone and on a desk the page is as wide as its window; tables scroll inside themselves."""
    browser_tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    assert browser_tab.js("document.documentElement.scrollWidth") <= width


def test_the_page_complains_of_nothing_and_asks_for_nothing(browser_tab: Tab) -> None:
    """No error in the console, and no request but for itself, what it carries, and the votes it makes."""
    browser_tab.js("1")
    assert browser_tab.complaints == []
    assert {address.split(":")[0] for address in browser_tab.requests} <= {"file", "data", "blob"}
