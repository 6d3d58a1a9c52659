"""The KFP components: each body is an import and a call, so that what it does can be tested without KFP.

They stand apart from the stages because KFP, inside a task, hides its own decorators.
"""

from typing import List  # noqa: UP035  kfp reads the annotation and knows only this spelling

from kfp import dsl

from components.compute import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def simulate(scenario: str, hours: float, seed: int, store: str, run_key: str) -> str:
    """Build a scenario's corpora; returns their root as "<address>#<digest>"."""
    from components.simulate import chosen, simulated

    return str(simulated(chosen(scenario, hours=hours, seed=seed), store, run_key))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(recipe: str, corpus: str, store: str, run_key: str, again: int) -> str:
    """Train one recipe and register the version; returns it as "<address>#<digest>"."""
    from components.specs import Input
    from components.train import trained

    return str(trained(recipe, Input.of(corpus), store, run_key, again).outputs["version"])


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def distil(
    distil: str,
    versions: List[str],  # noqa: UP006
    recipes: List[str],  # noqa: UP006
    corpus: str,
    use: str,
    store: str,
    run_key: str,
    again: int,
) -> List[str]:  # noqa: UP006
    """Let a version teach a student, where TEACHER:STUDENT is asked for; returns all versions, the student too."""
    from components.distil import with_student
    from components.specs import Input

    trained = dict(zip(recipes, map(Input.of, versions), strict=True))
    return [str(each) for each in with_student(distil, trained, Input.of(corpus), use, store, run_key, again)]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    models: List[str],  # noqa: UP006
    corpus: str,
    gate_corpus: str,
    use: str,
    policy: str,
    store: str,
    run_key: str,
    page: dsl.Output[dsl.HTML],
) -> str:
    """Score versions, champion and baselines on the gate corpus; returns the scorecard, with its listening page."""
    from pathlib import Path

    from components.evaluate import gate_of, page_of, scored
    from components.specs import Input

    gate = gate_of(Input.of(corpus), store, use, gate_corpus)
    scorecard = scored(tuple(Input.of(model) for model in models), gate, use, store, run_key, policy)
    Path(page.path).write_bytes(page_of(scorecard.address))
    return str(scorecard)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    scorecard: str,
    candidates: List[str],  # noqa: UP006
    use: str,
    policy: str,
    store: str,
    run_key: str,
) -> str:
    """Gate the versions together and promote at most one; returns the address of the result."""
    from components.promote import decided
    from components.specs import Input

    models = tuple(Input.of(candidate) for candidate in candidates)
    return decided(Input.of(scorecard), models, use, store, run_key, policy)
