import hashlib
import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from serving.playground import scores
from serving.playground.routes import HERE, MEDIA_TYPES
from serving.playground.scores import Line, Scores
from serving.policy import policy_for
from serving.verdict import Verdict
from serving.verification import PROBE
from simulation.corpora.sample import SAMPLE
from simulation.home import Home
from training.intervals import Interval
from training.registry import Version
from training.scorecard import REFERENCE, MetricNote, Score, Scorecard
from training.slices import OVERALL

RATE, SECONDS = 16_000, 1.5
LIVE_STATUS = "document.getElementById('live-status').textContent"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real speech with noise, in a file of its own."""
    speech, _ = soundfile.read(SAMPLE / PROBE, dtype="float32")
    cut = speech[RATE : RATE + round(SECONDS * RATE)]
    noisy = cut + np.random.default_rng(0).normal(0, 0.02, cut.shape).astype(np.float32)
    path = tmp_path_factory.mktemp("recording") / "speech.wav"
    soundfile.write(path, noisy, RATE)
    return path


@pytest.fixture(scope="module")
def card(versions: tuple[Version, Version]) -> Scores:
    """The scorecard of the version that answers, in the store of the tests' home."""
    lines = (
        Line(title="PESQ", unit="MOS", higher_is_better=True, version=2.5, low=2.4, high=2.6, unprocessed=1.9),
        Line(title="LSD", unit="dB", higher_is_better=False, version=None, low=None, high=None, unprocessed=4.0),
    )
    card = Scores(version="gru/1", corpus_digest="ab" * 32, rows=60, lines=lines, verdict="gru/1 wins over unprocessed")
    scores.keep(Home.current().store, versions[0].use, versions[0].weights_sha256, card)
    return card


def test_the_page_is_served_whole_and_asks_for_nothing_from_elsewhere(here: str) -> None:
    """Its parts come with their media types under a policy that forbids all else; no other file has a name."""
    with httpx.Client(base_url=here, trust_env=False) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for name, kind in MEDIA_TYPES.items():
            part = client.get(f"/playground/{name}")
            assert part.status_code == 200 and part.headers["content-type"] == kind
            assert not re.findall(r"https?://", part.text)
        for name in ("routes.py", "..%2Fapp.py", "nothing"):
            assert client.get(f"/playground/{name}").status_code == 404
    assert {path.name for path in HERE.iterdir() if path.suffix in (".html", ".css", ".js")} == set(MEDIA_TYPES)


def test_a_card_has_the_means_of_its_version_over_the_whole_corpus() -> None:
    """With their intervals, beside the unprocessed input; what could not be scored is left open."""
    note = MetricNote(name="pesq", title="PESQ", unit="MOS", higher_is_better=True, version=1, definition="")
    blank = {"failed": 0, "gain": None, "gain_over_champion": None, "worse": False, "metric": "pesq"}
    mean = Interval(n=60, mean=2.5, low=2.4, high=2.6, clusters=())
    scorecard = Scorecard(
        corpus="", corpus_digest="ab" * 32, rows=60, quarantined=(), systems=(), champion=None, seed=0, packages={},
        metrics=(note,), slices=(), scores=(Score(system="gru/1", slice=OVERALL, mean=mean, **blank),
                                            Score(system=REFERENCE, slice=OVERALL, mean=None, **blank)),
    )  # fmt: skip
    version = Version("denoise-16k", "4", "gru", "file:///v", "c" * 64, "", {"number": "1"})
    verdict = Verdict(policy=policy_for("denoise-16k"), opponent="unprocessed", slices=(), judgements=(), ranking=(),
                      winner="gru/1", reason="gru/1 wins")  # fmt: skip
    (line,) = scores.scores_of(version, scorecard, verdict).lines
    assert (line.version, line.low, line.high, line.unprocessed) == (2.5, 2.4, 2.6, None)


def test_the_scores_of_a_version_that_no_gate_promoted_are_not_there(
    here: str, versions: tuple[Version, Version], card: Scores
) -> None:
    """404 with a reason; what was kept comes back as it was."""
    store, (first, second) = Home.current().store, versions
    assert scores.kept(store, first.use, first.weights_sha256) == card
    assert scores.kept(store, second.use, second.weights_sha256) is None
    with httpx.Client(base_url=here, trust_env=False) as client:
        assert Scores.parse(client.get("/v1/scores").content, "scores") == card


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tab(here: str, card: Scores, new_tab: Callable[..., Any]) -> Any:
    """The page in a browser, with who answers on it."""
    return opened(here, new_tab)


def opened(here: str, new_tab: Callable[..., Any], *flags: str) -> Any:
    """The page in a browser that was started with these flags."""
    page = new_tab(*flags)
    for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
        page.call(f"{domain}.enable")
    page.call("Page.navigate", url=here)
    page.wait("document.readyState === 'complete' && location.protocol === 'http:'")
    page.wait("document.querySelector('#scores table') !== null")
    return page


@pytest.fixture(scope="module")
def heard(tab: Any, recording: Path) -> Any:
    """The page after a file was chosen and came back."""
    choose(tab, recording)
    return tab


def choose(tab: Any, path: Path) -> None:
    """A file, as a person does; until it came back."""
    node = tab.call("DOM.querySelector", nodeId=tab.call("DOM.getDocument")["root"]["nodeId"], selector="#file")
    tab.js("document.getElementById('status').textContent = ''")
    tab.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node["nodeId"])
    tab.wait("/^Done/.test(document.getElementById('status').textContent)", 60)


def painted(tab: Any, side: str) -> float:
    """Mean brightness of a picture."""
    return float(
        tab.js(
            f"""(() => {{
              const canvas = document.getElementById('{side}');
              const {{ data }} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
              return data.reduce((sum, value) => sum + value, 0) / data.length;
            }})()"""
        )
    )


def text(tab: Any, name: str) -> str:
    """What an element says."""
    return str(tab.js(f"document.getElementById('{name}').textContent"))


def test_the_page_says_which_version_answers_and_how_good_it_is(tab: Any, versions: tuple[Version, Version]) -> None:
    """Name, size, delay and weights; its scorecard with intervals and the verdict."""
    assert f"{versions[0].use}/1" in text(tab, "who")
    assert versions[0].weights_sha256 in text(tab, "facts")
    table = text(tab, "scores")
    assert "PESQ" in table and "2.50 [2.40, 2.60]" in table and "none" in table
    assert "gru/1 wins over unprocessed" in table


def test_a_file_comes_back_enhanced_and_can_be_saved(heard: Any, here: str, recording: Path, tmp_path: Path) -> None:
    """What the link saves is what the service answers; both pictures are painted, and differ."""
    heard.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    heard.js("document.getElementById('download').click()")
    answer = httpx.post(f"{here}/v1/enhance", content=recording.read_bytes(), trust_env=False).content
    saved, until = tmp_path / "speech-enhanced.wav", time.monotonic() + 30
    while not (saved.exists() and saved.stat().st_size >= len(answer)) and time.monotonic() < until:
        time.sleep(0.05)  # the browser names the file before it has written it
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == hashlib.sha256(answer).hexdigest()
    assert len(soundfile.read(io.BytesIO(answer))[0]) == round(SECONDS * RATE)
    before, after = painted(heard, "before"), painted(heard, "after")
    assert before > 70 and after > 70 and before != after
    assert re.search(r"0 to (8|4) kHz", text(heard, "scale"))


def test_the_service_is_asked_for_what_was_chosen(heard: Any, recording: Path) -> None:
    """Least suppression and stretched contrast stand in the query; a network without tiers offers none."""
    assert heard.js("document.getElementById('tier-label').hidden")
    heard.js("document.getElementById('most').value = '20'; document.getElementById('contrast').click()")
    choose(heard, recording)
    heard.js("document.getElementById('most').value = ''; document.getElementById('contrast').click()")
    assert heard.requests[-1].endswith("/v1/enhance?max_suppression_db=20&contrast=true")


def test_a_button_that_is_pressed_twice_opens_one_microphone(tab: Any) -> None:
    """While the browser still asks its owner, nothing more is opened; afterwards the button can be pressed again."""
    tab.js(
        """window.asked = []; window.ask = navigator.mediaDevices.getUserMedia;
           navigator.mediaDevices.getUserMedia = () => new Promise((_, refuse) => window.asked.push(refuse)); 0"""
    )
    tab.js("document.getElementById('record').click(); document.getElementById('record').click()")
    assert tab.js("window.asked.length") == 1 and tab.js("document.getElementById('record').disabled")
    tab.js("window.asked[0](new Error('not now')); navigator.mediaDevices.getUserMedia = window.ask")
    tab.wait("/not now/.test(document.getElementById('status').textContent)")
    assert not tab.js("document.getElementById('record').disabled")


def test_before_and_after_play_in_sync_and_the_toggle_switches_between_them(heard: Any) -> None:
    """The position runs on, and is not moved by the toggle, which the keyboard reaches as well."""
    heard.js("document.getElementById('play').click()")
    heard.wait("document.getElementById('seek').value > 0.2")
    assert text(heard, "play") == "Pause"
    heard.js("document.querySelector('input[name=side][value=after]').focus()")
    at = float(heard.js("document.getElementById('seek').value"))
    heard.call("Input.dispatchKeyEvent", type="rawKeyDown", key="ArrowLeft", code="ArrowLeft", windowsVirtualKeyCode=37)
    heard.call("Input.dispatchKeyEvent", type="keyUp", key="ArrowLeft", code="ArrowLeft", windowsVirtualKeyCode=37)
    assert heard.js("document.querySelector('input[name=side]:checked').value") == "before"
    heard.wait(f"document.getElementById('seek').value > {at}")
    heard.wait("document.getElementById('play').textContent === 'Play'")
    assert float(heard.js("document.getElementById('seek').value")) == 0.0


def test_a_stream_comes_back_while_it_is_made(heard: Any) -> None:
    """As many samples as went in, through the WebSocket, painted as they come."""
    heard.js("document.getElementById('live-file').click()")
    heard.wait("/^Done/.test(document.getElementById('live-status').textContent)", 60)
    said = text(heard, "live-status")
    found = re.search(r"([\d.]+) s in, ([\d.]+) s out, (\d+) of (\d+) chunks late", said)
    assert found and float(found[1]) == float(found[2]) == pytest.approx(SECONDS, abs=0.05)
    assert int(found[4]) == pytest.approx(SECONDS / 0.02, abs=2)


def test_a_file_that_is_no_audio_is_refused_in_words(tab: Any, tmp_path: Path) -> None:
    """On the page, not in the console."""
    (tmp_path / "text.wav").write_text("This is no audio.")
    node = tab.call("DOM.querySelector", nodeId=tab.call("DOM.getDocument")["root"]["nodeId"], selector="#file")
    tab.call("DOM.setFileInputFiles", files=[str(tmp_path / "text.wav")], nodeId=node["nodeId"])
    tab.wait("document.getElementById('status').classList.contains('problem')")
    assert "cannot read this file" in text(tab, "status")


@pytest.mark.long
def test_somebody_speaks_into_the_microphone(
    here: str, card: Scores, new_tab: Callable[..., Any], recording: Path
) -> None:
    """Chromium's fake device says the recording again and again: it comes back enhanced and painted; then live."""
    device = f"--use-file-for-fake-audio-capture={recording}"
    tab = opened(here, new_tab, "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", device)
    tab.js("document.getElementById('record').click()")
    tab.wait("/^Recording: [2-9]/.test(document.getElementById('status').textContent)", 60)
    tab.js("document.getElementById('record').click()")
    tab.wait("/^Done/.test(document.getElementById('status').textContent)", 60)
    assert painted(tab, "before") > 70 and painted(tab, "after") > 70
    tab.js("document.getElementById('live').click()")
    tab.wait(f"/^denoise-16k.1 answers: [1-9][0-9.]* s came back/.test({LIVE_STATUS})", 60)
    tab.js("document.getElementById('live').click()")
    tab.wait(f"/^Done/.test({LIVE_STATUS})", 60)
    told = re.search(r"([\d.]+) s in, ([\d.]+) s out", text(tab, "live-status"))
    assert told and told[1] == told[2] and float(told[1]) >= 1.0
    assert tab.complaints == []


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_window_and_its_controls_a_finger(heard: Any, width: int) -> None:
    """On a phone and on a desk nothing sticks out sideways; what is pressed is 44 pixels high; all of it has a name."""
    heard.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    assert heard.js("document.documentElement.scrollWidth") <= width
    sizes = heard.js(
        """[...document.querySelectorAll('button, select, .switch span')].filter((each) => each.offsetParent)
           .map((each) => each.getBoundingClientRect().height)"""
    )
    assert min(sizes) >= 44
    nameless = heard.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "radio", "slider", "combobox", "textbox", "image", "link"}
    assert all(
        node.get("name", {}).get("value")
        for node in nameless
        if node.get("role", {}).get("value") in roles and not node.get("ignored")
    ), json.dumps([node for node in nameless if node.get("role", {}).get("value") in roles])


def test_the_page_complains_of_nothing_and_asks_its_own_service_alone(heard: Any, here: str) -> None:
    """After all of the above."""
    heard.js("1")
    assert heard.complaints == []
    served = (here, here.replace("http", "ws"), "data:", "blob:")
    assert all(asked.startswith(served) for asked in heard.requests)
