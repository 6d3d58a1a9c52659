"""Objectives that measure how far the enhanced speech is from the clean: what judges may stand beside."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from training.models.base import Enhancer
from training.objectives.base import MODEL, Losses, Objective
from training.objectives.judges import Heard


class Answer(NamedTuple):
    """What an objective says of a network's answer, and how judges hear that and the clean speech."""

    losses: Losses
    enhanced: Heard
    clean: Heard


class Distances(Objective):
    """One phase, whose losses are distances."""

    def answer(
        self, model: Enhancer, noisy: Float[Tensor, "batch samples"], clean: Float[Tensor, "batch samples"]
    ) -> Answer:
        """Ask the network, and compare."""
        raise NotImplementedError

    def level(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 1"]:
        """What all waveforms of an item are multiplied by before anything looks at them."""
        raise NotImplementedError

    def heard(self, waveform: Float[Tensor, "batch samples"]) -> Heard:
        """A waveform at that level as judges hear it."""
        raise NotImplementedError

    def losses(
        self,
        model: Enhancer,
        noisy: Float[Tensor, "batch samples"],
        clean: Float[Tensor, "batch samples"],
        phase: str = MODEL,
    ) -> Losses:
        """Those of the answer."""
        return self.answer(model, noisy, clean).losses
