"""The training loop, on one screen. It knows tensors and steps; where it runs and where it saves is told from outside.

Results do not depend on the number of workers, nor on the pieces that a share is cut into: each worker takes its share
of a step's items, and its loss is the sum over them divided by the items of all. Two kinds of layers are the exception:
batch normalisation is over what one forward pass sees (rank 0's running statistics count; for a small DM on 2 workers
that moves the first gradient by 7 % of its length), and dropout draws by rank. DM has both, GruMask has neither.
"""

import logging
import math
from collections.abc import Callable, Iterable
from contextlib import closing

import torch

from simulation.errors import TrainingDiverged
from training.alarms import alarms
from training.batches import Batch, Batches
from training.objectives import Learner
from training.objectives.regression import si_sdr_db
from training.precision import determinism
from training.progress import Clock, Progress
from training.recipe import Recipe
from training.run import Run, Seat
from training.steps import Steps

__all__ = ["FIGURES", "Progress", "Run", "Seat", "train", "validate"]

logger = logging.getLogger(__name__)

FIGURES = ("valid/loss", "valid/si_sdr_db", "valid/si_sdr_gain_db")
"""What a look at the valid split gives."""


@torch.no_grad()
def validate(run: Run, valid: Iterable[Batch], device: torch.device) -> dict[str, float]:
    """Mean loss, SI-SDR and its gain over the noisy input, over whole mixtures of the valid split; in fp32.

    Raises TrainingDiverged where one of them is no finite number.
    """
    learner = Learner(run.released, run.learner.objective).eval()
    torch.manual_seed(run.recipe.seed)
    rows = []
    with torch.compiler.set_stance("force_eager"):  # each mixture has a length of its own
        for batch in valid:
            noisy, clean = batch.noisy.to(device), batch.clean.to(device)
            beside = {name: each.to(device) for name, each in batch.beside.items()}
            with learner.told(beside):
                after, before = si_sdr_db(learner.model(noisy), clean), si_sdr_db(noisy, clean)
            total = learner(noisy, clean, beside=beside).total
            rows.append(torch.stack([total, after, after - before]).double().cpu())
    run.learner.train()
    figures = dict(zip(FIGURES, torch.cat(rows, dim=1).mean(1).tolist(), strict=True))
    if wrong := [f"{name} = {value}" for name, value in figures.items() if not math.isfinite(value)]:
        raise TrainingDiverged(
            f"Training {run.recipe.name} overflows on whole mixtures of the valid split at step {run.step} "
            f"({', '.join(wrong)}). The last checkpoint before it is kept. Lower learning_rate or clip_norm in it."
        )
    return figures


def train(
    run: Run,
    batches: Batches,
    valid: Iterable[Batch],
    seat: Seat,
    save: Callable[[Run], None],
    tell: Callable[[Progress], None],
    begin: Callable[[Run, Iterable[Batch], torch.device], dict[str, float]] = validate,
    stop: Callable[[Run], bool] = lambda run: False,
) -> None:
    """For each batch, step; every so often, look at the valid split, report, save.

    `save` is called by all workers together, `tell` and `begin` (a look at the valid split; what it gives joins the
    row) by rank 0. `stop` is asked after each step, and answers all workers alike: the run is saved then, and this
    returns. Raises TrainingDiverged; nothing that came after the gradient it names was saved.
    """
    recipe, clock, steps = run.recipe, Clock(run.recipe, run.step), Steps(run, seat)
    run.learner.train()
    with determinism(recipe.deterministic), closing(batches.stream(run.step, seat.rank, seat.world)) as stream:
        for batch in clock.waiting(stream):
            losses = steps.take(batch)
            stopping = stop(run)
            saving = stopping or due(run.step, recipe.checkpoint_every, recipe)
            validating = due(run.step, recipe.validate_every, recipe)
            if validating or due(run.step, recipe.checkpoint_every, recipe) or due(run.step, recipe.log_every, recipe):
                steps.guard.settle()
                row = {"step": run.step, **run.learning_rates, **run.tally.means(seat.world)}
                if validating and seat.rank == 0:
                    row |= begin(run, valid, seat.device)
                run.history.append(row)
                for alarm in alarms(row) if seat.rank == 0 else ():
                    logger.warning("%s, step %d: %s", recipe.name, run.step, alarm)
            if seat.rank == 0 and clock.due(run.step):
                tell(clock.progress(run.step, losses))
            if saving:
                steps.guard.settle()
                run.tally.gather(seat.world)
                save(run)
            if stopping:
                return


def due(step: int, every: int, recipe: Recipe) -> bool:
    """Whether something that happens every so often happens now; the last step is always one."""
    return step % every == 0 or step == recipe.steps
