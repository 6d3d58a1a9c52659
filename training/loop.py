"""The training loop, on one screen. It knows tensors and steps; where it runs and where it saves is told from outside.

Results do not depend on the number of workers: each takes its share of a step's items, and its loss is the sum over
them divided by the items of all. Two kinds of layers are the exception: batch normalisation is over a worker's own
share (rank 0's running statistics count), and dropout draws by rank. DM has both, GruMask has neither.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from simulation.errors import TrainingDiverged
from training.batches import Batch, Batches
from training.objectives import Learner, Losses
from training.objectives.regression import si_sdr_db
from training.recipe import Recipe


@dataclass(frozen=True)
class Seat:
    """One worker's place among all."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Progress:
    """What a person who waits wants to know."""

    step: int
    steps: int
    loss: float
    items_per_s: float
    remaining_s: float

    def line(self) -> str:
        """The same in words."""
        minutes, seconds = divmod(round(self.remaining_s), 60)
        return (
            f"step {self.step} of {self.steps}, loss {self.loss:.4f}, "
            f"{self.items_per_s:.1f} items a second, {minutes}:{seconds:02d} left"
        )


class Run:
    """Everything that changes while training, and nothing else: what a checkpoint holds."""

    def __init__(self, recipe: Recipe, device: torch.device | None = None) -> None:
        """Weights are drawn on the CPU, so that they are the same on any device, and then moved."""
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.learner = Learner(recipe.model.build(), recipe.objective.build()).to(device or "cpu")
        self.optimiser = torch.optim.AdamW(
            self.learner.parameters(), recipe.learning_rate, recipe.betas, weight_decay=recipe.weight_decay
        )
        self.schedule = schedule(self.optimiser, recipe)
        self.step = 0
        self.history: list[dict[str, float | int]] = []

    def state(self) -> dict[str, Any]:
        """All that is needed to go on, without pickled objects."""
        return {
            "learner": self.learner.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "history": self.history,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.learner.load_state_dict(state["learner"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.history = state["step"], state["history"]


def train(
    run: Run,
    batches: Batches,
    valid: Iterable[Batch],
    seat: Seat,
    save: Callable[[Run], None],
    tell: Callable[[Progress], None],
) -> None:
    """For each batch, step; every so often, look at the valid split, report, save.

    `save` is called by all workers together, `tell` by rank 0. Raises TrainingDiverged before anything is spoilt.
    """
    recipe, tally, clock = run.recipe, Tally(seat), Clock(run)
    learner = distributed(run.learner.train(), seat)
    with closing(batches.stream(run.step, seat.rank, seat.world)) as stream:
        for batch in stream:
            losses, norm = update(run, learner, batch, seat)
            tally.add(losses, norm)
            run.step += 1

            saving = due(run.step, recipe.checkpoint_every, recipe)
            validating = due(run.step, recipe.validate_every, recipe)
            if saving or validating or due(run.step, recipe.log_every, recipe):
                row = {"step": run.step, "learning_rate": float(run.schedule.get_last_lr()[0]), **tally.means()}
                if validating and seat.rank == 0:
                    row |= validate(run.learner, valid, seat.device)
                run.history.append(row)
            if seat.rank == 0:
                tell(clock.progress(run, losses))
            if saving:
                save(run)


def update(run: Run, learner: nn.Module, batch: Batch, seat: Seat) -> tuple[Losses, float]:
    """One step of the optimiser; chance in it (dropout) is a pure function of (seed, step, rank)."""
    torch.manual_seed(hash((run.recipe.seed, run.step, seat.rank)))
    losses: Losses = learner(batch.noisy.to(seat.device), batch.clean.to(seat.device))
    run.optimiser.zero_grad()
    (losses.total.sum() * (seat.world / run.recipe.batch_size)).backward()  # workers' gradients are averaged
    norm = nn.utils.clip_grad_norm_(run.learner.parameters(), run.recipe.clip_norm).item()
    if norm != norm or norm == float("inf"):
        raise TrainingDiverged(
            f"Training {run.recipe.name} met a gradient that is not finite at step {run.step + 1} (items "
            f"{', '.join(batch.ids[:4])}). The last checkpoint before it is kept. Look at these items with `unmuffle "
            "corpus replay`, or lower learning_rate or clip_norm in the recipe."
        )
    run.optimiser.step()
    run.schedule.step()
    return losses, norm


@torch.no_grad()
def validate(learner: Learner, valid: Iterable[Batch], device: torch.device) -> dict[str, float]:
    """Mean loss, SI-SDR and its gain over the noisy input, over whole mixtures of the valid split."""
    learner.eval()
    rows = []
    for batch in valid:
        noisy, clean = batch.noisy.to(device), batch.clean.to(device)
        after, before = si_sdr_db(learner.model(noisy), clean), si_sdr_db(noisy, clean)
        rows.append(torch.stack([learner(noisy, clean).total, after, after - before]).double().cpu())
    learner.train()
    loss, level, gain = torch.cat(rows, dim=1).mean(1).tolist()
    return {"valid/loss": loss, "valid/si_sdr_db": level, "valid/si_sdr_gain_db": gain}


def schedule(optimiser: torch.optim.Optimizer, recipe: Recipe) -> LRScheduler:
    """A linear warm-up, then half a cosine down to zero at the last step."""
    fall = CosineAnnealingLR(optimiser, recipe.steps - recipe.warmup_steps)
    if recipe.warmup_steps == 0:
        return fall
    rise = LinearLR(optimiser, 1 / recipe.warmup_steps, total_iters=recipe.warmup_steps)
    return SequentialLR(optimiser, [rise, fall], [recipe.warmup_steps])


def due(step: int, every: int, recipe: Recipe) -> bool:
    """Whether something that happens every so often happens now; the last step is always one."""
    return step % every == 0 or step == recipe.steps


def distributed(learner: Learner, seat: Seat) -> nn.Module:
    """The learner, its gradients averaged over all workers."""
    return learner if seat.world == 1 else DistributedDataParallel(learner)


class Tally:
    """Means of the losses over all items of all workers since the last row."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.sums: defaultdict[str, float] = defaultdict(float)

    def add(self, losses: Losses, norm: float) -> None:
        """Count one step's share of this worker."""
        per_item: dict[str, Tensor] = {"loss": losses.total, **losses.parts}
        sums = {f"train/{name}": each.sum().item() for name, each in per_item.items()}
        for name, value in {**sums, "items": len(losses.total), "norms": norm, "steps": 1}.items():
            self.sums[name] += value

    def means(self) -> dict[str, float]:
        """The means; counting starts again."""
        names = list(self.sums)
        sums = torch.tensor([self.sums[name] for name in names], dtype=torch.float64, device=self.seat.device)
        if self.seat.world > 1:
            torch.distributed.all_reduce(sums)
        total = dict(zip(names, sums.tolist(), strict=True))
        self.sums.clear()
        items, norms, steps = (total.pop(name) for name in ("items", "norms", "steps"))
        return {name: value / items for name, value in total.items()} | {"train/gradient_norm": norms / steps}


class Clock:
    """Speed since this process took the run up."""

    def __init__(self, run: Run) -> None:
        self.first_step, self.started = run.step, time.monotonic()

    def progress(self, run: Run, losses: Losses) -> Progress:
        """Where the run stands."""
        steps_per_s = (run.step - self.first_step) / max(time.monotonic() - self.started, 1e-9)
        remaining_s = (run.recipe.steps - run.step) / steps_per_s
        loss = losses.total.mean().item()
        return Progress(run.step, run.recipe.steps, loss, steps_per_s * run.recipe.batch_size, remaining_s)
