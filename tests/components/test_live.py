"""What a person sees who waits: a bar on a terminal, marked lines in a pipeline, plain lines elsewhere."""

import sys

import pytest

from components.compute import MARK, NARRATED
from components.live import training_watched
from training.progress import Progress

HALF_WAY = Progress(
    step=50, steps=100, losses={"model": 0.25}, items_per_s=12.5, input_wait_share=0.02, remaining_s=61.0
)
FACTS = "loss 0.2500, 12.5 items a second, 2% waiting for data, 1:01 left"


def shown(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What a run half way puts on stdout and stderr."""
    with training_watched("train r") as progress:
        progress(HALF_WAY)
        progress(HALF_WAY)
    return capsys.readouterr()


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """The first at once, that workers start; then figures, at most every few seconds; stdout is for the answer."""
    assert shown(capsys) == ("", f"train r: starting workers\ntrain r: step 50 of 100, {FACTS}\n")


def test_a_pipeline_marks_the_line_for_its_runner(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where KFP's task has a terminal: the runner shows marked lines alone."""
    monkeypatch.setenv(NARRATED, "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert f"{MARK}train r: step 50 of 100, {FACTS}\n" in shown(capsys)[0]


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same figures; it is gone from the cursor's way when the run ends."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    out, err = shown(capsys)
    assert out == ""
    assert "50/100" in err and "loss 0.2500" in err and "1:01 left" in err
    assert err.rstrip().endswith("\x1b[?25h"), "the cursor is shown again"
