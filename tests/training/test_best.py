"""The best versions of a run: as many as were asked for, whatever is done again."""

from pathlib import Path

import pytest
import torch

from simulation.errors import BadSetting
from training.best import FIGURE, Best
from training.checkpoint import load_version, version_files, weights_bytes
from training.models import GruMask
from training.recipe import KeepBest

CONFIG = GruMask.Config(width=4, layers=1)


def offer(best: Best, step: int, value: float) -> None:
    """A version of this step, its weights drawn from the step."""
    torch.manual_seed(step)
    facts = {"steps": step, FIGURE: value}
    best.offer(step, {"valid/loss": value, "other": 0.0}, version_files(CONFIG, weights_bytes(CONFIG.build()), facts))


def best_of(folder: Path, count: int, higher_is_better: bool = False) -> Best:
    """The best by the loss."""
    rule = KeepBest(metric="valid/loss", higher_is_better=higher_is_better, count=count)
    return Best(f"file://{folder}", rule)


def test_the_best_stay_and_others_go(tmp_path: Path) -> None:
    """Two of four, the lowest loss first, of equal ones the earlier; each loads as a version."""
    best = best_of(tmp_path, 2)
    for step, loss in ((5, 0.5), (10, 0.3), (15, 0.4), (20, 0.3)):
        offer(best, step, loss)
    assert [(kept.step, kept.value) for kept in best.kept()] == [(10, 0.3), (20, 0.3)]
    assert (
        sorted(path.parent.name for path in tmp_path.glob("best/*/*")) == ["step-00000010"] * 2 + ["step-00000020"] * 2
    )
    loaded = load_version(best.kept()[0].address).decoder.weight
    torch.manual_seed(10)
    assert torch.equal(loaded, CONFIG.build().decoder.weight)


def test_higher_may_be_better(tmp_path: Path) -> None:
    """A gain in dB, unlike a loss."""
    best = best_of(tmp_path, 1, higher_is_better=True)
    for step, gain in ((5, 1.0), (10, 3.0), (15, 2.0)):
        offer(best, step, gain)
    assert [kept.step for kept in best.kept()] == [10]


def test_a_step_that_is_done_again_counts_once(tmp_path: Path) -> None:
    """After a failure, the same figures come again; on other workers, slightly others."""
    best = best_of(tmp_path, 2)
    for step, loss in ((5, 0.5), (10, 0.3), (5, 0.5), (10, 0.31)):
        offer(best, step, loss)
    assert [(kept.step, kept.value) for kept in best.kept()] == [(10, 0.31), (5, 0.5)]


def test_a_figure_that_nobody_takes_is_answered(tmp_path: Path) -> None:
    """With those that there are."""
    rule = KeepBest(metric="valid/pesq")
    with pytest.raises(BadSetting, match=r"'valid/pesq'; validation gives valid/loss"):
        Best(f"file://{tmp_path}", rule).offer(5, {"valid/loss": 0.1}, {})
