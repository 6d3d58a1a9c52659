"""What every degradation keeps: draw first, apply second; a mixture in, a mixture of the same length out.

A degradation with ranges stands in a scenario; the same degradation with numbers stands in a manifest row. `draw` makes
the second from the first and is the only place where chance enters. `apply` reads no randomness.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationInfo, field_validator

from simulation.chance import Chance
from simulation.rir import Rir
from simulation.schema import Amount, OneOf, Range, Scalar, Schema

Waveform = NDArray[np.float32]
"""Mono samples, [samples], full scale at ±1."""


@dataclass(frozen=True)
class Mixture:
    """A clean and a noisy waveform, aligned sample by sample, and what was measured while the noisy one was made."""

    clean: Waveform
    noisy: Waveform
    sample_rate: int
    measured: dict[str, float] = field(default_factory=dict)


class Recordings(Protocol):
    """Where `apply` finds the recordings that a row names."""

    def samples(self, recording: str) -> Waveform:
        """The recording with this id, mono, at the corpus's sample rate."""

    def rir(self, recording: str) -> Rir:
        """The room impulse response with this id, measured or simulated."""


class Choice(Schema):
    """Draw one recording of a kind: first its group (noise, room, speaker) uniformly, then a member uniformly."""

    of: Literal["noise", "rir", "speech"]


Pick = str | Choice
"""A recording's id, or the `Choice` it will be drawn by."""


class Drawable(Schema):
    """Settings that may hold ranges and choices: those of a degradation, or of a part of one."""

    def with_values(self, chance: Chance, within: str = "") -> Self:
        """The same with values and ids in place of ranges and choices; each is keyed by its field's name, `within`."""
        drawn = {name: _with_value(getattr(self, name), chance, f"{within}{name}") for name in type(self).model_fields}
        return self.model_copy(update=drawn)

    @field_validator("*")
    @classmethod
    def _values_that_the_field_could_hold(cls, value: Any, info: ValidationInfo) -> Any:
        """Each of a `OneOf`'s values as the field itself would have taken it."""
        if not isinstance(value, OneOf) or info.field_name is None:
            return value
        field = cls.model_fields[info.field_name]
        held: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
        return value.model_copy(update={"values": tuple(held.validate_python(each) for each in value.values)})


def _with_value(value: Any, chance: Chance, key: str) -> Any:
    if isinstance(value, Range | OneOf):
        return value.draw(chance.rng(key))
    if isinstance(value, Choice):
        return chance.pick(value.of, key)
    if isinstance(value, Drawable):
        return value.with_values(chance, f"{key}.")
    if isinstance(value, tuple):
        return tuple(_with_value(each, chance, f"{key}.{place}") for place, each in enumerate(value))
    return value


class Degradation(Drawable):
    """Anything that turns clean into noisy; the members of the family are in `simulation.degradations`."""

    kind: str

    label: str = Field(default="", pattern="^[a-z0-9_]*$")
    """Name of this operation within its case; the kind where empty. It keys the draws, so renaming redraws."""

    probability: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the case's rows that get this degradation."""

    @property
    def name(self) -> str:
        """The label, or the kind where there is none."""
        return self.label or self.kind

    def draw(self, chance: Chance) -> Self | None:
        """The same degradation with values and ids in place of ranges and choices; None when it does not happen."""
        if chance.rng("probability").random() >= self.probability:
            return None
        return self.with_values(chance).model_copy(update={"probability": 1.0})

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """Degrade; pure, of equal length, aligned at lag 0. `BadAudio` where a recording cannot be used."""
        raise NotImplementedError

    def check(self, sample_rate: int) -> None:
        """`ValueError` where something that may be drawn cannot be used at this sample rate (Hz)."""


Drawn = TypeVar("Drawn", bound=Scalar | None)


def drawn(value: Drawn | OneOf) -> Drawn:
    """The value that was drawn; a `OneOf` means that somebody forgot to draw."""
    if isinstance(value, OneOf):
        raise RuntimeError(f"{value!r} is still a choice; call draw(chance) before apply(mixture, recordings)")
    return value


def number(value: Amount) -> float:
    """The number that was drawn; a range or choice means that somebody forgot to draw."""
    if isinstance(value, Range):
        raise RuntimeError(f"{value!r} is still a range; call draw(chance) before apply(mixture, recordings)")
    return drawn(value)


def extremes(value: Amount) -> tuple[float, float]:
    """The lowest and the highest number that may be drawn."""
    if isinstance(value, Range):
        return value.low, value.high
    if isinstance(value, OneOf):
        numbers = [float(each) for each in value.values]
        return min(numbers), max(numbers)
    return value, value


def recording_id(value: Pick) -> str:
    """The id that was drawn; a choice means that somebody forgot to draw."""
    if isinstance(value, Choice):
        raise RuntimeError(f"{value!r} is still a choice; call draw(chance) before apply(mixture, recordings)")
    return value
