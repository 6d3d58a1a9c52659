"""The step that scores the versions of a run, the champion and the baselines on the gate corpus."""

from collections.abc import Collection
from typing import Any

from components.compute import Compute, launch, progress
from components.specs import EvaluateSpec, Input
from components.stage import Stage
from simulation import storage
from simulation.virtual import open_corpora, open_corpus

HARMLESS_ROWS = 4
"""Of each do-no-harm case: enough to see that something is wrong, and little to compute."""
RECURRENT = "gru_mask"
"""The network of the small recurrent mask, a row of every scorecard where the use has one."""
PAGE = "report.html"


def gate_of(corpus: Input | None, store: str, use: str, asked: str = "") -> Input:
    """The corpus that the gate of a use scores on: the one asked for, else the one pinned by the use's first run.

    That first run pins the test split of its own corpus. A scenario that is re-weighted later must not move the bar it
    is measured with. Raises NotThere where nothing is pinned and no corpus is given to pin.
    """
    if asked:
        return Input.of(asked)
    address = storage.join(store, "gates", f"{use}.json")
    if corpus is not None and not storage.exists(address):
        test = open_corpora(corpus.address, corpus.sha256)["test"]
        storage.create(address, Input(address=test.address, sha256=test.digest).canonical())
    return Input.parse(storage.read(address), address)


def pinned(corpus: str) -> str:
    """ "<address>#<digest>" of a corpus that a person named with or without its digest; empty stays empty.

    Raises what `open_corpus` raises: a gate corpus that is not there should be known before anything is trained.
    """
    if not corpus:
        return ""
    asked = Input.of(corpus) if "#" in corpus else None
    opened = open_corpus(asked.address, asked.sha256) if asked else open_corpus(corpus)
    return str(Input(address=opened.address, sha256=opened.digest))


def scored(models: tuple[Input, ...], gate: Input, use: str, store: str, parent: str = "", policy: str = "") -> Input:
    """Score these versions beside the champion of the use and the recurrent baseline, or answer from the result.

    Returns the scorecard. Scored is what is standard and what the policy (a name or a file; empty: the use's own) asks
    for. The page compares with the champion, unless that is one of these versions itself: so a run that is asked for
    again after its winner was promoted is answered from its result, and a page for another champion is another page.
    """
    from serving.policy import metrics_of, policy_for
    from training.evaluate import SCORING_VERSION
    from training.metrics import METRICS, STANDARD
    from training.metrics.weights import weights_sha256
    from training.tracking import Tracking

    tracking = Tracking()
    champion = _input(tracking.alias(use, "champion"))
    if champion is not None and champion.address in {model.address for model in models}:
        champion = None
    everything = {model.address: model for model in (*models, champion) if model is not None}
    baseline = _input(recurrent_baseline(tracking, use, everything.keys()))
    if baseline is not None:
        everything[baseline.address] = baseline
    metrics = dict.fromkeys((*STANDARD, *metrics_of(policy_for(use, policy))))
    spec = EvaluateSpec(
        models=tuple(sorted(everything.values(), key=lambda model: (model.sha256, model.address))),
        champion=champion,
        corpus=gate,
        use=use,
        metric_versions={name: METRICS[name].version for name in metrics},
        metric_weights={
            name: weights for name in metrics if (weights := weights_sha256(METRICS[name].needs_weights)) is not None
        },
        harmless=HARMLESS_ROWS,
        scoring_version=SCORING_VERSION,
        parent=parent,
    )
    return Input.of(launch(spec, store).outputs["scorecard"])


def page_of(scorecard: str) -> bytes:
    """The listening page that lies beside a scorecard, HTML in UTF-8."""
    return storage.read(storage.join(scorecard.rpartition("/")[0], PAGE))


def _input(version: Any) -> Input | None:
    """A version as an input; None where there is none."""
    return None if version is None else Input(address=version.address, sha256=version.weights_sha256)


def recurrent_baseline(tracking: Any, use: str, models: Collection[str]) -> Any:
    """The newest small recurrent mask of the use, a version; None where there is none, or where one of the models (by
    address) is such a mask itself."""
    found = [version for version in tracking.versions(use) if version.network == RECURRENT]
    return None if not found or any(version.address in models for version in found) else found[-1]


def run(spec: EvaluateSpec, stage: Stage) -> dict[str, Any]:
    """The stage: score on Ray, write scorecard and listening page, record both in MLflow."""
    from components.record import recorded, version_at
    from simulation.cluster import cluster
    from training.evaluate import evaluate
    from training.metrics import METRICS
    from training.score_cache import FOLDER
    from training.tracking import Tracking

    tracking = Tracking()
    names = {version_at(tracking, spec.use, model.address).name: model.address for model in spec.models}
    champion = next((name for name, where in names.items() if spec.champion and where == spec.champion.address), None)
    out = storage.join(stage.folder, "scores", str(stage.attempt))  # what a lost attempt still writes harms no other
    with cluster(), recorded(tracking, stage, "evaluate", spec.parent) as run_id:
        tracking.dataset(run_id, spec.corpus.address, spec.corpus.sha256, "evaluation")
        scorecard = evaluate(
            names,
            open_corpus(spec.corpus.address, spec.corpus.sha256),
            out,
            champion=champion,
            metrics=[name for name in METRICS if name in spec.metric_versions],  # JSON keeps no order
            workers=Compute.current().workers,
            cache=storage.join(stage.store, FOLDER),
            harmless=spec.harmless,
            progress=progress("evaluate"),
        )
        stage.check()
        for name in ("scorecard.json", PAGE):
            tracking.artifact(run_id, storage.read(storage.join(out, name)), name)
        tracking.metrics(run_id, scorecard.headline(), 0)
    address = storage.join(out, "scorecard.json")
    return {"scorecard": str(Input(address=address, sha256=scorecard.digest())), "run_id": run_id}
