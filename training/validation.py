"""Listening to the valid split: in the first worker itself, or in a process beside the training while that goes on.

The process beside works on a snapshot: its figures are those of the step at which that was taken, and join the row of
that step when they arrive. One snapshot at a time: the next one waits for the figures of the last.
"""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import ray
import torch

from simulation.virtual import open_corpora
from training.batches import Batch, Batches
from training.beside import accompanied
from training.best import FIGURE, Best
from training.checkpoint import version_files, weights_bytes
from training.loop import Run, validate
from training.objectives import Learner
from training.recipe import Recipe
from training.run import maker_of
from training.samples import keep_samples

Figures = dict[str, float]
Arrived = Callable[[int, Figures], None]
"""Told of figures that come later than their step."""


@dataclass(frozen=True)
class Examined:
    """What a validator needs to know of a run."""

    run: str
    """Address of the run."""
    recipe: Recipe
    corpus: str
    corpus_digest: str | None
    facts: dict[str, Any]
    """Of the versions that are kept for their figures."""


class Inside:
    """Validation in the worker that trains."""

    pending: int | None = None

    def __init__(self, examined: Examined) -> None:
        self.examined = examined

    def begin(self, run: Run, valid: Iterable[Batch], device: torch.device) -> Figures:
        """The figures of this step."""
        figures = validate(run, valid, device)
        keep(self.examined, run.step, figures, run)
        keep_samples(self.examined.run, run.released, valid, run.step)
        return figures

    def collect(self, run: Run, wait: bool = False) -> None:
        """There is nothing to wait for."""

    def snapshot(self) -> bytes | None:
        """Nor to keep."""

    def again(self, run: Run, step: int, snapshot: bytes | None) -> None:
        """Figures that a run with validation apart still owes."""
        figures = Validator(self.examined, torch.get_num_threads()).figures(step, snapshot or _snapshot(run))
        _join(run, step, figures)


class Apart:
    """Validation in an actor; `begin` returns at once, and what it owes is `collect`ed."""

    def __init__(self, examined: Examined, claimed_cpus: float, threads: int, arrived: Arrived) -> None:
        options = {"num_cpus": claimed_cpus, "max_restarts": -1, "max_task_retries": -1}
        self._actor: Any = ray.remote(**options)(Validator).remote(examined, threads)
        self._arrived = arrived
        self.pending: int | None = None
        """The step whose figures are still out."""
        self._snapshot: Any = None
        self._figures: Any = None

    def begin(self, run: Run, valid: Iterable[Batch], device: torch.device) -> Figures:
        """Hand over a snapshot; waits for the figures of the last one."""
        self.collect(run, wait=True)
        self.again(run, run.step, None)
        return {}

    def again(self, run: Run, step: int, snapshot: bytes | None) -> None:
        """Ask for the figures of a step: of this snapshot, or of the run as it is."""
        self.pending, self._snapshot = step, ray.put(snapshot or _snapshot(run))
        self._figures = self._actor.figures.remote(step, self._snapshot)

    def collect(self, run: Run, wait: bool = False) -> None:
        """Put the figures that have arrived into the row of their step."""
        if self.pending is None or not (wait or ray.wait([self._figures], timeout=0)[0]):
            return
        step, figures = self.pending, ray.get(self._figures)
        _join(run, step, figures)
        self._arrived(step, figures)
        self.pending = self._snapshot = self._figures = None

    def snapshot(self) -> bytes | None:
        """That of the step whose figures are out, for a checkpoint of a later step."""
        return None if self._snapshot is None else bytes(ray.get(self._snapshot))


class Validator:
    """The process beside: a network like the run's, and the valid split in memory."""

    def __init__(self, examined: Examined, threads: int) -> None:
        torch.set_num_threads(threads)
        self.examined, self.run = examined, Run(examined.recipe)
        corpora = {"valid": open_corpora(examined.corpus, examined.corpus_digest)["valid"]}
        store = examined.run.rpartition("/runs/")[0]
        corpus = accompanied(corpora, maker_of(examined.recipe), store)["valid"]
        self.valid = list(Batches(corpus, examined.recipe).whole(examined.recipe.validation_items))

    def figures(self, step: int, snapshot: bytes) -> Figures:
        """Those of the weights in a snapshot."""
        state = torch.load(io.BytesIO(snapshot), map_location="cpu", weights_only=True)
        _examinee(self.run).load_state_dict(state)
        figures = validate(self.run, self.valid, torch.device("cpu"))
        keep(self.examined, step, figures, self.run)
        keep_samples(self.examined.run, self.run.released, self.valid, step)
        return figures


def keep(examined: Examined, step: int, figures: Figures, run: Run) -> None:
    """Keep the version of this step if the recipe asks for the best ones, and it is one of them."""
    rule = examined.recipe.keep_best
    if rule is None:
        return
    facts = examined.facts | {"steps": step, "history": [{"step": step, **figures}], FIGURE: figures.get(rule.metric)}
    files = version_files(examined.recipe.model, weights_bytes(run.released), facts)
    Best(examined.run, rule).offer(step, figures, files)


def _examinee(run: Run) -> Learner:
    """What is validated: the network that is released, and the objective that gives it a loss."""
    return Learner(run.released, run.learner.objective)


def _snapshot(run: Run) -> bytes:
    file = io.BytesIO()
    torch.save(_examinee(run).state_dict(), file)
    return file.getvalue()


def _join(run: Run, step: int, figures: Figures) -> None:
    for row in reversed(run.history):
        if row["step"] == step:
            row.update(figures)
            return
