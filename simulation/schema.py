"""The base of all configuration: frozen, strict pydantic, with one canonical JSON form and its digest.

A field that can be drawn is an `Amount` (a number, or a `Range` or `OneOf` to draw it from), a `Pick` (a recording's
id, or a `Choice` of one), or of any type `| OneOf`. Drawing replaces every `Range`, `OneOf` and `Choice` by what was
drawn; the object stays the same type.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import accumulate
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from simulation.errors import BadSetting


class Schema(BaseModel):
    """Frozen settings; unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    def canonical(self) -> bytes:
        """JSON with sorted keys and no blanks: equal objects have equal bytes."""
        return canonical_json(self.model_dump(mode="json"))

    def digest(self) -> str:
        """sha256 of the canonical form, 64 hex characters."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @classmethod
    def parse(cls, data: bytes | str | dict[str, Any], where: str) -> Self:
        """Validate JSON text or a dict; errors are `BadSetting`, naming `where` it came from."""
        try:
            if isinstance(data, bytes | str):
                return cls.model_validate_json(data)
            return cls.model_validate(data)
        except ValidationError as error:
            raise BadSetting(f"{where} is not a valid {cls.__name__}: {explain(error, _keys(cls))}") from None


class Range(Schema):
    """Draw uniformly from low to high (both in the unit of the field that holds it)."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

    def draw(self, rng: np.random.Generator) -> float:
        """One number, rounded to 9 digits so that it reads well and survives JSON."""
        return round(float(self.low + (self.high - self.low) * rng.random()), 9)


Scalar = str | bool | int | float
"""What a `OneOf` holds: words, numbers, yes and no."""


class OneOf(Schema):
    """Draw one of these values (each must be one that the field could hold), as often as its weight says."""

    values: tuple[Scalar, ...] = Field(min_length=1)

    weights: tuple[Annotated[float, Field(gt=0.0)], ...] | None = None
    """One for each value, in any unit; equal where None."""

    @model_validator(mode="after")
    def _a_weight_each(self) -> "OneOf":
        if self.weights is not None and len(self.weights) != len(self.values):
            raise ValueError(f"there are {len(self.values)} values and {len(self.weights)} weights; give one to each")
        return self

    def draw(self, rng: np.random.Generator) -> Scalar:
        """One value. Built on `random` alone, whose stream NumPy keeps from version to version."""
        ends = list(accumulate(self.weights or (1.0,) * len(self.values)))
        return self.values[bisect_right(ends, rng.random() * ends[-1], hi=len(ends) - 1)]


def _form(value: Any) -> str:
    """Which of the three an amount is, so that a fault is told of that one alone."""
    if isinstance(value, OneOf) or (isinstance(value, dict) and "values" in value):
        return "one_of"
    return "range" if isinstance(value, Range | dict) else "number"


Amount = Annotated[
    Annotated[float, Tag("number")] | Annotated[Range, Tag("range")] | Annotated[OneOf, Tag("one_of")],
    Discriminator(_form),
]


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no blanks, UTF-8; NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def explain(error: ValidationError, keys: Iterable[str] = ()) -> str:
    """A pydantic report in one line: field, what is wrong, and what was found. `keys` are those that may be meant."""
    problems = error.errors(include_url=False)
    places = [problem["loc"] for problem in problems]
    return "; ".join(
        _problem(problem, keys)
        for problem in problems
        if not any(
            len(place) > len(problem["loc"]) and place[: len(problem["loc"])] == problem["loc"] for place in places
        )
        and not _of_another_form(problem, places)
    )  # what is wrong with a whole only because a part of it is wrong is left out


def _of_another_form(problem: Any, places: list[tuple[int | str, ...]]) -> bool:
    """Whether it says that a value is not what it does not try to be: a word no object, an object no word."""
    *parent, _ = problem["loc"] or ("",)
    beside = [place for place in places if place != problem["loc"] and list(place[: len(parent)]) == parent]
    if isinstance(problem["input"], dict):
        wants_a_scalar = problem["type"] == "literal_error" or problem["type"].endswith("_type")
        return wants_a_scalar and any(len(place) > len(problem["loc"]) for place in beside)
    return problem["type"] == "model_type" and any(len(place) == len(problem["loc"]) for place in beside)


def _problem(problem: Any, keys: Iterable[str]) -> str:
    *_, last = steps = [str(step) for step in problem["loc"] if "[" not in str(step)] or ["the whole"]
    if problem["type"] == "extra_forbidden":
        close = [] if last in keys else get_close_matches(last, keys, n=1)  # it may belong elsewhere in the document
        return f"{'.'.join(steps)}: there is no such key" + (f"; did you mean {close[0]!r}?" if close else "")
    message = problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join(steps)}: {message} (found {repr(problem['input'])[:80]})"


def _keys(schema: type[Schema]) -> set[str]:
    """Every key that a document of this kind may have, at any depth."""
    document = schema.model_json_schema()
    parts = [document, *document.get("$defs", {}).values()]
    return {key for part in parts for key in part.get("properties", {})}
