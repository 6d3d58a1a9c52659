"""The step that trains one recipe and registers the version."""

from typing import TYPE_CHECKING, Any

from components.compute import Compute, launch, said_now_and_then
from components.specs import Input, TrainSpec, is_address
from components.stage import Result, Stage
from simulation import storage

if TYPE_CHECKING:
    from training.recipe import Recipe


def named_recipe(name: str) -> "Recipe":
    """A recipe of the cookbook, or one that lies as JSON at an address."""
    from training.cookbook import recipe as from_cookbook
    from training.recipe import Recipe

    if not is_address(name):
        return from_cookbook(name)
    return Recipe.parse(storage.read(storage.normal(name)), name)


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
    from components.record import recorded
    from simulation.cluster import cluster
    from training.fit import fit
    from training.ledger import first_began
    from training.recipe import Recipe
    from training.system_metrics import nodes_watched
    from training.tracking import Tracking

    recipe = Recipe.parse(spec.recipe, "recipe")
    tracking = Tracking()
    with cluster(), recorded(tracking, stage, f"train {recipe.name}", spec.parent) as run_id:
        tracking.params(run_id, recipe.model_dump(mode="json"))
        tracking.dataset(run_id, spec.corpus.address, spec.corpus.sha256, "training")
        below = storage.join(stage.store, "runs", stage.key)
        with nodes_watched(lambda values, step: tracking.metrics(run_id, values, step), first_began(below)):
            fitted = fit(
                recipe,
                corpus=spec.corpus.address,
                corpus_digest=spec.corpus.sha256,
                storage=stage.store,
                name=stage.key,
                profile=Compute.current().training,
                before_commit=stage.check,
                log=lambda values, step: tracking.metrics(run_id, values, step),
                progress=lambda progress, said=said_now_and_then(f"train {recipe.name}"): said(progress.line()),
            )
        version = tracking.register(
            recipe.use,
            recipe.network,
            fitted.address,
            fitted.weights_sha256,
            run_id,
            {
                "recipe": recipe.name,
                "corpus_digest": spec.corpus.sha256,
                "plan_digest": fitted.plan_digest,
                "stage_key": stage.key,
            },
        )
        tracking.tag(run_id, {"plan_digest": fitted.plan_digest})
    address = Input(address=fitted.address, sha256=fitted.weights_sha256)
    return {"version": str(address), "name": version.name, "run_id": run_id}
