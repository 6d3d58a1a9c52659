"""Where a run stands: means of its losses for the record, speed and time left for a person who waits."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from training.objectives import MODEL, Losses
from training.recipe import Recipe

T = TypeVar("T")

INTERVAL_S = 0.5
"""Between two words to the person who waits: each makes the device finish what it was told to do."""


@dataclass(frozen=True)
class Progress:
    """What a person who waits wants to know."""

    step: int
    steps: int
    losses: dict[str, float]
    """What each phase minimises, by its name: the mean over this worker's items of the last step."""
    items_per_s: float
    """Of all workers together."""
    input_wait_share: float
    """Share of the time in which the loop waited for a batch; 0 to 1."""
    remaining_s: float

    def line(self) -> str:
        """The same in words."""
        return f"step {self.step} of {self.steps}, {self.facts()}"

    def facts(self) -> str:
        """In words, without how far it is."""
        minutes, seconds = divmod(round(self.remaining_s), 60)
        losses = ", ".join(
            f"{'' if phase == MODEL else phase + ' '}loss {loss:.4f}" for phase, loss in self.losses.items()
        )
        return (
            f"{losses}, {self.items_per_s:.1f} items a second, "
            f"{self.input_wait_share:.0%} waiting for data, {minutes}:{seconds:02d} left"
        )


class Tally:
    """Means of the losses over all items of all workers since the last row; kept where the losses are made.

    What is not finite does not count: parts that an objective could not measure, gradients that overflowed in fp16.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, Tensor] = {}
        """For each name the sum and the number of what counts, in float64."""

    def add(self, phase: str, losses: Losses, norm: Tensor) -> None:
        """Count one step's share of this worker in one phase."""
        prefix = "train" if phase == MODEL else f"train/{phase}"
        counted = [*_counted(torch.stack([losses.total, *losses.parts.values()])), *_counted(norm.reshape(1, 1))]
        for name, each in zip(("loss", *losses.parts, "gradient_norm"), counted, strict=True):
            place = f"{prefix}/{name}"
            self.sums[place] = self.sums[place] + each if place in self.sums else each

    def gather(self, world: int) -> None:
        """Add up what all workers counted; all ask together. Every worker has the same sums then."""
        if world > 1 and self.sums:
            sums = torch.stack(list(self.sums.values()))
            torch.distributed.all_reduce(sums)
            self.sums = dict(zip(self.sums, sums, strict=True))

    def means(self, world: int) -> dict[str, float]:
        """The means of what all workers counted; counting starts again. All ask together."""
        self.gather(world)
        sums = torch.stack(list(self.sums.values())).tolist()
        found = {name: total / count for name, (total, count) in zip(self.sums, sums, strict=True) if count}
        self.clear()
        return found

    def clear(self) -> None:
        """Start again."""
        self.sums = {}

    def resume(self, sums: dict[str, Tensor]) -> None:
        """Go on with what had been counted."""
        self.sums = {name: each.to(self.device) for name, each in sums.items()}


def _counted(values: Float[Tensor, "names items"]) -> Float[Tensor, "names 2"]:
    """For each name the sum and the number of its finite values, in float64."""
    finite = values.isfinite()
    return torch.stack([values.double().where(finite, 0.0).sum(1), finite.double().sum(1)], dim=1)


class Clock:
    """Speed since this process took the run up, and how much of that time went by without a batch."""

    def __init__(self, recipe: Recipe, first_step: int) -> None:
        self.recipe, self.first_step = recipe, first_step
        self.started = time.monotonic()
        self.waited_s, self.told = 0.0, float("-inf")

    def waiting(self, stream: Iterable[T]) -> Iterator[T]:
        """What the stream gives; the time it takes is noted."""
        batches = iter(stream)
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self.waited_s += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def due(self, step: int) -> bool:
        """Whether it is time for a word: at once, then twice a second, and at the last step."""
        now = time.monotonic()
        if now - self.told < INTERVAL_S and step < self.recipe.steps:
            return False
        self.told = now
        return True

    def progress(self, step: int, losses: dict[str, Losses]) -> Progress:
        """Where the run stands after a step."""
        elapsed_s = max(time.monotonic() - self.started, 1e-9)
        steps_per_s = (step - self.first_step) / elapsed_s
        return Progress(
            step=step,
            steps=self.recipe.steps,
            losses={phase: each.total.mean().item() for phase, each in losses.items()},
            items_per_s=steps_per_s * self.recipe.batch_size,
            input_wait_share=self.waited_s / elapsed_s,
            remaining_s=(self.recipe.steps - step) / steps_per_s,
        )
