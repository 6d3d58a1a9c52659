"""Phases of a step, pieces of a share, averages of weights: what moves, when, and by how much."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from training.batches import Batches
from training.loop import Run, Seat, train, validate
from training.recipe import Recipe
from training.steps import Steps, pieces

MakeRecipe = Callable[..., Recipe]
ToyConfig = runpy.run_path(str(Path(__file__).with_name("toy_adversarial.py")))["ToyConfig"]


def trained(recipe: Recipe, corpus: object) -> Run:
    """A run in this process, to its end."""
    run, batches = Run(recipe), Batches(corpus, recipe)  # type: ignore[arg-type]
    train(run, batches, list(batches.whole(2)), Seat(), lambda run: None, lambda told: None)
    return run


def weights(run: Run, part: str) -> dict[str, torch.Tensor]:
    """A copy of the weights of the model or of the objective."""
    return {name: each.detach().clone() for name, each in run.learner.named_parameters() if name.startswith(part)}


def moved(run: Run, part: str, before: dict[str, torch.Tensor]) -> bool:
    """Whether any of these weights has changed."""
    return any(not torch.equal(value, before[name]) for name, value in weights(run, part).items())


def test_each_phase_moves_its_own_weights_alone(tones: object, small_recipe: MakeRecipe) -> None:
    """The judge learns first and the model stands still; then the other way round, and neither leaves the other a
    gradient."""
    recipe = small_recipe(objective=ToyConfig())
    run = Run(recipe)
    steps, batch = Steps(run, Seat()), Batches(tones, recipe).load(0)  # type: ignore[arg-type]
    assert run.phases == ("judge", "model")
    run.learner.objective.step_begins(0)
    for phase, still in (("judge", "model"), ("model", "objective")):
        before = weights(run, "")
        gradients = {name: each.grad for name, each in run.learner.named_parameters() if name.startswith(still)}
        steps.descend(phase, batch)
        assert moved(run, "objective" if phase == "judge" else "model", before)
        assert not moved(run, still, before)
        for name, gradient in gradients.items():
            assert run.learner.get_parameter(name).grad is gradient, name


def test_the_history_tells_the_phases_apart(tones: object, small_recipe: MakeRecipe) -> None:
    """The network's figures have the names they have without a judge; the judge has a learning rate of its own."""
    run = trained(small_recipe(objective=ToyConfig(), judge_learning_rate=4e-3, warmup_steps=1), tones)
    row = run.history[0]
    assert {"train/loss", "train/fooled", "train/gradient_norm", "learning_rate"} <= row.keys()
    assert {"train/judge/loss", "train/judge/clean", "train/judge/gradient_norm"} <= row.keys()
    assert row["learning_rate/judge"] == pytest.approx(4 * row["learning_rate"])
    assert row["train/judge/loss"] == pytest.approx(row["train/judge/clean"] + row["train/judge/enhanced"])


@pytest.mark.parametrize("objective", [None, ToyConfig()], ids=["plain", "adversarial"])
def test_pieces_of_a_share_add_up_to_the_share(tones: object, small_recipe: MakeRecipe, objective: Any) -> None:
    """The gradient of five items in two pieces, and one by one, is that of all at once; so is the record."""
    changes = {"objective": objective} if objective else {}
    runs = []
    for accumulate in (1, 2, 99):
        recipe = small_recipe(accumulate=accumulate, clip_norm=1e9, **changes)
        run = Run(recipe)
        run.learner.double()
        batch = Batches(tones, recipe).load(0)  # type: ignore[arg-type]
        Steps(run, Seat()).take(batch._replace(noisy=batch.noisy.double(), clean=batch.clean.double()))
        runs.append(run)
    whole, *others = runs
    recorded = whole.tally.means(1)
    for other in others:
        for name, parameter in whole.learner.named_parameters():
            assert torch.allclose(parameter.grad, other.learner.get_parameter(name).grad, rtol=1e-9, atol=1e-14), name
        assert other.tally.means(1) == pytest.approx(recorded, rel=1e-9)


def test_pieces_are_even_and_none_is_empty(tones: object, small_recipe: MakeRecipe) -> None:
    """Five items in two, in three, and in no more pieces than there are items."""
    batch = Batches(tones, small_recipe()).load(0)  # type: ignore[arg-type]
    for count, sizes in ((1, [5]), (2, [2, 3]), (3, [1, 2, 2]), (9, [1] * 5)):
        cuts = pieces(batch, count)
        assert [len(cut.noisy) for cut in cuts] == sizes
        assert sum((cut.ids for cut in cuts), ()) == batch.ids
        assert torch.equal(torch.cat([cut.clean for cut in cuts]), batch.clean)


def test_the_average_of_the_weights_is_what_is_validated_and_released(tones: object, small_recipe: MakeRecipe) -> None:
    """It is the exponential moving average over the steps, by hand; the network that learns is another one."""
    recipe = small_recipe(ema_decay=0.8, checkpoint_every=1, validate_every=10)
    seen: list[dict[str, torch.Tensor]] = []
    run, batches = Run(recipe), Batches(tones, recipe)  # type: ignore[arg-type]
    valid = list(batches.whole(2))
    train(run, batches, valid, Seat(), lambda run: seen.append(weights(run, "model")), lambda told: None)
    expected = seen[0]
    for latest in seen[1:]:
        expected = {name: 0.8 * value + 0.2 * latest[name] for name, value in expected.items()}
    released = dict(run.released.named_parameters())
    for name, value in expected.items():
        assert torch.allclose(released[name.removeprefix("model.")], value, rtol=1e-5, atol=1e-7), name
        assert not torch.equal(released[name.removeprefix("model.")], seen[-1][name]), name
    assert validate(run, valid, torch.device("cpu")).items() <= run.history[-1].items()
    run.average = None
    assert validate(run, valid, torch.device("cpu"))["valid/loss"] != run.history[-1]["valid/loss"]


def test_without_an_average_the_weights_themselves_are_released(small_recipe: MakeRecipe) -> None:
    """No copy is made."""
    run = Run(small_recipe())
    assert run.released is run.learner.model
