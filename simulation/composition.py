"""Composition: which of several degradations happen to a row, and in which order.

A scenario's case lists parts. A part is a degradation, or `Some` of several parts; a row lists what came of them, one
flat sequence of degradations with numbers. Draws are keyed by the part's name, so a part that is added, made rarer or
given another range changes no number of the others.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulation.chance import Chance
from simulation.degradations import AnyDegradation
from simulation.schema import OneOf, Schema


class Some(Schema):
    """Some of several parts: how many is drawn, which ones without replacement, in the order given or drawn.

    Without `count` all of them happen together: `Some(probability=0.5, of=(a, b))` is a and b, in half of the rows. A
    member that is picked may still have a probability of its own.

    Source: the extra distortions of the URGENT 2025 simulator (none to three of four, in drawn order); the exclusive
    branches of the SSI 2024 demo synthesiser (a codec, else a resampler).
    """

    kind: Literal["some"] = "some"

    label: str = Field(default="", pattern="^[a-z0-9_]*$")
    """Name of this part within its case; `some` where empty. It keys the draws."""

    probability: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the case's rows in which any of the members happen."""

    of: tuple["Part", ...] = Field(min_length=1)
    """The members."""

    count: int | OneOf | None = None
    """How many of the members are picked; all where None."""

    weights: tuple[Annotated[float, Field(gt=0.0)], ...] | None = None
    """One for each member: how readily it is picked beside the others; equal where None."""

    order: Literal["given", "drawn"] = "given"
    """Whether what was picked happens in the order of `of`, or in the order in which it was picked."""

    @property
    def name(self) -> str:
        """The label, or the kind where there is none."""
        return self.label or self.kind

    @model_validator(mode="after")
    def _possible(self) -> "Some":
        counts = self.count.values if isinstance(self.count, OneOf) else (self.count or 0,)
        if not all(isinstance(count, int) and 0 <= count <= len(self.of) for count in counts):
            raise ValueError(f"count must be whole numbers from 0 to {len(self.of)}, the members of {self.name!r}")
        if self.weights is not None and len(self.weights) != len(self.of):
            raise ValueError(f"{self.name!r} has {len(self.of)} members and {len(self.weights)} weights; one each")
        return self

    def picked(self, chance: Chance) -> list["Part"]:
        """The members that happen in this row, in their order; their own draws are still to come.

        Each member runs for a time drawn by its own key, the shorter the larger its weight, and the first `count` to
        arrive are picked: sampling without replacement by weight (Efraimidis and Spirakis 2006).
        """
        if chance.rng("probability").random() >= self.probability:
            return []
        weights = self.weights or (1.0,) * len(self.of)
        times = [
            -math.log1p(-chance.rng(f"turn.{part.name}").random()) / weight
            for part, weight in zip(self.of, weights, strict=True)
        ]
        arrived = sorted(range(len(self.of)), key=times.__getitem__)[: self._drawn_count(chance)]
        return [self.of[place] for place in (arrived if self.order == "drawn" else sorted(arrived))]

    def _drawn_count(self, chance: Chance) -> int:
        count = self.count.draw(chance.rng("count")) if isinstance(self.count, OneOf) else self.count
        return len(self.of) if count is None else int(count)


Part = Annotated[AnyDegradation | Some, Field(discriminator="kind")]
"""What a case is made of."""

Some.model_rebuild()


def draw_parts(parts: Iterable[Part], chance: Chance) -> Iterator[AnyDegradation]:
    """What happens to a row, in order: every range a number."""
    for part in parts:
        own = chance.of(part.name)
        if isinstance(part, Some):
            yield from draw_parts(part.picked(own), chance)
        elif (drawn := part.draw(own)) is not None:
            yield drawn


def members(parts: Iterable[Part]) -> Iterator[AnyDegradation]:
    """Every degradation that may happen."""
    for part in parts:
        if isinstance(part, Some):
            yield from members(part.of)
        else:
            yield part


def names(parts: Iterable[Part]) -> Iterator[str]:
    """The names of all parts: what keys the draws."""
    for part in parts:
        yield part.name
        if isinstance(part, Some):
            yield from names(part.of)
