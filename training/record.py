"""What a training run leaves in MLflow: how it began, what each checkpoint brought, what it cost, and its version.

Everything goes through the journal but the version: an MLflow that is away holds up nobody. See docs/tracking.md for
what lies where.
"""

import json
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from simulation import storage
from simulation.errors import StorageError
from training.curves import curves
from training.ledger import Cost, first_began, spent
from training.model_card import Trained, model_card
from training.provenance import code, environment, requirements
from training.recipe import Recipe
from training.registry import Version
from training.samples import kept_samples
from training.tracking import Tracking
from training.tracking.connection import Unreachable
from training.tracking.logged_models import shortened

if TYPE_CHECKING:
    from training.fit import Fitted

log = logging.getLogger(__name__)

PATIENCE_S = 300.0
"""How long a version waits for the registry before the stage fails; run again, it is answered from the store."""
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description, as Markdown."""


class RunRecord:
    """One training run, of which `run` is the address and `run_id` the id in MLflow."""

    def __init__(self, tracking: Tracking, run_id: str, run: str, recipe: Recipe) -> None:
        self.tracking, self.run_id, self.run, self.recipe = tracking, run_id, run, recipe
        self.began = first_began(run)
        self._sent: set[str] = set()

    def begin(self, corpus: str, corpus_digest: str) -> None:
        """Settings, corpus, seed, code and environment; said again by each attempt."""
        self.tracking.params(self.run_id, self.recipe.model_dump(mode="json"))
        self.tracking.dataset(self.run_id, corpus, corpus_digest, "training")
        self.tracking.tag(self.run_id, {**code(), "seed": str(self.recipe.seed), "corpus_digest": corpus_digest})
        here = json.dumps(environment(), indent=2).encode()
        self.tracking.artifact(self.run_id, here, "environment/environment.json")
        self.tracking.artifact(self.run_id, requirements().encode(), "environment/requirements.txt")

    def row(self, values: dict[str, float | int], step: int) -> None:
        """A row of the history whose checkpoint is committed; with figures on the valid split, its samples and cost."""
        self.tracking.metrics(self.run_id, values, step)
        if any(name.startswith("valid/") for name in values):
            self._samples(step)
            self.cost()

    def nodes(self, values: dict[str, float], step: int) -> None:
        """What a node does."""
        self.tracking.metrics(self.run_id, values, step)

    def cost(self) -> Cost:
        """Log what the run has cost so far, at the seconds since it first began."""
        try:
            cost = spent(self.run)
        except StorageError as problem:
            log.warning("what the run has cost cannot be read: %s", problem)
            return Cost()
        values = {f"cost/{name}": float(value) for name, value in cost.model_dump().items()}
        self.tracking.metrics(self.run_id, values, int(time.time() - self.began))
        return cost

    def end(self, fitted: "Fitted", corpus: str, corpus_digest: str, stage_key: str) -> Version:
        """Learning curves, model card, cost; and the version, registered."""
        from training.checkpoint import version_record

        cost = self.cost()
        history = version_record(fitted.address).facts["history"]
        self.tracking.artifact(self.run_id, curves(history, f"train {self.recipe.name}"), "curves.png")
        card = model_card(
            Trained(
                recipe=self.recipe,
                corpus=corpus,
                corpus_digest=corpus_digest,
                steps=fitted.steps,
                weights=fitted.address,
                weights_sha256=fitted.weights_sha256,
                valid=fitted.valid,
                cost=cost,
                code=code(),
                environment=environment(),
            )
        )
        self.tracking.tag(self.run_id, {"plan_digest": fitted.plan_digest, NOTE: shortened(card)})
        tags = {
            "recipe": self.recipe.name,
            "corpus_digest": corpus_digest,
            "plan_digest": fitted.plan_digest,
            "stage_key": stage_key,
            "code_sha256": code()["code_sha256"],
            **cost_tags(cost),
        }
        figures = {name.removeprefix("valid/"): value for name, value in fitted.valid.items()}
        return patiently(
            lambda: self.tracking.register(
                self.recipe.use,
                self.recipe.network,
                fitted.address,
                fitted.weights_sha256,
                self.run_id,
                tags,
                card=card,
                figures=figures,
            )
        )

    def _samples(self, step: int) -> None:
        try:
            for name, address in kept_samples(self.run, step).items():
                if name not in self._sent:
                    self.tracking.artifact(self.run_id, storage.read(address), f"samples/{name}")
                    self._sent.add(name)
        except StorageError as problem:
            log.warning("samples of step %d do not reach MLflow: %s", step, problem)


def patiently(ask: Callable[[], Version], patience_s: float = PATIENCE_S, every_s: float = 5.0) -> Version:
    """The answer of a registry that may be away for a while; after that, its `Unreachable`."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return ask()
        except Unreachable as problem:
            if time.monotonic() + every_s > deadline:
                raise
            log.warning("the version waits to be registered: %s", problem)
            time.sleep(every_s)


def cost_tags(cost: Cost) -> dict[str, str]:
    """What a version has cost, as its tags."""
    return {
        "cost_core_hours": f"{cost.core_hours:.4f}",
        "cost_gpu_hours": f"{cost.gpu_hours:.4f}",
        "cost_wasted_core_hours": f"{cost.wasted_core_seconds / 3600:.4f}",
        "cost_gigabytes": f"{(cost.bytes_read + cost.bytes_written) / 1e9:.4f}",
    }
