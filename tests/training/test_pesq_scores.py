"""PESQ beside the training: each content once, an answer when a process dies, no process left behind."""

import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from simulation.errors import UnmuffleError
from training import pesq_worker
from training.metrics.pesq import measure
from training.objectives.pesq_scores import REMEMBERED, PesqScores


@pytest.fixture(scope="module")
def pieces() -> torch.Tensor:
    """Something that PESQ takes for speech, and three noisy versions, [4, 16000]."""
    rng = np.random.default_rng(0)
    time_s = np.arange(16000) / 16000
    voiced = sum(np.sin(2 * np.pi * 140 * harmonic * time_s) / harmonic for harmonic in range(1, 20))
    clean = 0.1 * voiced * np.abs(np.sin(2 * np.pi * 3 * time_s))
    rows = [clean, *(clean + level * rng.standard_normal(16000) for level in (0.01, 0.03, 0.1))]
    return torch.from_numpy(np.float32(rows))


@pytest.fixture(scope="module")
def scores() -> Iterator[PesqScores]:
    """One process for the tests that need no more."""
    scores = PesqScores(processes=1)
    yield scores
    scores.close()


def children() -> set[psutil.Process]:
    """Processes that multiprocessing has started from here."""
    return {each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())}


def test_scores_are_pesq(scores: PesqScores, pieces: torch.Tensor) -> None:
    """Those of the metric, to four digits; at any level, in any precision."""
    clean, *noisy = pieces
    asked = [scores.ask(clean, each) for each in noisy]
    found = [scores.wait(each) for each in asked]
    wanted = [measure(clean.double().numpy(), each.double().numpy(), 16000) for each in noisy]
    assert found == pytest.approx(wanted, abs=1e-3)
    assert found == sorted(found, reverse=True)
    assert scores.wait(scores.ask(30 * clean.double(), 30 * noisy[0].double())) == pytest.approx(found[0], abs=1e-3)


def test_each_content_is_computed_once(scores: PesqScores, pieces: torch.Tensor) -> None:
    """Asked again, whether the score is there or on its way, the same answer comes without another computation."""
    clean, noisy, *_ = pieces
    before = scores.computed
    one, other = scores.ask(clean, 0.9 * noisy), scores.ask(clean.clone(), 0.9 * noisy)
    assert one is other
    assert scores.wait(one) == scores.wait(scores.ask(clean, 0.9 * noisy))
    assert scores.computed == before + 1
    scores.ask(0.9 * noisy, clean)  # the other way round is another question
    assert scores.computed == before + 2


def test_what_was_asked_long_ago_is_forgotten(scores: PesqScores, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of days keeps as many scores as one of minutes."""
    monkeypatch.setattr("training.objectives.pesq_scores.REMEMBERED", 3)
    assert REMEMBERED > 3
    for level in range(1, 6):
        scores.ask(torch.full((10,), 1.0 * level), torch.ones(10))
    before = scores.computed
    scores.ask(torch.full((10,), 5.0), torch.ones(10))
    assert scores.computed == before
    scores.ask(torch.full((10,), 1.0), torch.ones(10))
    assert scores.computed == before + 1


@pytest.mark.parametrize("case", ["silent clean", "silent enhanced", "too short", "not finite"])
def test_what_pesq_cannot_score_is_not_a_number(pieces: torch.Tensor, case: str) -> None:
    """No exception, no invented score."""
    clean, enhanced = pieces[0].numpy().copy(), pieces[1].numpy().copy()
    match case:
        case "silent clean":
            clean[:] = 0
        case "silent enhanced":
            enhanced[:] = 0
        case "too short":
            clean, enhanced = clean[:100], enhanced[:100]
        case "not finite":
            enhanced[3] = np.nan
    assert np.isnan(pesq_worker.score(clean, enhanced))


def test_a_process_that_was_killed_is_answered_and_replaced(pieces: torch.Tensor) -> None:
    """The message says what to type; the next question starts other processes."""
    scores, before = PesqScores(processes=1), children()
    clean, noisy, *_ = pieces
    wanted = scores.wait(scores.ask(clean, noisy))
    (worker,) = children() - before
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    with pytest.raises(UnmuffleError, match=r"killed, most likely for memory.*Run the same command again"):
        for gain in range(2, 50):
            scores.wait(scores.ask(clean, gain * noisy))
            time.sleep(0.05)
    assert scores.wait(scores.ask(clean, noisy)) == wanted
    scores.close()
    assert children() == before


def test_a_copy_starts_anew(scores: PesqScores) -> None:
    """Averages of weights copy an objective; processes and locks are not copied."""
    other = copy.deepcopy(scores)
    assert (other.processes, other.computed) == (1, 0)


PARENT = """
if __name__ == "__main__":  # the processes import this file, too
    import sys, time, psutil, torch
    from training.objectives.pesq_scores import PesqScores

    scores = PesqScores(processes=2)
    asked = [scores.ask(torch.zeros(10), torch.full((10,), 1.0 * each)) for each in range(9)]
    [scores.wait(each) for each in asked]
    print(*(child.pid for child in psutil.Process().children()), flush=True)
    time.sleep(60 if sys.argv[1] == "killed" else 0)
"""


@pytest.mark.parametrize("end", ["killed", "returns"])
def test_no_process_outlives_the_training(tmp_path: Path, end: str) -> None:
    """Neither where the training comes to its end nor where it is killed without a word."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(workers) >= 2
        if end == "killed":
            parent.kill()
        parent.wait(30)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
