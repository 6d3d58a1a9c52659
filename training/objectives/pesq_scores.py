"""PESQ of pieces, computed in processes beside the training, each content once."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from hashlib import blake2b
from multiprocessing import get_context
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from simulation.cores import cores
from simulation.errors import UnmuffleError
from training import child, pesq_worker

MOST_PROCESSES = 4
"""A piece of 2 s takes 22 ms of one core here: four score more than a hundred a second."""

REMEMBERED = 4096
"""Scores that are kept, the last ones asked for."""


class PesqScores:
    """Scores to be: `ask` returns at once, `wait` when the score is there.

    The processes start with the first question. They end with `close`, with this object, or with the process that made
    it, however that ends. A copy (averages of weights copy the objective too) starts anew, without processes.
    """

    def __init__(self, processes: int | None = None) -> None:
        self.processes = processes or min(MOST_PROCESSES, max(1, cores() // 2))
        self.computed = 0
        """Scores that were computed because they were not remembered."""
        self._pool: ProcessPoolExecutor | None = None
        self._scores: OrderedDict[bytes, Future[float]] = OrderedDict()

    def ask(self, clean: Float[Tensor, " samples"], enhanced: Float[Tensor, " samples"]) -> "Future[float]":
        """Start scoring a piece at 16 kHz of any level, unless its score is known or on its way."""
        pair = [each.detach().float().cpu().numpy() for each in (clean, enhanced)]
        key = blake2b(b"".join(each.tobytes() for each in pair), digest_size=16).digest()
        if key not in self._scores:
            self._scores[key] = self._submitted(pair)
            self.computed += 1
        self._scores.move_to_end(key)
        while len(self._scores) > REMEMBERED:
            self._scores.popitem(last=False)
        return self._scores[key]

    def wait(self, score: "Future[float]") -> float:
        """The score; NaN where PESQ has none. An UnmuffleError when a process was killed."""
        try:
            return score.result()
        except BrokenProcessPool:
            raise self._killed() from None

    def close(self) -> None:
        """End the processes; a later question starts others."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None
        self._scores.clear()

    def _submitted(self, pair: list[np.ndarray]) -> "Future[float]":
        if self._pool is None:
            fresh = get_context("spawn")  # a fork would copy the threads' locks of torch and Ray
            self._pool = ProcessPoolExecutor(self.processes, fresh, initializer=child.begin)
        try:
            return self._pool.submit(pesq_worker.score, *pair)
        except BrokenProcessPool:
            raise self._killed() from None

    def _killed(self) -> UnmuffleError:
        self.close()
        return UnmuffleError(
            "A process that computes PESQ for the metric judge was killed, most likely for memory. Run the same "
            "command again: training goes on from its last checkpoint. If it happens again, give the run fewer CPUs a "
            "worker (UNMUFFLE_COMPUTE), or choose an objective without that judge."
        )

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[int]]:
        return PesqScores, (self.processes,)
