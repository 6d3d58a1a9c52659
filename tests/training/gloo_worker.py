"""Workers that meet through gloo: `python gloo_worker.py FOLDER WORLD...` trains the same on each number of workers.

Each rank is a fork of this process, so that torch is imported once. Rank 0 leaves `FOLDER/<job>-<world>.pt`.
"""

import os
import runpy
import signal
import sys
import traceback
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training import pesq_worker
from training.batches import Batch, Batches
from training.loop import Run, Seat, train
from training.objectives import Adversarial
from training.objectives.metric_judge import MetricJudge
from training.objectives.period_judge import PeriodJudge
from training.objectives.pesq_scores import PesqScores
from training.pieces import Piece
from training.recipe import Recipe

BESIDE = Path(__file__).parent
STEPS = 20
TINY_METRIC = MetricJudge.Config(channels=4, dropout=0.0)
TINY_PERIODS = PeriodJudge.Config(channels=(4, 6), periods=(2, 3))
ONCE = {"steps": 1, "warmup_steps": 0, "clip_norm": 1e9}


class ScoresHere(PesqScores):
    """Without processes of their own: each would import this file, and torch with it."""

    def _submitted(self, pair: list[np.ndarray]) -> "Future[float]":
        answer: Future[float] = Future()
        answer.set_result(pesq_worker.score(*pair))
        return answer


class DoubleBatches(Batches):
    """In double precision, so that only the order of sums differs between numbers of workers."""

    def batch(self, found: list[Piece]) -> Batch:
        """The same pieces, as float64."""
        return double(super().batch(found))


def double(batch: Batch) -> Batch:
    """In float64."""
    return batch._replace(noisy=batch.noisy.double(), clean=batch.clean.double())


def jobs() -> dict[str, tuple[Recipe, torch.dtype]]:
    """What is trained, and how exactly: plain and adversarial, and one step of each for its gradient."""
    small_recipe = runpy.run_path(str(BESIDE / "conftest.py"))["small_recipe"]
    against = {"objective": runpy.run_path(str(BESIDE / "toy_adversarial.py"))["ToyConfig"]()}
    judged = {"objective": Adversarial.Config(judges=(TINY_METRIC, TINY_PERIODS), delay_steps=2)}
    often = {"validate_every": STEPS, "checkpoint_every": STEPS}
    return {
        "plain": (small_recipe(steps=STEPS, **often), torch.float64),
        "adversarial": (small_recipe(steps=STEPS, accumulate=2, ema_decay=0.9, **against, **often), torch.float64),
        "judged": (small_recipe(steps=STEPS, **judged, **often), torch.float64),
        "plain_gradient": (small_recipe(**ONCE), torch.float32),
        "adversarial_gradient": (small_recipe(**ONCE, **against), torch.float32),
    }


def trained(recipe: Recipe, dtype: torch.dtype, seat: Seat) -> dict[str, Any]:
    """Weights, averages, the last gradient and the history of a run."""
    run = Run(recipe)
    run.learner.to(dtype)
    for part in run.learner.modules():
        if isinstance(part, MetricJudge):
            part.scores = ScoresHere()
    if run.average is not None:
        run.average.to(dtype)
    tones = runpy.run_path(str(BESIDE / "conftest.py"))["Tones"]()
    batches = (DoubleBatches if dtype == torch.float64 else Batches)(tones, recipe)
    train(run, batches, list(batches.whole(2)), seat, lambda run: None, lambda told: None)
    tensors = {f"weight {name}": tensor for name, tensor in run.learner.state_dict().items() if torch.is_tensor(tensor)}
    tensors |= {f"average {name}": tensor.detach() for name, tensor in run.released.named_parameters()}
    gradients = {f"gradient {name}": each.grad for name, each in run.learner.named_parameters()}
    return {"tensors": tensors, "gradients": gradients, "history": run.history}


def work(folder: Path, rank: int, world: int) -> None:
    """All jobs, as one worker of several."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting-{world}"
    if world > 1:
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    for name, (recipe, dtype) in jobs().items():
        found = trained(recipe, dtype, Seat(rank, world))
        if rank == 0:
            torch.save(found, folder / f"{name}-{world}.pt")
    if world > 1:
        torch.distributed.destroy_process_group()


def fork(folder: Path, rank: int, world: int) -> int:
    """The number of a process that works as that rank."""
    if child := os.fork():
        return child
    code = 1
    try:
        work(folder, rank, world)
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def main(folder: Path, world: int) -> None:
    """As many workers as told, to their end; where one fails the others need not wait for it."""
    waiting = {fork(folder, rank, world) for rank in range(world)}
    while waiting:
        child, status = os.wait()
        waiting.discard(child)
        if status:
            for other in waiting:
                os.kill(other, signal.SIGKILL)
            sys.exit(1)


if __name__ == "__main__":
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    for world in sys.argv[2:]:
        main(Path(sys.argv[1]), int(world))
