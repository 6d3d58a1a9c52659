"""What each worker of a training run does: take the run up, go through the loop, carry checkpoints into the store.

A checkpoint is serialised while the loop waits, and written by a thread while it goes on; the next one waits for that.
It is a loadable version too, with `training.pt`, which holds all that is needed to go on, and the lineage of its
weights. A process that dies leaves no file outside the store.
"""

import io
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode
from ray.train.collective import barrier, broadcast_from_rank_zero
from ray.train.torch import get_device

from simulation import storage
from simulation.errors import BadSetting, CheckpointIncompatible, Superseded, TrainingDiverged, UnmuffleError
from simulation.virtual import open_corpora
from training.batches import READERS, Batch, Batches
from training.beside import accompanied
from training.checkpoint import (
    refuse_other_content,
    state_from_bytes,
    version_files,
    version_record,
    weights_bytes,
)
from training.halt import Halt, Reason, Stopped, preempted
from training.ledger import Meter, metered, spent
from training.lineage import LINEAGE, Lineage
from training.loop import Progress, Run, Seat, train
from training.profile import Budget
from training.recipe import Recipe
from training.run import maker_of
from training.validation import Apart, Examined, Inside

logger = logging.getLogger(__name__)

STATE = "training.pt"

PROGRESS_INTERVAL_S = 0.5
"""Between two words of progress."""


@dataclass(frozen=True)
class Errand:
    """What the driver tells every worker."""

    recipe: Recipe
    corpus: str
    corpus_digest: str | None
    plan_digest: str
    run: str
    """Address of what belongs to the run: checkpoints, ledger, best versions."""
    threads: int
    cores: float
    gpus: float
    """Cores and GPUs that each worker claims."""
    validator_cpus: float | None
    """CPUs that validation beside the training claims; None: the first worker does it."""
    validator_threads: int
    budget: Budget
    mailbox: Any
    before_commit: Callable[[], None] | None

    @property
    def facts(self) -> dict[str, Any]:
        """What weights of this run come from; equal for a run and its continuation."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "recipe_digest": self.recipe.digest(),
            "corpus": self.corpus.rstrip("/").rpartition("/")[2],
            "corpus_digest": self.corpus_digest,
            "plan_digest": self.plan_digest,
            "seed": self.recipe.seed,
        }


def identity(facts: dict[str, Any]) -> dict[str, Any]:
    """What a run must have in common with a checkpoint that it goes on from; fields that came later have defaults."""
    recipe = Recipe.parse(facts["recipe"], "recipe").model_dump(mode="json")
    return {"recipe": recipe, **{name: facts.get(name) for name in ("corpus_digest", "plan_digest")}}


def work(config: dict[str, Errand]) -> UnmuffleError | Stopped | None:
    """What each worker does. A verdict that all workers share is returned; after other errors Ray Train tries again."""
    errand = config["errand"]
    with metered(errand.run, errand.cores, errand.gpus) as meter:
        try:
            return trained(errand, meter)
        except (BadSetting, CheckpointIncompatible, TrainingDiverged, Superseded) as verdict:
            return verdict


def trained(errand: Errand, meter: Meter) -> Stopped | None:
    """Go on until the last step, or until all workers stop before it."""
    torch.set_num_threads(errand.threads)
    context = ray.train.get_context()
    seat = Seat(context.get_world_rank(), context.get_world_size(), get_device())
    corpora = learnt_from(errand, seat)
    batches = Noted(corpora["train"], errand.recipe, max(READERS, errand.threads))
    valid = Batches(corpora["valid"], errand.recipe).whole(errand.recipe.validation_items)
    listens = seat.rank == 0 and errand.validator_cpus is None
    reporter = Reporter(errand, seat, batches, meter)
    run = reporter.run
    if reporter.halt.known(run.step):
        return Stopped(Reason.BUDGET, run.step)
    train(
        run, batches, list(valid) if listens else (), seat, reporter.save, reporter.tell, reporter.begin, reporter.stop
    )
    return reporter.stopped


def learnt_from(errand: Errand, seat: Seat) -> dict[str, Any]:
    """The splits that training reads, with what the recipe wants beside their rows; all workers together."""
    corpora = open_corpora(errand.corpus, errand.corpus_digest)
    return accompanied(
        {split: corpora[split] for split in ("train", "valid")},
        maker_of(errand.recipe, seat.device),
        errand.run.rpartition("/runs/")[0],
        rank=seat.rank,
        world=seat.world,
        barrier=barrier,
        say=logger.info,
    )


class Noted(Batches):
    """Batches that note what was learnt from."""

    lineage: Lineage

    def stream(self, first_step: int, rank: int = 0, world: int = 1) -> Generator[Batch]:
        """The same; a batch is noted when it is handed out, and the loop asks for the next one after its step."""
        with closing(super().stream(first_step, rank, world)) as stream:
            for batch in stream:
                self.lineage.note(batch.ids)
                yield batch


@dataclass
class Upload:
    """One checkpoint on its way into the store."""

    done: threading.Event = field(default_factory=threading.Event)

    def start(self, address: str, files: dict[str, bytes], metrics: dict[str, Any]) -> None:
        """Write the files below the run's address, in their order, and report the checkpoint then."""
        context = ray.train.get_context().get_storage()
        name = address.rpartition("/")[2]

        def write(checkpoint: Checkpoint, name: str) -> Checkpoint:
            try:
                for file, data in files.items():
                    storage.replace(storage.join(address, file), data)
                return checkpoint
            finally:
                self.done.set()

        place = Checkpoint(context.build_checkpoint_path_from_name(name), context.storage_filesystem)
        ray.train.report(
            metrics,
            place,
            name,
            CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=False,  # there is none: the bytes come from memory
            checkpoint_upload_fn=write,
        )


class Reporter:
    """One worker's run: how it is taken up, what the loop calls, and where that goes."""

    def __init__(self, errand: Errand, seat: Seat, batches: Noted, meter: Meter) -> None:
        """Takes the run up where its last checkpoint left it; all workers together."""
        self.errand, self.seat, self.meter = errand, seat, meter
        self.began, self.told_s, self.posted = time.monotonic(), 0.0, 0
        self.upload = Upload()
        self.stopped: Stopped | None = None
        self.trouble: TrainingDiverged | None = None
        """What a look at the valid split met; rank 0 alone has it until all hear of it at the next checkpoint."""
        self.upload.done.set()
        self.before = spent(errand.run)
        self.halt = Halt(seat, self._known, self._heard)
        self.look = self._look()
        self.run, self.lineage = self._resumed(batches.corpus.rows)
        batches.lineage = self.lineage
        meter.mark(self.run.step)
        if seat.rank == 0:
            self._post()
            errand.mailbox.committed.remote(self.run.step)

    # ---- what the loop calls

    def begin(self, run: Run, valid: Any, device: torch.device) -> dict[str, float]:
        """Look at the valid split, or have it looked at."""
        with self._noted():
            return self.look.begin(run, valid, device)
        return {}

    def tell(self, progress: Progress) -> None:
        """Post it now and then."""
        if time.monotonic() - self.told_s > PROGRESS_INTERVAL_S or progress.step == progress.steps:
            self.told_s = time.monotonic()
            self.errand.mailbox.progress.remote(progress)

    def stop(self, run: Run) -> bool:
        """Whether to stop after this step; figures that have arrived meanwhile join their row."""
        with self._noted():
            self.look.collect(run)
        reason = self.halt(run.step)
        if reason is not Reason.NONE and run.step < run.recipe.steps:
            self.stopped = Stopped(reason, run.step)
        return self.stopped is not None

    def save(self, run: Run) -> None:
        """Commit a checkpoint, all workers together; the last one waits for all figures."""
        with self._noted():
            self.look.collect(run, wait=run.step == run.recipe.steps)
        self._ask()
        self.lineage.gather(self.seat, self.halt.group)
        self.meter.mark(run.step)
        if self.seat.rank > 0:
            ray.train.report({"step": run.step}, checkpoint_upload_mode=CheckpointUploadMode.ASYNC)
            return
        self._post()
        self.upload.done.wait()
        self.upload = Upload()
        address = storage.join(self.errand.run, f"checkpoint-{run.step:08d}")
        self.upload.start(address, self._files(run), {"step": run.step})

    # ---- taking up and writing down

    def _resumed(self, corpus_rows: int) -> tuple[Run, Lineage]:
        run, checkpoint = Run(self.errand.recipe, self.seat.device), ray.train.get_checkpoint()
        if checkpoint is None:
            return run, Lineage(corpus_rows)
        with checkpoint.as_directory() as folder:
            theirs = identity(version_record(folder).facts)
            refuse_other_content(checkpoint.path, theirs, identity(self.errand.facts))
            if not Path(folder, LINEAGE).exists():
                raise CheckpointIncompatible(
                    f"{checkpoint.path} was written by an earlier release, without {LINEAGE}. Go on with that release, "
                    "or give this run another name."
                )
            state = state_from_bytes(Path(folder, STATE).read_bytes(), storage.join(checkpoint.path, STATE))
            lineage = Lineage.from_bytes(Path(folder, LINEAGE).read_bytes())
        run.resume(state["run"])
        if self.seat.rank == 0 and state["owed"] is not None:
            self.look.again(run, *state["owed"])
        return run, lineage

    def _files(self, run: Run) -> dict[str, bytes]:
        owed = None
        if self.look.pending is not None:  # figures of this very step can be had from the checkpoint itself
            owed = (self.look.pending, None if self.look.pending == run.step else self.look.snapshot())
        state = io.BytesIO()
        torch.save({"run": run.state(), "owed": owed}, state)
        facts = self.errand.facts | {"steps": run.step, "history": run.history, "lineage": self.lineage.facts()}
        version = version_files(run.recipe.model, weights_bytes(run.released), facts)
        return {STATE: state.getvalue(), LINEAGE: self.lineage.to_bytes(), **version}

    def _post(self) -> None:
        rows = self.run.history[self.posted :]
        ray.get(self.errand.mailbox.wait.remote(rows, self.look.pending))
        self.posted = len(self.run.history)

    def _ask(self) -> None:
        """Let rank 0 ask whether it may commit, and all workers hear the same answer."""
        refusal: UnmuffleError | None = self.trouble
        if refusal is None and self.errand.before_commit is not None and self.seat.rank == 0:
            try:
                self.errand.before_commit()
            except Superseded as error:
                refusal = error
        if self.seat.world > 1:
            refusal = broadcast_from_rank_zero(refusal)
        if refusal is not None:
            raise refusal

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Within, figures that are not finite are kept for `_ask`: the other workers would wait for one that left."""
        try:
            yield
        except TrainingDiverged as error:
            self.trouble = TrainingDiverged(str(getattr(error, "cause", error)))  # Ray wraps those of an actor

    # ---- when to stop, and who listens

    def _known(self, step: int) -> Reason:
        over = self.errand.budget.max_steps is not None and step >= self.errand.budget.max_steps
        return Reason.BUDGET if over and step < self.errand.recipe.steps else Reason.NONE

    def _heard(self, step: int) -> Reason:
        if preempted():
            return Reason.PREEMPTED
        errand, hours = self.errand, (time.monotonic() - self.began) / 3600 * self.seat.world
        cores, gpus = self.before.core_hours + hours * errand.cores, self.before.gpu_hours + hours * errand.gpus
        return Reason.BUDGET if errand.budget.spent(0, cores, gpus) else Reason.NONE

    def _look(self) -> Inside | Apart:
        errand = self.errand
        examined = Examined(errand.run, errand.recipe, errand.corpus, errand.corpus_digest, errand.facts)
        if errand.validator_cpus is None or self.seat.rank > 0:
            return Inside(examined)
        return Apart(examined, errand.validator_cpus, errand.validator_threads, self._arrived)

    def _arrived(self, step: int, figures: dict[str, float]) -> None:
        self.errand.mailbox.figures.remote(step, figures)
