"""The yardstick of `make bench-training`: a loop as one writes it in a notebook, on batches that lie in memory.

The same network, loss, optimiser, clipping and schedule, in a process without Ray, MLflow or threads that read; no
record, no checkpoint, nobody who is told anything. It takes turns with the full run, turn by turn.
"""

import time
from multiprocessing.connection import Listener

import torch

from benchmarks.stopwatch import peak_mb
from simulation.virtual import open_corpora
from training.batches import Batches
from training.recipe import Recipe


class Bare:
    """A plain PyTorch loop over the batches of a recipe."""

    def __init__(self, recipe: Recipe, corpus: str, device: str = "cpu") -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, torch.device(device)
        self.model, self.objective = recipe.model.build().to(device), recipe.objective.build().to(device)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), recipe.learning_rate, recipe.betas, weight_decay=recipe.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, recipe.steps)
        loaded = Batches(open_corpora(corpus)["train"], recipe)
        self.batches = [loaded.load(step)[:2] for step in range(recipe.steps)]

    def step(self, number: int) -> None:
        """Forward, backward, clip, step."""
        noisy, clean = (each.to(self.device) for each in self.batches[number])
        self.optimiser.zero_grad()
        self.objective.losses(self.model, noisy, clean).total.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimiser.step()
        self.schedule.step()

    def turn(self, steps: range, skipped: int) -> tuple[float, float]:
        """Seconds a step, without the first `skipped` ones, by the clock and of work."""
        for number in steps[:skipped]:
            self.step(number)
        began, used = time.perf_counter(), time.process_time()
        for number in steps[skipped:]:
            self.step(number)
        timed = len(steps) - skipped
        return (time.perf_counter() - began) / timed, (time.process_time() - used) / timed


def take_turns(recipe: Recipe, corpus: str, socket: str, size: int, skipped: int, count: int) -> dict[str, object]:
    """Wait for the full run at a socket; after each of its turns, take the same steps."""
    bare, taken = Bare(recipe, corpus), []
    with Listener(socket, "AF_UNIX") as listener, listener.accept() as full:
        for _ in range(count):
            last = full.recv()
            taken.append(bare.turn(range(last - size, last), skipped))
            full.send("done")
    return {"turns_s": [clock for clock, _ in taken], "turns_cpu_s": [work for _, work in taken], "peak_mb": peak_mb()}
