"""How the parameters of one phase go down: their optimiser, its schedule, and fp16's gradient scaler."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, ExponentialLR, LinearLR, LRScheduler, SequentialLR

from training.models.base import Enhancer
from training.objectives import MODEL, Learner, Losses
from training.recipe import Recipe

LEAST_SCALE = 1.0
"""Of fp16's losses before their gradient is taken: where it overflows at this one too, scaling is not the trouble."""


class Descent:
    """One phase's parameters and everything that moves them."""

    def __init__(self, recipe: Recipe, learner: Learner, phase: str, device: torch.device) -> None:
        """Parameters whose learning rate is scaled to zero are left out: they are frozen."""
        rate = recipe.learning_rate if phase == MODEL else recipe.judge_learning_rate or recipe.learning_rate
        groups = parameter_groups(learner.model, learner.objective.trained(learner.model, phase), rate)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.clip_norm = recipe.clip_norm
        self.optimiser = torch.optim.AdamW(groups, rate, recipe.betas, weight_decay=recipe.weight_decay)
        self.schedule = schedule(self.optimiser, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss."""
        self.scaler.scale(loss).backward()

    def norm(self) -> Tensor:
        """Length of the gradient, which is shortened to `clip_norm` where it is longer."""
        self.scaler.unscale_(self.optimiser)
        return nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)

    def overflowed(self, losses: Losses, world: int) -> bool:
        """Whether a gradient that is not finite is fp16's: all losses are finite, and a smaller scale is left.

        All workers ask together, since all have the same gradient.
        """
        if not self.scaler.is_enabled():
            return False
        finite = losses.total.isfinite().all().float()
        if world > 1:
            torch.distributed.all_reduce(finite, torch.distributed.ReduceOp.MIN)
        return bool(finite) and self.scaler.get_scale() > LEAST_SCALE

    def step(self) -> None:
        """Go down once. fp16's scaler leaves out a step whose gradient overflowed, and scales less from then on."""
        self.scaler.step(self.optimiser)
        self.scaler.update()
        with warnings.catch_warnings():  # the schedule follows the run's steps, also one that was left out at the start
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.schedule.step()

    @property
    def learning_rate(self) -> float:
        """Of the first group, at the next step."""
        return float(self.schedule.get_last_lr()[0])

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {name: getattr(self, name).state_dict() for name in ("optimiser", "schedule", "scaler")}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)


def parameter_groups(model: Enhancer, trained: list[nn.Parameter], rate: float) -> list[dict[str, Any]]:
    """One group for each factor on the learning rate above zero, in the order in which they are met."""
    scales, groups = model.learning_rate_scales(), dict[float, list[nn.Parameter]]()
    factors = {parameter: _factor(name, scales) for name, parameter in model.named_parameters()}
    for parameter in trained:
        groups.setdefault(factors.get(parameter, 1.0), []).append(parameter)
    return [{"params": params, "lr": rate * factor} for factor, params in groups.items() if factor > 0]


def _factor(name: str, scales: dict[str, float]) -> float:
    prefixes = [prefix for prefix in scales if name.startswith(prefix)]
    return scales[max(prefixes, key=len)] if prefixes else 1.0


def schedule(optimiser: torch.optim.Optimizer, recipe: Recipe) -> LRScheduler:
    """A linear warm-up, then the recipe's way down."""
    steps = recipe.steps - recipe.warmup_steps
    fall: LRScheduler
    match recipe.schedule:
        case "cosine":
            fall = CosineAnnealingLR(optimiser, steps)
        case "exponential":
            fall = ExponentialLR(optimiser, recipe.decay ** (1 / recipe.decay_steps))
        case "constant":
            fall = ConstantLR(optimiser, 1.0, total_iters=0)
    if recipe.warmup_steps == 0:
        return fall
    rise = LinearLR(optimiser, 1 / recipe.warmup_steps, total_iters=recipe.warmup_steps)
    return SequentialLR(optimiser, [rise, fall], [recipe.warmup_steps])
