"""What a search varies: ranges over fields of a recipe, and recipes that take values from them.

A field is named with dots, as `learning_rate` or `objective.si_sdr`. A range of whole numbers gives whole numbers; one
whose ends differ by ten times or more is looked through on a logarithmic scale, as learning rates should be.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from simulation.errors import BadSetting, UnknownName
from simulation.schema import OneOf, Range, Scalar
from training.recipe import Recipe

Ranges = Mapping[str, Range | OneOf]

LOOKS = 9
"""Times that a trial is judged."""
SURVIVORS = 3
"""One trial in this many goes on from each rung; the next rung is this many times the steps."""
DIGITS = 6
"""Significant ones of a value that is tried, so that recipes read well."""
FIXED = frozenset(
    {
        "name",
        "use",
        "network",
        "steps",
        "seed",
        "log_every",
        "validate_every",
        "validation_items",
        "checkpoint_every",
        "keep_best",
    }
)
"""What trials must have in common to be compared, and what names them."""


def ranges_of(recipe: Recipe, over: Sequence[str] = ()) -> dict[str, Range | OneOf]:
    """What to search: all that the recipe declares, or only what `over` names, as NAME, NAME=LOW..HIGH or NAME=A,B,C.

    Raises BadSetting for what cannot be searched, saying what can.
    """
    if not over and not recipe.search:
        raise BadSetting(
            f"The recipe {recipe.name} declares no ranges to search. Give some: --over learning_rate=1e-4..1e-2 "
            "--over weight_decay=0,0.01,0.1; or put them into the recipe's own document under `search`."
        )
    ranges = dict(_given(word, recipe) for word in over) or dict(recipe.search)
    for name, choice in ranges.items():
        _refuse_what_cannot_be_searched(recipe, name, choice)
    return ranges


def with_values(recipe: Recipe, values: Mapping[str, Scalar]) -> Recipe:
    """The recipe with these values in its fields; BadSetting where one does not fit."""
    settings = recipe.model_dump(mode="json")
    for name, value in values.items():
        *parents, last = name.split(".")
        place = settings
        for parent in parents:
            place = place[parent]
        place[last] = float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
    changed = ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items()
    )
    return Recipe.parse(settings, f"{recipe.name} with {changed}")


def for_trial(recipe: Recipe, steps: int) -> Recipe:
    """The recipe as it is tried: these steps, its warm-up in proportion, judged (and kept) at every ninth of them."""
    every = -(-steps // LOOKS)
    return recipe.model_copy(
        update={
            "steps": steps,
            "warmup_steps": recipe.warmup_steps * steps // recipe.steps,
            "log_every": min(recipe.log_every, every),
            "validate_every": every,
            "checkpoint_every": every,
            "keep_best": None,
        }
    )


def rungs(trial: Recipe) -> list[int]:
    """Steps after which a trial may be stopped: that of its first look, so many times as much, ..., and its last."""
    found = [trial.validate_every]
    while found[-1] * SURVIVORS < trial.steps:
        found.append(found[-1] * SURVIVORS)
    return found if found[-1] == trial.steps else [*found, trial.steps]


def is_logarithmic(choice: Range) -> bool:
    """Whether a range is looked through on a logarithmic scale."""
    return choice.low > 0 and choice.high / choice.low >= 10


def is_whole(recipe: Recipe, name: str) -> bool:
    """Whether a field takes whole numbers."""
    value = _fields(recipe)[name]
    return isinstance(value, int) and not isinstance(value, bool)


def _given(word: str, recipe: Recipe) -> tuple[str, Range | OneOf]:
    """One --over: a name with what was declared for it, or with what is given behind the =."""
    name, mark, text = (part.strip() for part in word.partition("="))
    if not mark:
        if name not in recipe.search:
            raise UnknownName(f"declared range of {recipe.name} (give one, as {name}=LOW..HIGH)", name, recipe.search)
        return name, recipe.search[name]
    if ".." in text:
        low, _, high = text.partition("..")
        return name, Range.parse({"low": low, "high": high}, f"--over {word}")
    values = [_scalar(part) for part in text.split(",") if part.strip()]
    if len(values) < 2:
        raise BadSetting(f"--over {word} leaves nothing to choose. Expected NAME=LOW..HIGH or NAME=A,B,C.")
    return name, OneOf(values=tuple(values))


def _scalar(text: str) -> Scalar:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.strip(), text.strip())


def _refuse_what_cannot_be_searched(recipe: Recipe, name: str, choice: Range | OneOf) -> None:
    known = _fields(recipe)
    if name not in known:
        raise UnknownName(f"field to search in {recipe.name}", name, known)
    if isinstance(choice, OneOf) and choice.weights is not None:
        raise BadSetting(f"{name}: a search tries each value as often. Leave out the weights.")
    if isinstance(choice, Range) and isinstance(known[name], bool):
        raise BadSetting(f"{name} is true or false, with nothing between. Expected {name}=true,false.")
    ends: tuple[Scalar, ...] = (choice.low, choice.high) if isinstance(choice, Range) else choice.values
    if isinstance(choice, Range) and is_whole(recipe, name):
        first, last = math.ceil(choice.low), math.floor(choice.high)
        if first > last:
            raise BadSetting(f"{name} takes whole numbers, and there is none from {choice.low} to {choice.high}.")
        ends = (first, last)
    for end in ends:
        with_values(recipe, {name: end})


def _fields(recipe: Recipe) -> dict[str, Any]:
    """Every field that a search may vary, by its name with dots, and its value."""
    found: dict[str, Any] = {}

    def collect(prefix: str, settings: Mapping[str, Any]) -> None:
        for name, value in settings.items():
            if isinstance(value, Mapping):
                collect(f"{prefix}{name}.", value)
            elif not isinstance(value, list) and name != "kind":
                found[f"{prefix}{name}"] = value

    collect("", recipe.model_dump(mode="json", exclude=set(FIXED)))
    return found
