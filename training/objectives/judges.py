"""What a judge is: a network that learns to tell how good enhanced speech is, and tells the model."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from simulation.schema import Schema
from training.objectives.base import Losses
from training.objectives.waiting import Pairs


class Heard(NamedTuple):
    """Pieces of speech as judges look at them, at the level that the distances beside them are measured at."""

    waveform: Float[Tensor, "batch samples"]
    magnitude: Float[Tensor, "batch bins frames"]
    """Compressed."""


class JudgeConfig(Schema):
    """Settings of a judge; its `kind` names it in objectives."""

    kind: str

    def build(self) -> "Judge":
        """The judge, with fresh weights."""
        raise NotImplementedError


class Judge(nn.Module):
    """A network that judges. All losses are per item; the names of parts differ from those of other judges."""

    def persuade(self, enhanced: Heard, clean: Heard) -> Losses:
        """What the model minimises, weighted, in order to be judged well."""
        raise NotImplementedError

    def learn(self, clean: Heard, made: tuple[Heard, Heard] | None) -> Losses:
        """What the judge itself minimises: over clean speech, and over pairs (clean, enhanced) that the model made.

        Of pairs there may be none, or fewer than of clean speech; a loss that is missing counts as zero.
        """
        raise NotImplementedError

    def expect(self, pairs: Pairs) -> None:
        """Told which pairs it will learn from in some steps."""
