"""What tests of stages share: a recipe that takes seconds."""

from collections.abc import Callable

import pytest

from training.models import GruMask
from training.objectives import Regression
from training.recipe import Recipe


def small_recipe(**changes: object) -> Recipe:
    """A recurrent mask of a few units; ten steps, looked at twice."""
    fields = {
        "name": "small",
        "network": "gru_mask",
        "model": GruMask.Config(width=8, layers=1),
        "objective": Regression.Config(hop_size=200),
        "steps": 10,
        "batch_size": 4,
        "segment_s": 0.4,
        "learning_rate": 1e-3,
        "log_every": 2,
        "validate_every": 5,
        "validation_items": 2,
        "checkpoint_every": 5,
        "seed": 3,
    }
    return Recipe.model_validate(fields | changes)


@pytest.fixture(name="small_recipe", scope="session")
def small_recipe_fixture() -> Callable[..., Recipe]:
    """`small_recipe(**changes)`."""
    return small_recipe
