"""The step that trains one recipe and registers the version."""

from typing import TYPE_CHECKING, Any

from components.compute import Compute, launch, say
from components.specs import Input, TrainSpec, is_address
from components.stage import Result, Stage
from simulation import storage

if TYPE_CHECKING:
    from training.recipe import Recipe
    from training.registry import Version
    from training.tracking import Tracking


def recipe_of(name: str) -> "Recipe":
    """A recipe of the cookbook, or one that lies as JSON at an address; versions that it names may still be open."""
    from training.cookbook import recipe as from_cookbook
    from training.recipe import Recipe

    return Recipe.parse(storage.read(storage.normal(name)), name) if is_address(name) else from_cookbook(name)


def named_recipe(name: str) -> "Recipe":
    """The same, where what it begins with is there."""
    from training.beginnings import check_beginnings

    found = recipe_of(name)
    check_beginnings(found)
    return found


def spec_of(recipe: str, corpus: Input, parent: str = "", again: int = 0) -> TrainSpec:
    """The spec of a run of a recipe on this corpus; each `again` is a try with the next seed."""
    found = named_recipe(recipe)
    settings = found.model_dump(mode="json") | {"seed": found.seed + again}
    return TrainSpec(recipe=settings, corpus=corpus, parent=parent, again=again)


def trained(recipe: str, corpus: Input, store: str, parent: str = "", again: int = 0) -> Result:
    """Train a recipe, or answer from the result; `outputs` hold the version's "<address>#<digest>" and its name."""
    return launch(spec_of(recipe, corpus, parent, again), store)


def run(spec: TrainSpec, stage: Stage) -> dict[str, Any]:
    """The stage: fit on Ray Train, log what each checkpoint brings, register the version."""
    from components.live import said_cluster
    from components.record import recorded
    from training.recipe import Recipe
    from training.tracking import Tracking

    recipe = Recipe.parse(spec.recipe, "recipe")
    tracking, name = Tracking(), f"train {recipe.name}"
    with said_cluster(name), recorded(tracking, stage, name, spec.parent) as run_id:
        version = fitted_and_registered(recipe, spec.corpus, stage, tracking, run_id, name)
    address = Input(address=version.address, sha256=version.weights_sha256)
    return {"version": str(address), "name": version.name, "run_id": run_id}


def fitted_and_registered(
    recipe: "Recipe", corpus: Input, stage: Stage, tracking: "Tracking", run_id: str, name: str
) -> "Version":
    """Train on Ray, which is there, under this stage's key, and register the version in this run."""
    from components.live import training_watched
    from training.fit import fit
    from training.record import RunRecord
    from training.system_metrics import nodes_watched

    with training_watched(name) as progress:
        record = RunRecord(tracking, run_id, storage.join(stage.store, "runs", stage.key), recipe)
        record.begin(corpus.address, corpus.sha256)
        try:
            with nodes_watched(record.nodes, record.began):
                fitted = fit(
                    recipe,
                    corpus=corpus.address,
                    corpus_digest=corpus.sha256,
                    storage=stage.store,
                    name=stage.key,
                    profile=Compute.current().training_of(recipe.name),
                    before_commit=stage.check,
                    log=record.row,
                    progress=progress,
                )
        finally:
            cost = record.cost()
            say(f"{name}: {cost.line()}")
        return record.end(fitted, corpus.address, corpus.sha256, stage.key)
