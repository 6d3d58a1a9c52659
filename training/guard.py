"""Stops a run at a gradient that is not finite, before anything spoilt leaves it."""

from collections import deque
from typing import NamedTuple

from torch import Tensor

from simulation.errors import TrainingDiverged
from training.descent import Descent
from training.objectives import Losses
from training.recipe import Recipe


class Watched(NamedTuple):
    """One gradient, and what a person would want to know of it."""

    descent: Descent
    losses: Losses
    norm: Tensor
    step: int
    ids: tuple[str, ...]


class Guard:
    """Looks at every gradient's length.

    On a CPU that is before the optimiser's step. On other devices to look is to wait until all that was asked of the
    device is done; so a gradient is looked at when the next one is on its way, and before anything is recorded or
    saved: what the optimiser may have spoilt meanwhile stays in memory.
    """

    def __init__(self, recipe: Recipe, world: int) -> None:
        self.recipe, self.world = recipe, world
        self.unseen: deque[Watched] = deque()

    def watch(self, descent: Descent, losses: Losses, norm: Tensor, step: int, ids: tuple[str, ...]) -> None:
        """Remember a gradient, the same on all workers, and look at those that cost no wait."""
        self.unseen.append(Watched(descent, losses, norm, step, ids))
        self.settle(leave=0 if norm.device.type == "cpu" else 1)

    def settle(self, leave: int = 0) -> None:
        """Look at all but the last `leave`. All workers do so together. Raises TrainingDiverged."""
        while len(self.unseen) > leave:
            seen = self.unseen.popleft()
            if not seen.norm.isfinite() and not seen.descent.overflowed(seen.losses, self.world):
                raise TrainingDiverged(
                    f"Training {self.recipe.name} met a gradient that is not finite at step {seen.step} (items "
                    f"{', '.join(seen.ids[:4])}). The last checkpoint before it is kept. Look at these items with "
                    "`unmuffle corpus replay`, or lower learning_rate or clip_norm in the recipe."
                )
