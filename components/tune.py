"""The step that searches over a recipe: trials on one corpus, and the best one's recipe for `train`."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from components.compute import Compute, launch, say
from components.specs import Input, TrainSpec, TuneSpec
from components.stage import Result, Stage
from components.train import named_recipe
from simulation import storage
from simulation.errors import BudgetSpent, UnknownName
from simulation.schema import canonical_json

if TYPE_CHECKING:
    from training.profile import ComputeProfile
    from training.recipe import Recipe
    from training.tracking import Tracking
    from training.tuning import Figures, Report, Trial

METRIC = "valid/si_sdr_gain_db"
"""What trials are compared by where nobody says: unlike the loss, it does not depend on the weights of its terms."""
METRICS = {METRIC: True, "valid/si_sdr_db": True, "valid/loss": False}
"""What they can be compared by, and whether higher is better: the figures of a look at the valid split."""


def tuned(
    recipe: str, corpus: Input, store: str, *, trials: int, over: Sequence[str] = (), steps: int = 0, metric: str = ""
) -> Result:
    """Search over a recipe, or answer from the result; `outputs` hold the best recipe's address, and every trial.

    `over`: what to search (see `training.search.ranges_of`). `steps`: of a trial; 0: the recipe's own.
    """
    from training.search import ranges_of

    found, metric = named_recipe(recipe), metric or METRIC
    if metric not in METRICS:
        raise UnknownName("figure on the valid split", metric, METRICS)
    spec = TuneSpec(
        recipe=found.model_dump(mode="json"),
        search=ranges_of(found, over),
        corpus=corpus,
        trials=trials,
        steps=steps or found.steps,
        metric=metric,
    )
    return launch(spec, store)


def run(spec: TuneSpec, stage: Stage) -> dict[str, Any]:
    """The stage: search with Ray Tune; each trial is a child of the stage's MLflow run."""
    from components.live import said_cluster
    from components.record import recorded
    from training.recipe import Recipe
    from training.search import with_values
    from training.tracking import Tracking
    from training.tuning import search

    recipe = Recipe.parse({**spec.recipe, "search": spec.model_dump(mode="json")["search"]}, "recipe")
    tracking, profile, name = Tracking(), Compute.current().training_of(recipe.name), f"tune {recipe.name}"
    with said_cluster(name), recorded(tracking, stage, name, spec.parent) as run_id:
        tracking.params(run_id, spec.model_dump(mode="json", include={"recipe", "search", "trials", "steps", "metric"}))
        tracking.dataset(run_id, spec.corpus.address, spec.corpus.sha256, "training")
        follower = Recorded(tracking, stage, spec)
        trials = search(
            recipe,
            recipe.search,
            partial(attempted, corpus=spec.corpus, store=stage.store, profile=profile, before_commit=stage.check),
            follower,
            trials=spec.trials,
            steps=spec.steps,
            metric=spec.metric,
            higher_is_better=METRICS[spec.metric],
            at_once=at_once(profile),
        )
        best = trials[0]
        proposal = with_values(recipe, best.values).model_copy(update={"name": f"{recipe.name}_tuned"})
        address = storage.join(stage.folder, "recipe.json")
        stage.check()
        storage.replace(address, proposal.canonical())
        tracking.artifact(run_id, proposal.canonical(), "recipe.json")
        tracking.tag(run_id, {"best_trial": str(best.number), "recipe_address": address})
    rows = [trial_row(trial, spec) for trial in trials]
    return {"recipe": address, "best": best.number, "metric": spec.metric, "trials": rows, "run_id": run_id}


def attempted(
    number: int,
    recipe: "Recipe",
    report: "Report",
    *,
    corpus: Input,
    store: str,
    profile: "ComputeProfile",
    before_commit: Callable[[], None],
) -> None:
    """One trial: a training run like any other, but that its version is registered nowhere.

    Its looks at the valid split are kept in the store before they are reported. A trial that was tried before, in this
    search or another, reports them first, and goes on training only if nobody stops it there. It is trained from rung
    to rung (see `training.tuning`); BudgetSpent where the profile's own budget ends before.
    """
    from training.fit import fit
    from training.search import rungs

    key, trials = TrainSpec(recipe=recipe.model_dump(mode="json"), corpus=corpus).key(), storage.join(store, "trials")
    looks = Looks(storage.join(trials, "looks", f"{key}.json"), report)
    for rung in rungs(recipe):
        if looks.last_step < rung:
            looks.withheld = rung
            try:
                fit(
                    recipe,
                    corpus=corpus.address,
                    corpus_digest=corpus.sha256,
                    storage=trials,
                    name=key,
                    profile=up_to(rung, profile),
                    before_commit=before_commit,
                    log=looks.log,
                )
            except BudgetSpent:
                if looks.last_step < rung:
                    raise
            looks.release()


def up_to(step: int, profile: "ComputeProfile") -> "ComputeProfile":
    """The profile of a run that leaves after a step, with its look at the valid split: it waits for that one."""
    steps = step if profile.budget.max_steps is None else min(step, profile.budget.max_steps)
    budget = profile.budget.model_copy(update={"max_steps": steps})
    return profile.model_copy(update={"validation": "inside", "budget": budget})


class Looks:
    """The looks of a trial at the valid split, as the store has them; reported in order, each once."""

    def __init__(self, address: str, report: "Report") -> None:
        """Reports those that are there."""
        self.address, self.report = address, report
        stored = storage.read(address) if storage.exists(address) else b"[]"
        self.rows: list[tuple[int, Figures]] = [(row["step"], row["figures"]) for row in json.loads(stored)]
        self.withheld: int | None = None
        """The step whose look is kept and not reported yet."""
        for step, figures in self.rows:
            report(step, figures)

    @property
    def last_step(self) -> int:
        """Of the last look; 0 before the first."""
        return self.rows[-1][0] if self.rows else 0

    def log(self, values: dict[str, float | int], step: int) -> None:
        """Take a row of a training run's history: what it says of the valid split is kept, then reported."""
        figures = {name: float(value) for name, value in values.items() if name.startswith("valid/")}
        if not figures or step <= self.last_step:
            return
        self.rows.append((step, figures))
        stored = [{"step": at, "figures": seen} for at, seen in self.rows]
        storage.replace(self.address, canonical_json(stored))
        if step != self.withheld:
            self.report(step, figures)

    def release(self) -> None:
        """Report the look that was withheld, if it came."""
        if self.last_step == self.withheld:
            self.report(*self.rows[-1])


class Recorded:
    """Says how trials go, and records each as a child of the search's run."""

    def __init__(self, tracking: "Tracking", stage: Stage, spec: TuneSpec) -> None:
        self.tracking, self.stage, self.spec = tracking, stage, spec
        self.runs: dict[int, str] = {}

    def began(self, number: int, recipe: "Recipe") -> None:
        """A child run, with the trial's recipe."""
        name = f"trial {number} of {self.spec.recipe['name']}"
        run_id = self.tracking.run(f"{self.stage.key}-{number}", name, self.stage.key, {"stage": "trial"})
        self.tracking.params(run_id, recipe.model_dump(mode="json"))
        self.runs[number] = run_id
        say(f"tune: trial {number} ({number + 1} of {self.spec.trials}) begins")

    def looked(self, number: int, step: int, figures: "Figures") -> None:
        """Its figures at a step."""
        self.tracking.metrics(self.runs[number], figures, step)
        value = figures[self.spec.metric]
        say(f"tune: trial {number}, step {step} of {self.spec.steps}: {self.spec.metric} {value:.3f}")

    def ended(self, trial: "Trial") -> None:
        """Finished, stopped or failed."""
        self.tracking.tag(self.runs[trial.number], {"trial_state": trial.state, "reason": trial.reason})
        self.tracking.finish(self.runs[trial.number], trial.state != "failed")
        say(
            f"tune: trial {trial.number} {trial.state} after step {trial.step}{': ' * bool(trial.reason)}{trial.reason}"
        )


def at_once(profile: "ComputeProfile") -> int:
    """Trials that there are CPUs and GPUs for at the same time; at least one."""
    import ray

    there = ray.cluster_resources()
    room = [there.get("CPU", 0.0) / (profile.least_workers * profile.cpus_per_worker)]
    if profile.gpus_per_worker:
        room.append(there.get("GPU", 0.0) / (profile.least_workers * profile.gpus_per_worker))
    return max(1, int(min(room)))


def trial_row(trial: "Trial", spec: TuneSpec) -> dict[str, Any]:
    """A trial as the result has it."""
    return {
        "trial": trial.number,
        "values": trial.values,
        "state": trial.state,
        "step": trial.step,
        "figures": trial.figures,
        "reason": trial.reason,
    }
