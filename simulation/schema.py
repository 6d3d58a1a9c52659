"""The base of all configuration: frozen, strict pydantic, with one canonical JSON form and its digest.

A field that can be drawn is an `Amount` (a number, or a `Range` to draw it from) or a `Pick` (a recording's id, or a
`Choice` of one). Drawing replaces every `Range` and `Choice` by what was drawn; the object stays the same type.
"""

import hashlib
import json
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

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
            raise BadSetting(f"{where} is not a valid {cls.__name__}: {explain(error)}") from None


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


Amount = float | Range


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no blanks, UTF-8; NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def explain(error: ValidationError) -> str:
    """A pydantic report in one line: field, what is wrong, and what was found."""
    parts = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(step) for step in problem["loc"]) or "value"
        found = repr(problem["input"])
        parts.append(f"{place}: {problem['msg']} (found {found[:80]})")
    return "; ".join(parts)
