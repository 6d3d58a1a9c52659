"""How a network learns: losses per item, and whatever further networks the objective owns.

An objective sees the network itself, so that it may use its parts, a teacher beside it, or a sampler around it.
"""

from typing import NamedTuple, TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

from simulation.schema import Schema
from training.models.base import Enhancer

PerItem: TypeAlias = Float[Tensor, " batch"]
"""One number for each item of a batch."""


class Losses(NamedTuple):
    """What an objective says about each item of a batch; less is better."""

    total: PerItem
    """What is minimised."""
    parts: dict[str, PerItem]
    """Its terms before weighting, by name, for the record."""


class ObjectiveConfig(Schema):
    """Settings of an objective; its `kind` names it in recipes."""

    kind: str

    def build(self) -> "Objective":
        """The objective."""
        raise NotImplementedError


class Objective(nn.Module):
    """A way of learning."""

    def losses(
        self, model: Enhancer, noisy: Float[Tensor, "batch samples"], clean: Float[Tensor, "batch samples"]
    ) -> Losses:
        """Losses of each item by itself, so that a batch may be dealt out to workers unevenly."""
        raise NotImplementedError


class Learner(nn.Module):
    """A network and its objective as one module, so that distributed training wraps both and hides neither."""

    def __init__(self, model: Enhancer, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, noisy: Float[Tensor, "batch samples"], clean: Float[Tensor, "batch samples"]) -> Losses:
        """Losses of each item."""
        return self.objective.losses(self.model, noisy, clean)
