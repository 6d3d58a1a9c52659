"""The loop on Ray Train: any number of workers, checkpoints in the store, and a version at the end.

The name of a run is its stage key. Ray Train resumes a run of the same name from its last committed checkpoint; a run
that has left its version is answered from it. Every checkpoint folder is a loadable version too, plus `training.pt`
with all that is needed to go on. The version takes the weights of the last step: the learning rate has fallen to zero
by then, so there is no noise left that choosing by a small valid split could remove.
"""

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2.api.exceptions import TrainingFailedError

from simulation.errors import CheckpointIncompatible, Superseded, TrainingDiverged, UnmuffleError
from simulation.storage import arrow, exists, join, normal, read
from simulation.traffic import count
from simulation.virtual import open_corpora
from training.batches import READERS, Batches
from training.checkpoint import (
    CONFIG,
    WEIGHTS,
    commit_version,
    refuse_other_content,
    save_version,
    version_record,
)
from training.ledger import Meter, metered
from training.loop import Run, Seat, train
from training.profile import ComputeProfile
from training.progress import Progress
from training.recipe import Recipe
from training.watch import Commits, Log, Row, Watch

STATE = "training.pt"

PROGRESS_INTERVAL_S = 0.5
"""Between two lines of progress."""

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Fitted:
    """A finished training run."""

    address: str
    """Of its version: a folder with weights and config."""
    weights_sha256: str
    plan_digest: str
    """Of the corpus, rendered or virtual."""
    steps: int
    valid: dict[str, float]
    """Figures on the valid split after the last step."""
    history: list[Row]
    """The rows that hold figures on the valid split."""


@dataclass(frozen=True)
class Errand:
    """What the driver tells every worker."""

    recipe: Recipe
    corpus: str
    corpus_digest: str | None
    plan_digest: str
    run: str
    """Address of what belongs to the run: checkpoints, ledger."""
    threads: int
    cores: float
    gpus: float
    """Cores and GPUs that each worker claims."""
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


def fit(
    recipe: Recipe,
    *,
    corpus: str,
    corpus_digest: str | None = None,
    storage: str,
    name: str,
    profile: ComputeProfile,
    before_commit: Callable[[], None] | None = None,
    log: Log | None = None,
    progress: Callable[[str], None] | None = None,
) -> Fitted:
    """Train a recipe on the corpus below a root; goes on where a run of this name stopped. Needs an initialised Ray.

    `before_commit` is called before each checkpoint and before the version is written; what it raises (Superseded)
    stops the run before the write. `log` gets the values and the step of each row of the history, when the checkpoint
    that holds it is committed, exactly once and in order. `progress` gets a line twice a second.
    """
    address = version_address(storage, recipe, name)
    if exists(join(address, CONFIG)):
        return finished(address)
    plan_digest = open_corpora(corpus, corpus_digest)["train"].record.plan_digest
    runs = join(normal(storage), "runs")
    watch = Watch(join(runs, name, "logged.json"), log, progress)
    errand = Errand(
        recipe=recipe,
        corpus=corpus,
        corpus_digest=corpus_digest,
        plan_digest=plan_digest,
        run=join(runs, name),
        threads=profile.cpus_per_worker,
        cores=claimed_cpus(profile),
        gpus=float(profile.gpus_per_worker),
        mailbox=watch.mailbox,
        before_commit=before_commit,
    )
    with watch:
        checkpoint = launch(errand, profile, runs, name)
    record = version_record(checkpoint)
    watch.hand_on(record.facts["history"])
    if before_commit is not None:
        before_commit()
    commit_version(address, recipe.model, read(join(checkpoint, WEIGHTS)), record.facts)
    return finished(address)


def version_address(storage: str, recipe: Recipe, name: str) -> str:
    """`<storage>/versions/<recipe>-<stage key, 12>`; what follows a dash in the name (an attempt) is kept."""
    key, dash, rest = name.partition("-")
    return join(normal(storage), "versions", f"{recipe.name}-{key[:12]}{dash}{rest}")


def finished(address: str) -> Fitted:
    """The result that a version records."""
    record = version_record(address)
    history = [row for row in record.facts["history"] if "valid/loss" in row]
    valid = {name: value for name, value in history[-1].items() if name.startswith("valid/")}
    plan_digest = record.facts.get("plan_digest", "")  # versions of earlier releases do not say
    return Fitted(address, record.weights_sha256, plan_digest, record.facts["steps"], valid, history)


def launch(errand: Errand, profile: ComputeProfile, runs: str, name: str) -> str:
    """Run the workers until the last step; the address of the last checkpoint."""
    filesystem, path = arrow(runs)
    trainer = TorchTrainer(
        work,
        train_loop_config={"errand": errand},
        scaling_config=ScalingConfig(
            num_workers=profile.workers,
            use_gpu=profile.gpus_per_worker > 0,
            resources_per_worker={"CPU": claimed_cpus(profile), "GPU": profile.gpus_per_worker},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=3, controller_failure_limit=10, max_preemption_failures=20),
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
            callbacks=[Commits(errand.mailbox)],
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
    with _interrupts_restored():
        try:
            result = trainer.fit()
        except TrainingFailedError as error:
            raise _ours(error) from None
    if isinstance(result.return_value, UnmuffleError):
        raise result.return_value
    return join(runs, name, Path(result.checkpoint.path).name)


def identity(facts: dict[str, Any]) -> dict[str, Any]:
    """What a run must have in common with a checkpoint that it goes on from; fields that came later have defaults."""
    recipe = Recipe.parse(facts["recipe"], "recipe").model_dump(mode="json")
    return {"recipe": recipe, **{name: facts.get(name) for name in ("corpus_digest", "plan_digest")}}


def claimed_cpus(profile: ComputeProfile) -> float:
    """CPUs that each worker claims: what the profile says, or an even share where the cluster has less than that.

    Ray would wait for ever for CPUs that do not exist.
    """
    there = ray.cluster_resources().get("CPU", 0.0)
    if there == 0 or profile.workers * profile.cpus_per_worker <= there:
        return float(profile.cpus_per_worker)
    share = there / profile.workers
    return float(int(share)) if share >= 1 else int(share * 10_000) / 10_000  # Ray counts in ten-thousandths


def work(config: dict[str, Errand]) -> UnmuffleError | None:
    """What each worker does. A verdict that all workers share is returned; after other errors Ray Train tries again."""
    errand = config["errand"]
    with metered(errand.run, errand.cores, errand.gpus) as meter:
        return metered_work(errand, meter)


def metered_work(errand: Errand, meter: Meter) -> UnmuffleError | None:
    """The same, on account of the run."""
    torch.set_num_threads(errand.threads)
    context = ray.train.get_context()
    seat = Seat(context.get_world_rank(), context.get_world_size(), get_device())
    corpora = open_corpora(errand.corpus, errand.corpus_digest)
    train_batches = Batches(corpora["train"], errand.recipe, max(READERS, errand.threads))
    valid = Batches(corpora["valid"], errand.recipe).whole(errand.recipe.validation_items)
    try:
        run = resumed(errand, seat.device)
        meter.mark(run.step)
        reporter = Reporter(errand, seat, run, meter)
        train(run, train_batches, list(valid), seat, reporter.save, reporter.tell)
    except (CheckpointIncompatible, TrainingDiverged, Superseded) as verdict:
        return verdict
    return None


def resumed(errand: Errand, device: torch.device) -> Run:
    """The run as its last checkpoint left it, or a new one."""
    run, checkpoint = Run(errand.recipe, device), ray.train.get_checkpoint()
    if checkpoint is None:
        return run
    with checkpoint.as_directory() as folder:
        refuse_other_content(checkpoint.path, identity(version_record(folder).facts), identity(errand.facts))
        run.resume(torch.load(Path(folder, STATE), map_location="cpu", weights_only=True))
    return run


class Reporter:
    """Carries checkpoints into the store, and progress to the driver."""

    def __init__(self, errand: Errand, seat: Seat, run: Run, meter: Meter) -> None:
        self.errand, self.seat, self.meter = errand, seat, meter
        self.told_s = 0.0
        self.posted = 0
        if seat.rank == 0:
            self._post(run)
            errand.mailbox.committed.remote(run.step)

    def tell(self, progress: Progress) -> None:
        """Post a line now and then."""
        if time.monotonic() - self.told_s > PROGRESS_INTERVAL_S or progress.step == progress.steps:
            self.told_s = time.monotonic()
            self.errand.mailbox.progress.remote(progress.line())

    def save(self, run: Run) -> None:
        """Commit a checkpoint, all workers together."""
        self._ask()
        self.meter.mark(run.step)
        if self.seat.rank > 0:
            ray.train.report({"step": run.step})
            return
        self._post(run)
        with tempfile.TemporaryDirectory() as folder:
            facts = self.errand.facts | {"steps": run.step, "history": run.history}
            save_version(run.released, folder, facts)
            torch.save(run.state(), Path(folder, STATE))
            count(written=Path(folder, STATE).stat().st_size)  # Ray Train carries it; save_version counts its own
            checkpoint = Checkpoint.from_directory(folder)
            name = f"checkpoint-{run.step:08d}"
            ray.train.report({"step": run.step}, checkpoint=checkpoint, checkpoint_dir_name=name)

    def _post(self, run: Run) -> None:
        ray.get(self.errand.mailbox.wait.remote(run.history[self.posted :]))
        self.posted = len(run.history)

    def _ask(self) -> None:
        """Let rank 0 ask whether it may commit, and all workers hear the same answer."""
        refusal: Superseded | None = None
        if self.errand.before_commit is not None and self.seat.rank == 0:
            try:
                self.errand.before_commit()
            except Superseded as error:
                refusal = error
        if self.seat.world > 1:
            refusal = broadcast_from_rank_zero(refusal)
        if refusal is not None:
            raise refusal


def _ours(error: TrainingFailedError) -> Exception:
    """The error of ours that a worker met, out of Ray Train's wrappings; else the wrapping."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, UnmuffleError):
            return cause
    return error


@contextmanager
def _interrupts_restored() -> Iterator[None]:
    """Ray Train leaves its own handler of Ctrl-C behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
