"""A run that stops and goes on is the undisturbed run: whatever it consists of, bit for bit."""

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from training.batches import Batches
from training.loop import Run, Seat, train
from training.objectives import Adversarial
from training.objectives.metric_judge import MetricJudge
from training.objectives.period_judge import PeriodJudge
from training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
ToyConfig = runpy.run_path(str(Path(__file__).with_name("toy_adversarial.py")))["ToyConfig"]

JUDGES = MetricJudge.Config(channels=4), PeriodJudge.Config(channels=(4, 6), periods=(2, 3))

EVERYTHING = {"objective": ToyConfig(noise=0.01), "ema_decay": 0.9, "accumulate": 2, "judge_learning_rate": 2e-3}
CASES = {
    "fp32": EVERYTHING,
    "bf16": EVERYTHING | {"precision": "bf16", "schedule": "exponential", "decay_steps": 5},
    "fp16": EVERYTHING | {"precision": "fp16", "schedule": "constant", "warmup_steps": 0},
    "judged": EVERYTHING | {"objective": Adversarial.Config(judges=JUDGES, delay_steps=2)},
}


def go_on(run: Run, corpus: object, **outside: Any) -> Run:
    """The rest of a run, in this process."""
    batches = Batches(corpus, run.recipe)  # type: ignore[arg-type]
    calls = {"save": lambda run: None, "tell": lambda told: None} | outside
    train(run, batches, list(batches.whole(2)), Seat(), **calls)
    return run


def leaves(state: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and value of a state, by where it stands."""
    if isinstance(state, dict | list):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from leaves(value, f"{name}/{key}")
    else:
        yield name, state


def assert_same(one: Run, other: Run) -> None:
    """Equal in every bit of their states."""
    found, wanted = dict(leaves(one.state())), dict(leaves(other.state()))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        same = torch.equal(found[name], value) if torch.is_tensor(value) else found[name] == value
        assert same, name


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_was_stopped_is_the_undisturbed_run(
    tones: object, small_recipe: MakeRecipe, case: str, tmp_path: Path
) -> None:
    """Weights, judge, averages, optimisers, schedules, scalers, what the objective counts, and the history.

    It stops after step 3, between two rows of the history: means over steps on both sides of it are those of all.
    """
    recipe = small_recipe(**CASES[case])
    whole = go_on(Run(recipe), tones)
    file = tmp_path / "state.pt"
    stopped = go_on(Run(recipe), tones, save=lambda run: torch.save(run.state(), file), stop=lambda run: run.step == 3)
    assert (stopped.step, whole.step) == (3, 10)
    torch.manual_seed(99)
    resumed = Run(recipe)
    resumed.resume(torch.load(file, weights_only=True))
    assert resumed.step == 3
    assert_same(go_on(resumed, tones), whole)


def test_a_state_holds_all_that_moves(tones: object, small_recipe: MakeRecipe) -> None:
    """So that the test above compares something: each part differs from that of a run which never began."""
    recipe = small_recipe(**CASES["fp16"])
    before, after = dict(leaves(Run(recipe).state())), dict(leaves(go_on(Run(recipe), tones).state()))
    assert {"/learner/objective._extra_state/steps", "/average/n_averaged"} <= after.keys()
    for part in ("/learner/model.", "/learner/objective.judge.", "/average/module."):
        moved = [name for name in before if name.startswith(part) and not torch.equal(before[name], after[name])]
        assert moved, part
    for phase in ("judge", "model"):
        assert f"/descents/{phase}/optimiser/state/0/exp_avg" in after
        assert f"/descents/{phase}/scaler/scale" in after
