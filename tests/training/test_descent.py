"""How parameters go down: schedules, groups with learning rates of their own, frozen ones."""

from collections.abc import Callable

import pytest
import torch

from training.descent import schedule
from training.loop import Run
from training.models import GruMask
from training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]


def rates(recipe: Recipe) -> list[float]:
    """The learning rate of each step."""
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], recipe.learning_rate)
    fall, found = schedule(optimiser, recipe), []
    for _ in range(recipe.steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        fall.step()
    return found


def test_a_cosine_ends_at_zero(small_recipe: MakeRecipe) -> None:
    """Half of it is left in the middle between the warm-up and the end."""
    found = rates(small_recipe(steps=105, warmup_steps=5, learning_rate=1.0))
    assert found[:6] == pytest.approx([0.2, 0.36, 0.52, 0.68, 0.84, 1.0])
    assert found[55] == pytest.approx(0.5)
    assert found[104] == pytest.approx(0.0, abs=1e-3)


def test_an_exponential_schedule_loses_its_share_every_so_many_steps(small_recipe: MakeRecipe) -> None:
    """MP-SENet's 0.99 an epoch, spread over the steps of an epoch."""
    settings = {"schedule": "exponential", "decay": 0.99, "decay_steps": 10, "learning_rate": 1.0}
    found = rates(small_recipe(steps=101, warmup_steps=0, **settings))
    assert found[0] == 1.0
    assert found[10] == pytest.approx(0.99)
    assert found[100] == pytest.approx(0.99**10)


@pytest.mark.parametrize("warmup", [0, 4])
def test_a_constant_schedule_stays(small_recipe: MakeRecipe, warmup: int) -> None:
    """From the end of the warm-up on."""
    found = rates(small_recipe(steps=20, warmup_steps=warmup, schedule="constant", learning_rate=1.0))
    assert found[warmup:] == pytest.approx([1.0] * (20 - warmup))


class Tuned(GruMask):
    """Of its weights, the recurrent ones learn slowly, and their biases not at all."""

    def learning_rate_scales(self) -> dict[str, float]:
        """Factors by prefix."""
        return {"memory": 0.1, "memory.bias": 0.0}


def test_weights_learn_at_the_rate_of_the_longest_prefix_that_fits(
    small_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A factor of zero freezes: no gradient is asked for, and the optimiser does not know them."""
    monkeypatch.setattr(GruMask.Config, "build", lambda config: Tuned(config))
    run = Run(small_recipe(learning_rate=1e-2, warmup_steps=0))
    names = {id(parameter): name for name, parameter in run.learner.model.named_parameters()}
    found = {
        names[id(parameter)]: group["lr"]
        for group in run.descents["model"].optimiser.param_groups
        for parameter in group["params"]
    }
    assert found.keys() == {name for name in names.values() if not name.startswith("memory.bias")}
    for name, rate in found.items():
        assert rate == pytest.approx(1e-3 if name.startswith("memory") else 1e-2), name
    run.turn("model")
    frozen = {name for name, parameter in run.learner.model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name in names.values() if name.startswith("memory.bias")}
