"""Stopping: all workers after the same step, whoever heard of it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from training import halt
from training.halt import Halt, Reason, heed_sigterm, preempted
from training.loop import Seat

HALTING = Path(__file__).parent / "halting.py"


def stopped(folder: Path, steps: int, *hears: int) -> list[dict]:
    """What each of several workers left."""
    command = [sys.executable, str(HALTING), str(folder), str(steps), *map(str, hears)]
    root = str(HALTING.parents[2])
    subprocess.run(command, check=True, timeout=120, env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"})
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(len(hears))]


def test_workers_stop_after_the_same_step_and_join_what_they_learnt(tmp_path: Path) -> None:
    """The second of two hears it at step 5: both stop after step 6, and no row of either is lost or out of order."""
    found = stopped(tmp_path, 100, -1, 5)
    assert [each["step"] for each in found] == [6, 6]
    assert [each["rows"] for each in found] == [[10 * step + rank for step in range(1, 7) for rank in (0, 1)]] * 2


def test_the_graver_reason_counts_and_one_worker_stops_at_once() -> None:
    """A budget that all know of, a preemption that one hears of: alone, there is nobody to wait for."""
    told = Halt(Seat(), lambda step: Reason(step >= 3), lambda step: Reason.PREEMPTED if step == 3 else Reason.NONE)
    assert [told(step) for step in (1, 2, 3, 4)] == [Reason.NONE, Reason.NONE, Reason.PREEMPTED, Reason.BUDGET]


@pytest.fixture
def sigterm_restored() -> Iterator[None]:
    """This process heeds SIGTERM as before."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_asks_and_does_not_end(sigterm_restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process lives on and knows; Ray's notice of a drained node says the same."""
    monkeypatch.setattr(halt, "_drained", lambda: False)
    heed_sigterm()
    assert not preempted()
    os.kill(os.getpid(), signal.SIGTERM)
    assert preempted()
    heed_sigterm()
    assert not preempted()
    monkeypatch.setattr(halt, "_drained", lambda: True)
    assert preempted()
