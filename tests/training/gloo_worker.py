"""One worker of several: `python gloo_worker.py RANK WORLD MEETING OUT` trains 20 steps in double precision."""

import os
import runpy
import sys
from pathlib import Path

import torch

from training.batches import Batch, Batches
from training.checkpoint import weights_bytes
from training.loop import Run, Seat, train
from training.pieces import Piece

STEPS = 20


class DoubleBatches(Batches):
    """In double precision, so that only the order of sums differs between numbers of workers."""

    def batch(self, found: list[Piece]) -> Batch:
        """The same pieces, as float64."""
        return double(super().batch(found))


def double(batch: Batch) -> Batch:
    """In float64."""
    return Batch(batch.noisy.double(), batch.clean.double(), batch.ids)


def main(rank: int, world: int, meeting: str, out: str) -> None:
    """Train; rank 0 leaves weights and history."""
    shared = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    run = Run(shared["small_recipe"](steps=STEPS, validate_every=STEPS, checkpoint_every=STEPS))
    run.learner.double()
    batches = DoubleBatches(shared["Tones"](), run.recipe)
    train(run, batches, list(batches.whole(2)), Seat(rank, world), lambda run: None, lambda told: None)
    if rank == 0:
        torch.save({"weights": weights_bytes(run.learner.model), "history": run.history}, out)
    if world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
