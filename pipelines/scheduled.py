"""The pipelines as a cluster runs them: the steps of `enhancement.py`, between a beginning and an end.

`retrain` here is the `retrain` of a laptop inside an exit handler. Its loop over recipes lies in a pipeline of its own,
because a loop directly inside an exit handler fails on KFP's backend (kubeflow/pipelines#12390).
"""

from typing import List  # noqa: UP035  kfp reads the annotation and knows only this spelling

from kfp import dsl

from components.steps import evaluate, simulate
from pipelines.cluster_steps import begin, notify
from pipelines.enhancement import retrain as whole
from pipelines.request import RECIPES


@dsl.pipeline(name="retrain", description="Simulate, train, distil, evaluate, gate, promote; then tell.")
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
    again: int = 0,
    reason: str = "schedule",
) -> None:
    """Retrain the models of one use, as `pipelines.enhancement.retrain` says; the key of the run is worked out first.

    Equal data and settings have an equal key, so a schedule that finds nothing new is answered from results.
    """
    asked = {name: value for name, value in locals().items() if name != "reason"}
    told = notify(store=store)
    with dsl.ExitHandler(told):
        key = begin(**asked, reason=reason)
        run = whole(**asked, run_key=key.output)
    for step in (told, key, run):
        step.set_caching_options(False)


@dsl.pipeline(name="simulate-only", description="Build the corpora of a scenario.")
def simulate_only(
    scenario: str = "sample", hours: float = 0.0, seed: int = 0, store: str = "", run_key: str = ""
) -> str:
    """Build a scenario's corpora; the output is their root, "<address>#<digest>"."""
    corpus = simulate(scenario=scenario, hours=hours, seed=seed, store=store, run_key=run_key)
    corpus.set_caching_options(False)
    return corpus.output


@dsl.pipeline(name="evaluate-only", description="Score versions beside the champion.")
def evaluate_only(
    models: List[str],  # noqa: UP006
    corpus: str,
    gate_corpus: str = "",
    use: str = "denoise-16k",
    policy: str = "",
    store: str = "",
    run_key: str = "",
) -> str:
    """Score versions ("<address>#<digest>") on the gate corpus; the output is the scorecard, in the same form."""
    scorecard = evaluate(
        models=models,
        corpus=corpus,
        gate_corpus=gate_corpus,
        use=use,
        policy=policy,
        store=store,
        run_key=run_key,
    )
    scorecard.set_caching_options(False)
    return scorecard.outputs["Output"]
