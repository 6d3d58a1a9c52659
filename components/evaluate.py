"""The step that scores the versions of a run, the champion and the baselines on the gate corpus."""

from typing import Any

from components.compute import Compute, launch, progress
from components.specs import EvaluateSpec, Input
from components.stage import Stage
from simulation import storage
from simulation.corpus import Corpus, open_splits


def gate_of(corpus: Input | None, store: str, use: str, asked: str = "") -> Input:
    """The corpus that the gate of a use scores on: the one asked for, else the one pinned by the use's first run.

    That first run pins the test split of its own corpus. A scenario that is re-weighted later must not move the bar it
    is measured with. Raises NotThere where nothing is pinned and no corpus is given to pin.
    """
    if asked:
        return Input.of(asked)
    address = storage.join(store, "gates", f"{use}.json")
    if corpus is not None and not storage.exists(address):
        test = open_splits(corpus.address, corpus.sha256)["test"]
        storage.create(address, Input(address=test.address, sha256=test.digest).canonical())
    return Input.parse(storage.read(address), address)


def pinned(corpus: str) -> str:
    """ "<address>#<digest>" of a corpus that a person named with or without its digest; empty stays empty.

    Raises what `Corpus.open` raises: a gate corpus that is not there should be known before anything is trained.
    """
    if not corpus:
        return ""
    asked = Input.of(corpus) if "#" in corpus else None
    opened = Corpus.open(asked.address, asked.sha256) if asked else Corpus.open(corpus)
    return str(Input(address=opened.address, sha256=opened.digest))


def scored(models: tuple[Input, ...], gate: Input, use: str, store: str, parent: str = "") -> Input:
    """Score these versions and the champion of the use, or answer from the result; returns the scorecard."""
    from training.metrics import METRICS, STANDARD
    from training.tracking import Tracking

    champion = Tracking().alias(use, "champion")
    if champion is not None and champion.address not in {model.address for model in models}:
        models = (*models, Input(address=champion.address, sha256=champion.weights_sha256))
    ordered = tuple(sorted(models, key=lambda model: (model.sha256, model.address)))
    versions = {name: METRICS[name].version for name in STANDARD}
    spec = EvaluateSpec(models=ordered, corpus=gate, use=use, metric_versions=versions, parent=parent)
    return Input.of(launch(spec, store).outputs["scorecard"])


def run(spec: EvaluateSpec, stage: Stage) -> dict[str, Any]:
    """The stage: score on Ray, write scorecard and listening page, record both in MLflow."""
    from components.record import recorded, version_at
    from simulation.cluster import cluster
    from training.evaluate import evaluate
    from training.tracking import Tracking

    tracking = Tracking()
    names = {version_at(tracking, spec.use, model.address).name: model.address for model in spec.models}
    out = storage.join(stage.folder, "scores", str(stage.attempt))  # what a lost attempt still writes harms no other
    with cluster(), recorded(tracking, stage, "evaluate", spec.parent) as run_id:
        tracking.dataset(run_id, spec.corpus.address, spec.corpus.sha256, "evaluation")
        scorecard = evaluate(
            names,
            Corpus.open(spec.corpus.address, spec.corpus.sha256),
            out,
            workers=Compute.current().workers,
            progress=progress("evaluate"),
        )
        stage.check()
        for name in ("scorecard.json", "report.html"):
            tracking.artifact(run_id, storage.read(storage.join(out, name)), name)
        tracking.metrics(run_id, scorecard.headline(), 0)
    address = storage.join(out, "scorecard.json")
    return {"scorecard": str(Input(address=address, sha256=scorecard.digest())), "run_id": run_id}
