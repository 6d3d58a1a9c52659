"""Pairs that wait some steps before a judge learns from them, the same pairs on all workers of a run."""

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.nn import functional

Pairs: TypeAlias = Float[Tensor, "items 2 samples"]
"""A clean waveform and the enhanced one, for each item."""


class Waiting(nn.Module):
    """Keeps what each of the last `delay` steps made.

    Every worker keeps the items of all, in their order in the batch, and takes its own share of them back. So what a
    judge learns follows neither the number of workers nor a change of it, and the state of any worker is that of the
    run; it survives a checkpoint as tensors.
    """

    def __init__(self, delay: int) -> None:
        super().__init__()
        self.delay = delay
        self.steps: dict[int, Pairs] = {}
        """The whole batch of each step that still waits."""
        self._now, self._taken = 0, 0
        self._made: list[Pairs] = []

    def begin(self, step: int) -> None:
        """From now on it is that step."""
        self._now, self._taken, self._made = step, 0, []

    def put(self, clean: Float[Tensor, "batch samples"], enhanced: Float[Tensor, "batch samples"]) -> None:
        """Add the next piece of this worker's share of the step's batch."""
        self._made.append(torch.stack([clean, enhanced], dim=1).detach())

    def end(self) -> Pairs | None:
        """The step is over, its pairs wait from now on: this worker's share of them. All workers call this together."""
        if self._made:
            self.steps[self._now] = _gathered(torch.cat(self._made))
        self._made = []
        self.steps = {step: pairs for step, pairs in self.steps.items() if step > self._now - self.delay}
        return self.share(self._now)

    def take(self, like: Float[Tensor, "batch samples"]) -> Pairs | None:
        """The next pairs of this worker's share of the batch that has waited long enough, as many as `like` has items.

        Fewer where the share ends before, None before there is one or after its end; on the device and in the precision
        of `like`.
        """
        share = self.share(self._now - self.delay)
        if share is None:
            return None
        first, self._taken = self._taken, self._taken + len(like)
        taken = share[first : self._taken].to(like)
        return taken if len(taken) else None

    def share(self, step: int) -> Pairs | None:
        """This worker's part of a batch that waits."""
        if step not in self.steps:
            return None
        rank, world = _place()
        pairs = self.steps[step]
        return pairs[rank * len(pairs) // world : (rank + 1) * len(pairs) // world]

    def get_extra_state(self) -> dict[str, Tensor]:
        """What waits, by step."""
        return {str(step): pairs for step, pairs in self.steps.items()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Go on with what waited."""
        self.steps = {int(step): pairs for step, pairs in state.items()}


def _place() -> tuple[int, int]:
    """Rank and number of the workers of this run."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _gathered(share: Pairs) -> Pairs:
    """The shares of all workers, in the order of their ranks; they may differ in size and in length."""
    _, world = _place()
    if world == 1:
        return share
    mine = torch.tensor(share.shape, device=share.device)
    shapes = [torch.empty_like(mine) for _ in range(world)]
    distributed.all_gather(shapes, mine)
    items, _, samples = torch.stack(shapes).amax(0).tolist()
    filled = functional.pad(share, (0, samples - share.shape[-1], 0, 0, 0, items - len(share)))
    shares = [torch.empty_like(filled) for _ in range(world)]
    distributed.all_gather(shares, filled)
    return torch.cat([each[: int(shape[0])] for each, shape in zip(shares, shapes, strict=True)])
