"""Stopping between two steps, all workers at the same one: before a preemption, or when a budget is spent.

Any worker may hear of it: by SIGTERM, by Ray's notice that its node is to be drained, by the account of what the run
has cost. What each has heard is joined by an all-reduce of one number on the CPU. It is started after one step and read
after the next, while which gradients have travelled the same way, so nobody waits for it; a run stops one step later.
"""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
import torch.distributed

from training.loop import Seat


class Reason(IntEnum):
    """Why to stop; of two, the higher one counts."""

    NONE = 0
    BUDGET = 1
    """More would be spent than the budget allows."""
    PREEMPTED = 2
    """A worker is about to be taken away."""


@dataclass(frozen=True)
class Stopped:
    """What workers return that stopped before the last step, with a checkpoint of it in the store."""

    reason: Reason
    step: int


class Halt:
    """Asked by all workers after every step; answers all of them alike."""

    def __init__(self, seat: Seat, known: Callable[[int], Reason], heard: Callable[[int], Reason]) -> None:
        """`known(step)` is the same for all workers, `heard(step)` for this one. To be made by all together."""
        self.known, self.heard = known, heard
        self.group = torch.distributed.new_group(backend="gloo") if seat.world > 1 else None
        """For what workers tell each other beside the gradients, on the CPU."""
        self._travelling: tuple[Any, torch.Tensor] | None = None

    def __call__(self, step: int) -> Reason:
        """Whether to stop now, after this step; what several workers heard of it is one step old."""
        if self.group is None:
            return max(self.known(step), self.heard(step))
        answer = max(self.known(step), self._arrived())
        if answer is Reason.NONE:
            word = torch.tensor([int(self.heard(step))])
            travels = torch.distributed.all_reduce(
                word, torch.distributed.ReduceOp.MAX, group=self.group, async_op=True
            )
            self._travelling = travels, word
        return answer

    def _arrived(self) -> Reason:
        if self._travelling is None:
            return Reason.NONE
        travels, word = self._travelling
        travels.wait()
        return Reason(int(word.item()))


_told_to_go = threading.Event()


def heed_sigterm() -> None:
    """From now on SIGTERM asks this process to stop at the next step, instead of ending it; for its main thread."""
    _told_to_go.clear()
    signal.signal(signal.SIGTERM, lambda *received: _told_to_go.set())


def preempted() -> bool:
    """Whether this worker, or any other, is about to be taken away, as far as this one knows."""
    return _told_to_go.is_set() or _drained()


def _drained() -> bool:
    """Whether Ray has said that a node of this run will go.

    `ray.train.get_preemption_info` is a barrier of all workers; this reads what it would read, and leaves agreeing to
    `Halt`.
    """
    from ray.train.v2._internal.execution.context import get_train_context

    return get_train_context().preemption_context.preemption_info is not None
