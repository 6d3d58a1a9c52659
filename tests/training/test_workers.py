"""Several workers learn what one learns: plain and against a judge, in uneven shares."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

WORLDS = (2, 4)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one, two and four workers made of the same jobs: five items a step, so four have shares of 1, 1, 1 and 2."""
    folder = tmp_path_factory.mktemp("workers")
    command = [sys.executable, str(Path(__file__).with_name("gloo_worker.py")), str(folder), "1", *map(str, WORLDS)]
    assert subprocess.run(command, timeout=280).returncode == 0
    return {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("job", ["plain", "adversarial", "judged"])
def test_several_workers_learn_what_one_learns(found: dict[str, Any], job: str, world: int) -> None:
    """Twenty steps in float64: weights, the judge's too, and averages are equal to 1e-8, the record to 1e-6.

    The adversarial run, against a toy, cuts each share into two pieces on top; the judged one is against a metric and a
    multi-period judge, which learn from what all workers made two steps before.
    """
    one, several = found[f"{job}-1"], found[f"{job}-{world}"]
    assert one["tensors"].keys() == several["tensors"].keys()
    assert ("weight objective.judge.0.weight" in one["tensors"]) == (job == "adversarial")
    for name, tensor in one["tensors"].items():
        assert (tensor - several["tensors"][name]).abs().max() < 1e-8, name
    for one_row, other_row in zip(one["history"], several["history"], strict=True):
        assert one_row == pytest.approx(other_row, rel=1e-6)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("job", ["plain_gradient", "adversarial_gradient"])
def test_the_first_gradient_is_that_of_one_worker(found: dict[str, Any], job: str, world: int) -> None:
    """In float32, to 1e-5 of the longest entry of each weight's gradient."""
    one, several = found[f"{job}-1"]["gradients"], found[f"{job}-{world}"]["gradients"]
    for name, gradient in one.items():
        assert gradient.abs().max() > 0, name
        assert (gradient - several[name]).abs().max() <= 1e-5 * gradient.abs().max(), name
