"""The loop on Ray Train: any number of workers, checkpoints in the store, and a version at the end.

The name of a run is its stage key. Ray Train resumes a run of the same name from its last committed checkpoint; a run
that has left its version is answered from it. The version takes the weights of the last step, unless the recipe asks
for the best: the learning rate has fallen to zero by then, so there is no noise left that choosing by a small valid
split could remove.

A run goes on after failures as long as it gets further: each start may fail `FAILURES` times inside Ray Train, and a
start that left no new checkpoint behind, `FAILURES` times in a row. Workers that were told to go leave a checkpoint of
that very step, and others take their places.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from simulation.errors import BudgetSpent, UnmuffleError
from simulation.storage import arrow, exists, join, listing, normal, read, replace
from simulation.virtual import open_corpora
from training.batches import Batches, share
from training.beside import size
from training.best import Best, refuse_other_figures
from training.checkpoint import CONFIG, WEIGHTS, commit_version, refuse_other_content, version_record
from training.halt import Reason, Stopped, heed_sigterm
from training.ledger import spent
from training.lineage import LINEAGE, Lineage
from training.loop import FIGURES
from training.pieces import Mixtures
from training.profile import ComputeProfile
from training.progress import Progress
from training.recipe import Recipe
from training.run import maker_of
from training.watch import Commits, Log, Row, Watch
from training.worker import Errand, identity, work

logger = logging.getLogger(__name__)

KEPT_CHECKPOINTS = 2
FAILURES = 3
"""That a start may meet inside Ray Train; starts in a row that may come to nothing."""
COLLECTIVE_TIMEOUT_S = 3600
"""How long workers wait for each other, a look of one at the valid split included. One that dies is noticed at once;
this is for one that hangs."""


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
    """Figures on the valid split of the weights that were released."""
    history: list[Row]
    """The rows that hold figures on the valid split."""


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
    progress: Callable[[Progress], None] | None = None,
) -> Fitted:
    """Train a recipe on the corpus below a root; goes on where a run of this name stopped. Needs an initialised Ray.

    `before_commit` is called before each checkpoint and before the version is written; what it raises (Superseded)
    stops the run before the write. `log` gets the values and the step of each row of the history, when the checkpoint
    that holds it is committed, exactly once and in order. `progress` is told twice a second.
    """
    address = version_address(storage, recipe, name)
    run = join(normal(storage), "runs", name)
    ours = identity({"recipe": recipe.model_dump(mode="json"), "corpus_digest": corpus_digest})
    if exists(join(address, CONFIG)):
        theirs = identity(version_record(address).facts)
        refuse_other_content(address, theirs, ours | {"plan_digest": theirs["plan_digest"]})
        return finished(address)
    corpora = open_corpora(corpus, corpus_digest)
    plan_digest = corpora["train"].record.plan_digest
    refuse_what_cannot_begin(recipe, profile, corpora)
    refuse_what_another_began(run, ours | {"plan_digest": plan_digest})
    say_what_is_stored(recipe, corpora)
    watch = Watch(join(run, "logged.json"), log, progress)
    apart = profile.validation == "apart"
    errand = Errand(
        recipe=recipe,
        corpus=corpus,
        corpus_digest=corpus_digest,
        plan_digest=plan_digest,
        run=run,
        threads=profile.cpus_per_worker,
        cores=claimed_cpus(profile),
        gpus=float(profile.gpus_per_worker),
        validator_cpus=validator_cpus(profile) if apart else None,
        validator_threads=profile.validation_cpus,
        budget=profile.budget,
        mailbox=watch.mailbox,
        before_commit=before_commit,
    )
    refuse_spent(errand, step=0)
    with watch:
        checkpoint = launched(errand, profile, watch)
    facts = version_record(checkpoint).facts
    watch.hand_on(facts["history"])
    if before_commit is not None:
        before_commit()
    release(errand, checkpoint, facts, address)
    return finished(address)


def refuse_what_cannot_begin(recipe: Recipe, profile: ComputeProfile, corpora: Mapping[str, Mixtures]) -> None:
    """What every worker would meet at every start: a corpus that does not fit, more workers than a step has items.

    Raises SampleRateMismatch, CorpusIncomplete or BadSetting.
    """
    train, _ = (Batches(corpora[split], recipe) for split in ("train", "valid"))
    share(train.indices(0), rank=0, world=profile.most_workers)
    if recipe.keep_best is not None:
        refuse_other_figures(recipe.keep_best, FIGURES)


def refuse_what_another_began(run: str, ours: dict[str, Any]) -> None:
    """CheckpointIncompatible where the last checkpoint at this run's address comes from something else."""
    checkpoints = [entry.address for entry in listing(run) if entry.address.startswith(join(run, "checkpoint-"))]
    for address in [address for address in checkpoints if address.endswith(f"/{CONFIG}")][-1:]:
        folder = address.removesuffix(f"/{CONFIG}")
        refuse_other_content(folder, identity(version_record(folder).facts), ours)


def say_what_is_stored(recipe: Recipe, corpora: Mapping[str, Mixtures]) -> None:
    """How much room tensors beside the corpus will take, before any is made; nothing where a recipe stores none."""
    with torch.device("meta"):
        maker = maker_of(recipe.model_copy(update={"begins_with": None}))
    if maker is not None and maker.stored:
        sizes = ", ".join(f"{split} {size(maker, corpora[split])}" for split in ("train", "valid"))
        logger.warning("What stands beside the rows takes room in the store, unless it is there: %s.", sizes)


def release(errand: Errand, checkpoint: str, facts: dict[str, Any], address: str) -> None:
    """Commit the version: the last checkpoint's weights, or those of the best step where the recipe asks for them."""
    rule, weights = errand.recipe.keep_best, checkpoint
    lineage = Lineage.from_bytes(read(join(checkpoint, LINEAGE)))
    if rule is not None and rule.release:
        best = Best(errand.run, rule).kept()[0]
        lineage = lineage.before(best.step * errand.recipe.batch_size)
        weights, facts = best.address, facts | {"released_step": best.step, "lineage": lineage.facts()}
    replace(join(address, LINEAGE), lineage.to_bytes())
    commit_version(address, errand.recipe.model, read(join(weights, WEIGHTS)), facts)


def version_address(storage: str, recipe: Recipe, name: str) -> str:
    """`<storage>/versions/<recipe>-<stage key, 12>`; what follows a dash in the name (an attempt) is kept."""
    key, dash, rest = name.partition("-")
    return join(normal(storage), "versions", f"{recipe.name}-{key[:12]}{dash}{rest}")


def finished(address: str) -> Fitted:
    """The result that a version records."""
    record = version_record(address)
    history = [row for row in record.facts["history"] if "valid/loss" in row]
    released = next((row for row in history if row["step"] == record.facts.get("released_step")), history[-1])
    valid = {name: value for name, value in released.items() if name.startswith("valid/")}
    plan_digest = record.facts.get("plan_digest", "")  # versions of earlier releases do not say
    return Fitted(address, record.weights_sha256, plan_digest, record.facts["steps"], valid, history)


def launched(errand: Errand, profile: ComputeProfile, watch: Watch) -> str:
    """Start workers until they have done the last step; the address of the last checkpoint."""
    vain = 0
    while True:
        before = watch.committed_step
        try:
            checkpoint, stopped = launch(errand, profile)
            if stopped is None:
                return checkpoint
            refuse_spent(errand, stopped.step, stopped)
            reason: object = "workers were told to go"
        except TrainingFailedError as error:
            found = _ours(error)
            vain = 0 if watch.committed_step > before else vain + 1
            if found is not error or vain >= FAILURES:
                raise found from None
            reason = error
        logger.warning("training starts again after step %d: %s", watch.committed_step, reason)


def refuse_spent(errand: Errand, step: int, stopped: Stopped | None = None) -> None:
    """BudgetSpent where the run has used what it may."""
    cost = spent(errand.run)
    what = errand.budget.spent(step, cost.core_hours, cost.gpu_hours)
    if stopped is not None and stopped.reason is Reason.BUDGET and not what:  # the ledger is some seconds behind
        what = ", ".join(f"{name} {limit:g}" for name, limit in errand.budget.limits.items())
    if what and step < errand.recipe.steps:
        raise BudgetSpent(
            f"The budget of this run is spent ({what}): {cost.line()}"
            + (f", at step {step} of {errand.recipe.steps}. A checkpoint of it is kept" if stopped else "")
            + ". Run the same again with a larger budget to go on."
        )


def launch(errand: Errand, profile: ComputeProfile) -> tuple[str, Stopped | None]:
    """Run workers until they end; the address of the last checkpoint, and why they ended before the last step."""
    runs, _, name = errand.run.rpartition("/")
    filesystem, path = arrow(runs)
    trainer = TorchTrainer(
        work,
        train_loop_config={"errand": errand},
        torch_config=Heeding(timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=ScalingConfig(
            num_workers=profile.workers,
            elastic_resize_monitor_interval_s=profile.resize_every_s,
            use_gpu=profile.gpus_per_worker > 0,
            resources_per_worker=claims(profile, errand.cores),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(
                max_failures=FAILURES, controller_failure_limit=10, max_preemption_failures=20
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
            callbacks=[Commits(errand.mailbox)],
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
    with _interrupts_restored():
        result = trainer.fit()
    if isinstance(result.return_value, UnmuffleError):
        raise result.return_value
    return join(errand.run, Path(result.checkpoint.path).name), result.return_value


UsualBackend: Any = TorchConfig().backend_cls


class HeedingBackend(UsualBackend):
    """torch.distributed as Ray Train sets it up, in workers that heed SIGTERM."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Ray Train's controller calls this when the workers are there, and before they begin."""
        super().on_start(worker_group, backend_config)
        worker_group.execute(heed_sigterm)  # in their main threads, which alone may set a handler


class Heeding(TorchConfig):
    """Names that backend."""

    @property
    def backend_cls(self) -> Any:
        """Ray Train makes one of these."""
        return HeedingBackend


def claims(profile: ComputeProfile, cpus: float) -> dict[str, float]:
    """What each worker claims, as Ray names it."""
    memory = {} if profile.memory_per_worker_gb is None else {"memory": profile.memory_per_worker_gb * 1e9}
    return {"CPU": cpus, "GPU": profile.gpus_per_worker, **memory}


def claimed_cpus(profile: ComputeProfile) -> float:
    """CPUs that each worker claims: what the profile says, or an even share where the cluster has less than that.

    Ray would wait for ever for CPUs that do not exist.
    """
    there, workers = ray.cluster_resources().get("CPU", 0.0), profile.least_workers
    if there == 0 or workers * profile.cpus_per_worker <= there:
        return float(profile.cpus_per_worker)
    share = there / workers
    return float(int(share)) if share >= 1 else int(share * 10_000) / 10_000  # Ray counts in ten-thousandths


def validator_cpus(profile: ComputeProfile) -> float:
    """CPUs that validation beside the training claims; none where workers may need them all: it would wait for ever."""
    spare = ray.cluster_resources().get("CPU", 0.0) - profile.most_workers * claimed_cpus(profile)
    return float(profile.validation_cpus) if spare >= profile.validation_cpus else 0.0


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
