"""The retraining pipeline: simulate -> train each recipe -> distil -> evaluate them together -> promote at most one.

1. `simulate`   a scenario becomes a corpus in the store
2. `train_each` every recipe is trained on it and registered as a version
3. `distil`     where it is asked for, a version teaches a student, which joins the others
4. `evaluate`   all new versions, the champion and the baselines are scored on the pinned gate corpus
5. `promote`    the gate compares; the winner, if there is one, is deployed, verified, and becomes champion

Parameters are strings, addresses and small numbers; steps hand over "<address>#<digest>", never audio. The gate is
inside its task: the same code decides on a laptop and on a cluster, and no branch of a graph can skip it.
"""

from typing import List  # noqa: UP035  kfp reads the annotation and knows only this spelling

from kfp import dsl

from components.steps import distil as distil_step
from components.steps import evaluate, promote, simulate, train
from pipelines.request import RECIPES


@dsl.pipeline(name="train-each")
def train_each(recipes: List[str], corpus: str, store: str, run_key: str, again: int) -> List[str]:  # noqa: UP006
    """Train every recipe on the same corpus; nested, because a loop beside an exit handler fails on the backend."""
    with dsl.ParallelFor(recipes) as recipe:
        version = train(recipe=recipe, corpus=corpus, store=store, run_key=run_key, again=again)
        version.set_caching_options(False)
    return dsl.Collected(version.output)


@dsl.pipeline(name="retrain", description="Simulate, train, distil, evaluate, gate, promote.")
def retrain(
    scenario: str = "sample",
    recipes: List[str] = list(RECIPES),  # noqa: UP006, B006  a default that kfp writes into the YAML
    distil: str = "",
    gate_corpus: str = "",
    use: str = "denoise-16k",
    policy: str = "",
    hours: float = 0.0,
    seed: int = 0,
    store: str = "",
    run_key: str = "",
    again: int = 0,
) -> str:
    """Retrain the models of one use; the output is the address of the last stage's result: who won, and why.

    Args:
        scenario: name of a scenario, or the address of one written as JSON.
        recipes: names from the cookbook; all of them are gated together.
        distil: "TEACHER:STUDENT": a version or a recipe of this run teaches the student's recipe; empty: nobody does.
        gate_corpus: "<address>#<digest>" of the corpus the gate scores on; empty takes the one pinned for the use.
        use: what the models are for; each use has one champion.
        policy: what it takes to become champion: a policy's name, or the address of one as JSON; empty: the use's own.
        hours: hours of training audio; 0 takes the scenario's own size.
        seed: seed of the corpus.
        store: address of the object store.
        run_key: logical key of this run; an equal key continues the same MLflow run.
        again: raised to train once more what was trained before.
    """
    corpus = simulate(scenario=scenario, hours=hours, seed=seed, store=store, run_key=run_key)
    versions = train_each(recipes=recipes, corpus=corpus.output, store=store, run_key=run_key, again=again)
    candidates = distil_step(
        distil=distil,
        versions=versions.output,
        recipes=recipes,
        corpus=corpus.output,
        use=use,
        store=store,
        run_key=run_key,
        again=again,
    )
    scorecard = evaluate(
        models=candidates.output,
        corpus=corpus.output,
        gate_corpus=gate_corpus,
        use=use,
        policy=policy,
        store=store,
        run_key=run_key,
    )
    verdict = promote(
        scorecard=scorecard.outputs["Output"],
        candidates=candidates.output,
        use=use,
        policy=policy,
        store=store,
        run_key=run_key,
    )
    for step in (corpus, versions, candidates, scorecard, verdict):
        step.set_caching_options(False)  # stages answer by their own keys; KFP's cache cannot see the store
    return verdict.output
