"""How a network learns: losses per item, and whatever further networks the objective owns.

An objective sees the network itself, so that it may use its parts, a teacher beside it, or a sampler around it. A step
has one phase for each group of parameters that learns by itself: most objectives have one, adversarial ones two.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from simulation.schema import Schema
from training.derivation import Maker
from training.models.base import Enhancer

PerItem: TypeAlias = Float[Tensor, " batch"]
"""One number for each item of a batch."""

MODEL = "model"
"""The phase in which the network itself learns; every objective has it."""


class Losses(NamedTuple):
    """What an objective says about each item of a batch; less is better."""

    total: PerItem
    """What is minimised."""
    parts: dict[str, PerItem]
    """Its terms before weighting, by name, for the record; a phase has the same names at every step, and NaN where one
    could not be measured."""

    @staticmethod
    def joined(pieces: list["Losses"]) -> "Losses":
        """Those of a batch out of those of its pieces, for the record: without their graph."""
        names = pieces[0].parts
        parts = {name: torch.cat([piece.parts[name].detach() for piece in pieces]) for name in names}
        return Losses(torch.cat([piece.total.detach() for piece in pieces]), parts)


class ObjectiveConfig(Schema):
    """Settings of an objective; its `kind` names it in recipes."""

    kind: str

    def build(self) -> "Objective":
        """The objective."""
        raise NotImplementedError

    def versions(self) -> list[str]:
        """Addresses of the versions that it learns from: teachers."""
        return []

    def wants_beside(self) -> bool:
        """Whether its objective has a `maker`, without building it."""
        return False


class Objective(nn.Module):
    """A way of learning.

    Chance comes from torch's global generator, which the loop seeds before each phase. What must survive a checkpoint
    beyond parameters and buffers goes through torch's `get_extra_state` and `set_extra_state`, as tensors and plain
    values. In evaluation mode, losses change nothing: validation asks for them too. Networks may run under autocast;
    what is measured on their outputs is kept out of it (`without_autocast`).
    """

    beside: Mapping[str, Tensor] = MappingProxyType({})
    """What the corpus holds beside the waveforms of this batch, [batch, ...] by name: see `maker`."""

    phases: tuple[str, ...] = (MODEL,)
    """What learns in each step, in this order; adversarial: ("judge", "model")."""

    def losses(
        self,
        model: Enhancer,
        noisy: Float[Tensor, "batch samples"],
        clean: Float[Tensor, "batch samples"],
        phase: str = MODEL,
    ) -> Losses:
        """Losses of each item by itself, so that a batch may be dealt out to workers unevenly.

        The total is what `phase` minimises; only the parameters that learn in it take part in gradients.
        """
        raise NotImplementedError

    def maker(self, model: Enhancer) -> Maker | None:
        """Makes what is wanted beside each row, out of what a fresh run begins with; None: nothing is wanted."""
        return None

    def trained(self, model: Enhancer, phase: str) -> list[nn.Parameter]:
        """What learns in a phase: the model's parameters in "model", the objective's own in any other; with the model's
        where there is no other."""
        own = list(self.parameters()) if phase != MODEL or self.phases == (MODEL,) else []
        return [*model.parameters(), *own] if phase == MODEL else own

    def meet(self, model: Enhancer) -> None:
        """Told which network is to learn, before anything does; a second time of no effect."""

    def step_begins(self, step: int) -> None:
        """Told before each step, counted from 0; of no effect unless an objective keeps time."""

    def step_ends(self) -> None:
        """Told by all workers together when all phases of a step are over, before anything is saved."""


class Learner(nn.Module):
    """A network and its objective as one module, so that distributed training wraps both and hides neither."""

    def __init__(self, model: Enhancer, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        objective.meet(model)

    def forward(
        self,
        noisy: Float[Tensor, "batch samples"],
        clean: Float[Tensor, "batch samples"],
        phase: str = MODEL,
        beside: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Losses:
        """Losses of each item in a phase."""
        with self.told(beside):
            return self.objective.losses(self.model, noisy, clean, phase)

    @contextmanager
    def told(self, beside: Mapping[str, Tensor]) -> Iterator[None]:
        """Within, network and objective find these tensors in their attribute `beside`."""
        self.objective.beside = dict(beside)
        try:
            with self.model.told(beside):
                yield
        finally:
            self.objective.beside = {}
