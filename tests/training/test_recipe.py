"""Recipes and the cookbook."""

import pytest
from pydantic import ValidationError

from simulation.errors import BadSetting, UnknownName
from training.cookbook import RECIPES, recipe
from training.recipe import Recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_the_cookbook_survives_json(name: str) -> None:
    """Same object but for what a search may try, same digest; its name is its name; its network's tag the kind,
    but for what is not to be taken for it."""
    found = recipe(name)
    again = Recipe.parse(found.canonical(), name)
    assert again == found.model_copy(update={"search": {}})
    assert again.digest() == found.digest()
    assert found.name == name
    assert found.network == ("bsp_mpnet_random_ssl" if "random" in name else found.model.kind)


def test_the_smoke_recipes_share_the_code_of_the_full_ones() -> None:
    """A smaller DM, not another network."""
    assert type(recipe("dm_smoke").model) is type(recipe("dm").model)


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    """The close one is suggested."""
    with pytest.raises(UnknownName, match="Did you mean 'dm_smoke'"):
        recipe("dm_smok")


@pytest.mark.parametrize(
    "change",
    [
        {"step": 3},
        {"warmup_steps": 10**9},
        {"batch_size": 0},
        {"model": {"kind": "dmm"}},
        {"name": "Dm/1"},
        {"network": "dm/1"},
        {"seed": -1},
        {"use": "fullband-48k"},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    """Misspelt keys, warm-ups longer than the run, empty batches, unknown networks, names that are no file name or no
    part of `dm/3`, seeds that no generator takes, a use at another sample rate."""
    settings = recipe("gru_smoke").model_dump(mode="json") | change
    with pytest.raises(BadSetting, match="is not a valid Recipe"):
        Recipe.parse(settings, "the spec")


def test_a_use_that_does_not_exist_is_answered_before_anything_is_trained() -> None:
    """Not hours later, when the version is registered."""
    with pytest.raises(UnknownName, match="Did you mean 'denoise-16k'"):
        Recipe.parse(recipe("gru_smoke").model_dump(mode="json") | {"use": "denoise-16"}, "the spec")


def test_a_recipe_is_frozen() -> None:
    """What identifies a run cannot change under way."""
    with pytest.raises(ValidationError):
        recipe("dm").steps = 1
