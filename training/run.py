"""What a training run is while it runs: everything that changes, and each worker's place."""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.beginnings import check_beginnings, take_over
from training.derivation import Maker
from training.descent import Descent
from training.models import Enhancer
from training.objectives import MODEL, Learner
from training.precision import prepare
from training.progress import Tally
from training.recipe import Recipe


@dataclass(frozen=True)
class Seat:
    """One worker's place among all."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Run:
    """Everything that changes while training, and nothing else: what a checkpoint holds.

    Chance is no part of it: what a phase draws is a pure function of (seed, step, rank, phase).
    """

    def __init__(self, recipe: Recipe, device: torch.device | None = None) -> None:
        """Weights are drawn on the CPU, so that they are the same on any device, and then moved."""
        torch.manual_seed(recipe.seed)
        device = device or torch.device("cpu")
        self.recipe = recipe
        check_beginnings(recipe)
        self.learner = Learner(recipe.model.build(), recipe.objective.build()).to(device)
        if recipe.begins_with is not None:
            take_over(self.learner.model, recipe.begins_with)
        self.average = averaged(self.learner.model, recipe.ema_decay)
        prepare(self.learner.model, recipe)
        self.descents = {phase: Descent(recipe, self.learner, phase, device) for phase in self.phases}
        self.step = 0
        self.tally = Tally(device)
        self.history: list[dict[str, float | int]] = []

    @property
    def phases(self) -> tuple[str, ...]:
        """What learns in a step, in this order."""
        return self.learner.objective.phases

    @property
    def released(self) -> Enhancer:
        """The network that is validated and released: the average over steps where the recipe asks for one."""
        return self.learner.model if self.average is None else cast(Enhancer, self.average.module)

    @property
    def learning_rates(self) -> dict[str, float]:
        """Those of the next step; the network's goes without its phase's name."""
        return {
            "learning_rate" if phase == MODEL else f"learning_rate/{phase}": descent.learning_rate
            for phase, descent in self.descents.items()
        }

    def turn(self, phase: str) -> Descent:
        """Let the parameters of a phase, and no others, ask for gradients."""
        descent = self.descents[phase]
        learning = set(map(id, descent.parameters))
        for parameter in self.learner.parameters():
            parameter.requires_grad_(id(parameter) in learning)
        return descent

    def state(self) -> dict[str, Any]:
        """All that is needed to go on, without pickled objects. What is tallied must be gathered before."""
        return {
            "learner": self.learner.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "descents": {phase: descent.state() for phase, descent in self.descents.items()},
            "step": self.step,
            "tally": self.tally.sums,
            "history": self.history,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.learner.load_state_dict(state["learner"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for phase, descent in self.descents.items():
            descent.resume(state["descents"][phase])
        self.tally.resume(state["tally"])
        self.step, self.history = state["step"], state["history"]


def maker_of(recipe: Recipe, device: torch.device | None = None) -> Maker | None:
    """What makes the tensors that the objective wants beside each row, from the weights that a run begins with."""
    if not recipe.objective.wants_beside():
        return None
    torch.manual_seed(recipe.seed)
    model = recipe.model.build()
    if recipe.begins_with is not None:
        take_over(model, recipe.begins_with)
    return recipe.objective.build().maker(model.to(device))


def averaged(model: Enhancer, decay: float | None) -> AveragedModel | None:
    """An exponential moving average of the weights of a network, its statistics those of the last step."""
    if decay is None:
        return None
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    return average.requires_grad_(False)
