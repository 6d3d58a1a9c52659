"""The two steps that a run on a cluster has beside those of a laptop: the first names it, the last tells how it ended.

Each body is an import and a call, as in `components/steps.py`.
"""

from typing import List  # noqa: UP035  kfp reads the annotation and knows only this spelling

from kfp import dsl

from components.compute import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def begin(
    scenario: str,
    recipes: List[str],  # noqa: UP006
    distil: str,
    gate_corpus: str,
    use: str,
    policy: str,
    hours: float,
    seed: int,
    store: str,
    again: int,
    reason: str,
) -> str:
    """Look at the request and at its data; returns the logical key of the run."""
    asked = dict(locals())  # the parameters: those of a request, and two of its circumstances
    from pipelines.begin import begun
    from pipelines.request import Request

    store, reason = asked.pop("store"), asked.pop("reason")
    return begun(Request.parse(asked, "the request"), store, reason)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def notify(status: dsl.PipelineTaskFinalStatus, store: str) -> None:
    """Tell how the run ended, and end its runs in MLflow; whatever happened, this comes last."""
    from components.notify import notified

    notified(store, status.state, status.error_message or "")
