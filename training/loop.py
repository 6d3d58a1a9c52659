"""The training loop, on one screen. It knows tensors and steps; where it runs and where it saves is told from outside.

Results do not depend on the number of workers, nor on the pieces that a share is cut into: each worker takes its share
of a step's items, and its loss is the sum over them divided by the items of all. Two kinds of layers are the exception:
batch normalisation is over what one forward pass sees (rank 0's running statistics count), and dropout draws by rank.
DM has both, GruMask has neither.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from simulation.errors import TrainingDiverged
from training.batches import Batch, Batches
from training.descent import Descent
from training.models import Enhancer
from training.objectives import MODEL, Learner, Losses
from training.objectives.regression import si_sdr_db
from training.precision import autocast, determinism, prepare
from training.progress import Clock, Progress, Tally
from training.recipe import Recipe


@dataclass(frozen=True)
class Seat:
    """One worker's place among all."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Run:
    """Everything that changes while training, and nothing else: what a checkpoint holds.

    Chance is no part of it: what a phase draws is a pure function of (seed, step, rank, phase).
    """

    def __init__(self, recipe: Recipe, device: torch.device | None = None) -> None:
        """Weights are drawn on the CPU, so that they are the same on any device, and then moved."""
        torch.manual_seed(recipe.seed)
        device = device or torch.device("cpu")
        self.recipe = recipe
        self.learner = Learner(recipe.model.build(), recipe.objective.build()).to(device)
        self.average = averaged(self.learner.model, recipe.ema_decay)
        prepare(self.learner.model, recipe)
        self.descents = {phase: Descent(recipe, self.learner, phase, device) for phase in self.phases}
        self.step = 0
        self.history: list[dict[str, float | int]] = []

    @property
    def phases(self) -> tuple[str, ...]:
        """What learns in a step, in this order."""
        return self.learner.objective.phases

    @property
    def released(self) -> Enhancer:
        """The network that is validated and released: the average over steps where the recipe asks for one."""
        model: Enhancer = self.learner.model if self.average is None else self.average.module
        return model

    def turn(self, phase: str) -> Descent:
        """Let the parameters of a phase, and no others, ask for gradients."""
        descent = self.descents[phase]
        learning = set(map(id, descent.parameters))
        for parameter in self.learner.parameters():
            parameter.requires_grad_(id(parameter) in learning)
        return descent

    def state(self) -> dict[str, Any]:
        """All that is needed to go on, without pickled objects."""
        return {
            "learner": self.learner.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "descents": {phase: descent.state() for phase, descent in self.descents.items()},
            "step": self.step,
            "history": self.history,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.learner.load_state_dict(state["learner"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for phase, descent in self.descents.items():
            descent.resume(state["descents"][phase])
        self.step, self.history = state["step"], state["history"]


Look = Callable[[Run, Iterable[Batch], torch.device], dict[str, float]]
"""Gives figures on the valid split; none where they come later."""


def train(
    run: Run,
    batches: Batches,
    valid: Iterable[Batch],
    seat: Seat,
    save: Callable[[Run], None],
    tell: Callable[[Progress], None],
    look: Look | None = None,
    stop: Callable[[Run], bool] = lambda run: False,
) -> None:
    """For each batch, step; every so often, look at the valid split, report, save.

    `save` is called by all workers together, `tell` by rank 0; `look` by rank 0 (None: `validate`); `stop` by all
    workers after each step: where it says so, they save and leave. Raises TrainingDiverged before anything is spoilt.
    """
    recipe = run.recipe
    tally, clock = Tally(seat.device, seat.world), Clock(recipe, run.step)
    learners = {phase: distributed(run, phase, seat) for phase in run.phases}
    run.learner.train()
    with determinism(recipe.deterministic), closing(batches.stream(run.step, seat.rank, seat.world)) as stream:
        for batch in clock.waiting(stream):
            run.learner.objective.step_begins(run.step)
            losses = {phase: update(run, phase, learner, batch, seat, tally) for phase, learner in learners.items()}
            if run.average is not None:
                run.average.update_parameters(run.learner.model)
            run.step += 1

            stopping = stop(run)
            saving = stopping or due(run.step, recipe.checkpoint_every, recipe)
            validating = due(run.step, recipe.validate_every, recipe)
            if saving or validating or due(run.step, recipe.log_every, recipe):
                row = {"step": run.step, **learning_rates(run), **tally.means()}
                if validating and seat.rank == 0:
                    row |= (look or validate)(run, valid, seat.device)
                run.history.append(row)
            if seat.rank == 0 and clock.due(run.step):
                tell(clock.progress(run.step, losses))
            if saving:
                save(run)
            if stopping:
                return


def update(run: Run, phase: str, learner: nn.Module, batch: Batch, seat: Seat, tally: Tally) -> Losses:
    """One step of a phase's optimiser; its losses, without their graph."""
    torch.manual_seed(hash((run.recipe.seed, run.step, seat.rank, run.phases.index(phase))))
    descent = run.turn(phase)
    descent.optimiser.zero_grad()
    cuts = pieces(batch, run.recipe.accumulate)
    found = []
    for cut in cuts:
        with nullcontext() if cut is cuts[-1] else unshared(learner):
            with autocast(run.recipe, seat.device):
                found.append(learner(cut.noisy.to(seat.device), cut.clean.to(seat.device), phase))
            descent.backward(found[-1].total.sum() * (seat.world / run.recipe.batch_size))  # workers' are averaged
    losses, norm = Losses.joined(found), descent.norm()
    if not norm.isfinite() and not descent.overflowed(losses, seat.world):
        raise TrainingDiverged(
            f"Training {run.recipe.name} met a gradient that is not finite at step {run.step + 1} (items "
            f"{', '.join(batch.ids[:4])}). The last checkpoint before it is kept. Look at these items with `unmuffle "
            "corpus replay`, or lower learning_rate or clip_norm in the recipe."
        )
    tally.add(phase, losses, norm)
    descent.step()
    return losses


@torch.no_grad()
def validate(run: Run, valid: Iterable[Batch], device: torch.device) -> dict[str, float]:
    """Mean loss, SI-SDR and its gain over the noisy input, over whole mixtures of the valid split; in fp32."""
    learner = Learner(run.released, run.learner.objective).eval()
    torch.manual_seed(run.recipe.seed)
    rows = []
    with torch.compiler.set_stance("force_eager"):  # each mixture has a length of its own
        for batch in valid:
            noisy, clean = batch.noisy.to(device), batch.clean.to(device)
            after, before = si_sdr_db(learner.model(noisy), clean), si_sdr_db(noisy, clean)
            rows.append(torch.stack([learner(noisy, clean).total, after, after - before]).double().cpu())
    run.learner.train()
    loss, level, gain = torch.cat(rows, dim=1).mean(1).tolist()
    return {"valid/loss": loss, "valid/si_sdr_db": level, "valid/si_sdr_gain_db": gain}


def due(step: int, every: int, recipe: Recipe) -> bool:
    """Whether something that happens every so often happens now; the last step is always one."""
    return step % every == 0 or step == recipe.steps


def pieces(batch: Batch, count: int) -> list[Batch]:
    """A share in `count` pieces, as even as can be; in as many as it has items where these are fewer."""
    items = len(batch.ids)
    count = min(count, items)
    edges = [place * items // count for place in range(count + 1)]
    cuts = [slice(*pair) for pair in pairwise(edges)]
    return [Batch(*(each[cut] for each in batch)) for cut in cuts]


def averaged(model: Enhancer, decay: float | None) -> AveragedModel | None:
    """An exponential moving average of the weights of a network, its statistics those of the last step."""
    if decay is None:
        return None
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    return average.requires_grad_(False)


def learning_rates(run: Run) -> dict[str, float]:
    """Those of the next step; the network's goes without its phase's name."""
    return {
        "learning_rate" if phase == MODEL else f"learning_rate/{phase}": descent.learning_rate
        for phase, descent in run.descents.items()
    }


def distributed(run: Run, phase: str, seat: Seat) -> nn.Module:
    """The learner, the gradients of what learns in a phase averaged over all workers."""
    run.turn(phase)  # what asks for no gradient now is left out
    return run.learner if seat.world == 1 else DistributedDataParallel(run.learner)


def unshared(learner: nn.Module) -> AbstractContextManager[None]:
    """Within, gradients are added up without telling the other workers."""
    return learner.no_sync() if isinstance(learner, DistributedDataParallel) else nullcontext()
