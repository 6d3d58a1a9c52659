"""One step of training: each phase's losses, gradient and descent, the same on any number of workers."""

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.batches import Batch
from training.guard import Guard
from training.objectives import Losses
from training.precision import autocast
from training.run import Run, Seat


class Steps:
    """Takes a run one step further for each share of a batch that it is given."""

    def __init__(self, run: Run, seat: Seat) -> None:
        self.run, self.seat = run, seat
        self.guard = Guard(run.recipe, seat.world)
        self.learners = {phase: distributed(run, phase, seat) for phase in run.phases}
        if seat.rank > 0:
            run.tally.clear()  # what a checkpoint tallied is of all workers together

    def take(self, batch: Batch) -> dict[str, Losses]:
        """All phases in their order; the losses of each, without their graph."""
        run = self.run
        run.learner.objective.step_begins(run.step)
        losses = {phase: self.descend(phase, batch) for phase in run.phases}
        run.learner.objective.step_ends()
        if run.average is not None:
            run.average.update_parameters(run.learner.model)
        run.step += 1
        return losses

    def descend(self, phase: str, batch: Batch) -> Losses:
        """One step of a phase's optimiser. Raises TrainingDiverged; see `Guard` for when."""
        run = self.run
        torch.manual_seed(hash((run.recipe.seed, run.step, self.seat.rank, run.phases.index(phase))))
        descent = run.turn(phase)
        descent.optimiser.zero_grad()
        losses = self.gradient(phase, batch)
        norm = descent.norm()
        self.guard.watch(descent, losses, norm, run.step + 1, batch.ids)
        run.tally.add(phase, losses, norm)
        descent.step()
        return losses

    def gradient(self, phase: str, batch: Batch) -> Losses:
        """Add up the gradient of a share of a batch, one piece after the other; its losses.

        Each worker's loss is the sum over its items, divided by the items of all; gradients are averaged over workers.
        """
        recipe, seat, learner, descent = self.run.recipe, self.seat, self.learners[phase], self.run.descents[phase]
        cuts, found = pieces(batch, recipe.accumulate), []
        for cut in cuts:
            with nullcontext() if cut is cuts[-1] else unshared(learner):
                noisy, clean = (each.to(seat.device, non_blocking=True) for each in (cut.noisy, cut.clean))
                beside = {name: each.to(seat.device, non_blocking=True) for name, each in cut.beside.items()}
                with autocast(recipe, seat.device):
                    found.append(learner(noisy, clean, phase, beside))
                descent.backward(found[-1].total.sum() * (seat.world / recipe.batch_size))
        return Losses.joined(found)


def pieces(batch: Batch, count: int) -> list[Batch]:
    """A share in `count` pieces, as even as can be; in as many as it has items where these are fewer."""
    items = len(batch.ids)
    count = min(count, items)
    edges = [place * items // count for place in range(count + 1)]
    cuts = [slice(*cut) for cut in pairwise(edges)]
    return [
        Batch(
            batch.noisy[cut], batch.clean[cut], batch.ids[cut], {name: each[cut] for name, each in batch.beside.items()}
        )
        for cut in cuts
    ]


def distributed(run: Run, phase: str, seat: Seat) -> nn.Module:
    """The learner, the gradients of what learns in a phase averaged over all workers."""
    run.turn(phase)  # what asks for no gradient now is left out
    return run.learner if seat.world == 1 else DistributedDataParallel(run.learner)


def unshared(learner: nn.Module) -> AbstractContextManager[None]:
    """Within, gradients are added up without telling the other workers."""
    return learner.no_sync() if isinstance(learner, DistributedDataParallel) else nullcontext()
