"""What a search varies: fields by their names, ranges as people write them, recipes that are as valid as any."""

import re
from collections.abc import Callable

import pytest

from simulation.errors import BadSetting, UnknownName
from simulation.schema import OneOf, Range
from training.objectives import Spectral
from training.recipe import Recipe
from training.search import FIXED, LOOKS, for_trial, is_logarithmic, ranges_of, with_values

MakeRecipe = Callable[..., Recipe]


def test_ranges_are_written_as_people_write_them(small_recipe: MakeRecipe) -> None:
    """Two ends, or a list; a field is named with dots; a name alone takes what the recipe declares."""
    recipe = small_recipe(search={"learning_rate": {"low": 1e-4, "high": 1e-2}, "weight_decay": {"values": [0, 0.1]}})
    asked = ["learning_rate", "objective.si_sdr=0..0.1", "model.width = 8, 16", "schedule=cosine,constant"]
    assert ranges_of(recipe, asked) == {
        "learning_rate": Range(low=1e-4, high=1e-2),
        "objective.si_sdr": Range(low=0.0, high=0.1),
        "model.width": OneOf(values=(8, 16)),
        "schedule": OneOf(values=("cosine", "constant")),
    }
    assert set(ranges_of(recipe)) == {"learning_rate", "weight_decay"}


WRONG = {
    "a misspelt field": ("learning_rat=1..2", "Did you mean 'learning_rate'"),
    "a name without a range": ("clip_norm", "clip_norm=LOW..HIGH"),
    "ends in the wrong order": ("learning_rate=5..1", "low 5.0 is above high 1.0"),
    "words for numbers": ("learning_rate=a..b", "valid number"),
    "an end that the field refuses": ("batch_size=0..8", "greater than 0"),
    "a value that the field refuses": ("schedule=cosine,linear", "schedule"),
    "a list of one": ("learning_rate=1e-3", "A,B,C"),
    "no whole number in between": ("batch_size=4.2..4.8", "whole numbers"),
    "what lies between yes and no": ("bucketing=0..1", "bucketing=true,false"),
    "what trials must share": ("steps=10..100", "no field to search"),
    "nothing": ("=", "NAME=LOW..HIGH"),
}


@pytest.mark.parametrize("word, answer", WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_searched_is_answered_before_anything_runs(
    word: str, answer: str, small_recipe: MakeRecipe
) -> None:
    """With what was found and what was expected."""
    with pytest.raises((BadSetting, UnknownName)) as told:
        ranges_of(small_recipe(), [word])
    assert answer in str(told.value)


def test_a_recipe_that_declares_nothing_says_how_to_give_ranges(small_recipe: MakeRecipe) -> None:
    """No range would make every trial the same. What it says to type works with any objective."""
    recipe = small_recipe(objective=Spectral.Config())
    with pytest.raises(BadSetting, match="--over learning_rate=1e-4") as told:
        ranges_of(recipe)
    assert len(ranges_of(recipe, re.findall(r"--over (\S+?)[ ;]", str(told.value)))) == 2


def test_values_go_into_the_recipe_and_nothing_else_changes(small_recipe: MakeRecipe) -> None:
    """With as many digits as people read; what does not fit is refused."""
    recipe = small_recipe()
    changed = with_values(recipe, {"learning_rate": 0.00123456789, "objective.si_sdr": 0.5, "model.width": 16})
    assert (changed.learning_rate, changed.objective.si_sdr, changed.model.width) == (0.00123457, 0.5, 16)
    back = {"learning_rate": 1e-3, "objective.si_sdr": 0.02, "model.width": 8}
    assert with_values(changed, back) == recipe
    with pytest.raises(BadSetting, match="learning_rate=-1"):
        with_values(recipe, {"learning_rate": -1})


def test_a_trial_is_judged_at_every_ninth_of_its_steps(small_recipe: MakeRecipe) -> None:
    """Each look has a checkpoint, and the warm-up keeps its share; model, objective and seed are the recipe's."""
    recipe = small_recipe(steps=1000, warmup_steps=100, validate_every=500, checkpoint_every=500)
    trial = for_trial(recipe, 90)
    assert (trial.steps, trial.warmup_steps) == (90, 9)
    assert trial.validate_every == trial.checkpoint_every == 90 // LOOKS
    changed = {name for name in Recipe.model_fields if getattr(trial, name) != getattr(recipe, name)}
    assert (
        changed == {"steps", "warmup_steps", "validate_every", "checkpoint_every"}
        and changed - {"warmup_steps"} <= FIXED
    )
    assert for_trial(small_recipe(), 2).validate_every == 1


def test_what_is_searched_is_no_part_of_what_is_trained(small_recipe: MakeRecipe) -> None:
    """A recipe with other ranges is the same training: same digest, same stage key, no trace in what it leaves."""
    searched = small_recipe(search={"learning_rate": {"low": 1e-4, "high": 1e-2}})
    assert searched.digest() == small_recipe().digest()
    assert "search" not in searched.model_dump()


def test_a_decade_is_looked_through_on_a_logarithmic_scale() -> None:
    """As learning rates should be; narrow ranges, and those that reach zero, evenly."""
    assert is_logarithmic(Range(low=1e-4, high=1e-2)) and is_logarithmic(Range(low=1, high=10))
    assert not is_logarithmic(Range(low=1, high=9)) and not is_logarithmic(Range(low=0, high=1))
