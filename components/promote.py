"""The step that decides: compares the versions of a run with the champion, and promotes at most one.

The gate is inside this task, not a branch of the pipeline: the same code decides on a laptop and on a cluster.
"""

import io
from typing import Any

from components.compute import launch, say
from components.specs import Input, PromoteSpec
from components.stage import Stage, folder
from simulation import storage


def decided(scorecard: Input, candidates: tuple[Input, ...], use: str, store: str, parent: str = "") -> str:
    """Gate these candidates on their scorecard, or answer from the result; returns the address of the result."""
    from serving.policy import policy_for

    ordered = tuple(sorted(candidates, key=lambda candidate: candidate.address))
    policy = policy_for(use).model_dump(mode="json")
    spec = PromoteSpec(scorecard=scorecard, candidates=ordered, use=use, policy=policy, parent=parent)
    result = launch(spec, store)
    return storage.join(folder(store, spec.stage, result.key), "result.json")


def run(spec: PromoteSpec, stage: Stage) -> dict[str, Any]:
    """The stage: verdict first and kept, then deploy, verify, move the alias."""
    from components.record import recorded, version_at
    from serving.deployer import LocalServe
    from serving.promotion import promote as carried_out
    from simulation.cluster import cluster
    from simulation.home import Home
    from training.tracking import Tracking

    tracking = Tracking()
    versions = {}
    for candidate in spec.candidates:
        version = version_at(tracking, spec.use, candidate.address)
        versions[version.name] = version
    champion = tracking.alias(spec.use, "champion")
    if champion is not None:
        versions[champion.name] = champion
    with cluster(), recorded(tracking, stage, "promote", spec.parent) as run_id:
        verdict = _kept_verdict(spec, stage, tuple(versions), champion.name if champion else None)
        say(f"promote: {verdict.winner or 'nobody'} wins over {verdict.opponent}")
        promotion = carried_out(verdict, versions, tracking, LocalServe(Home.current()), stage.store, spec.use)
        tracking.artifact(run_id, verdict.canonical(), "verdict.json")
    addresses = {"verdict": _verdict_address(stage), "scorecard": spec.scorecard.address}
    return addresses | {"run_id": run_id} | promotion.model_dump(mode="json")


def _verdict_address(stage: Stage) -> str:
    return storage.join(stage.folder, "verdict.json")


def _kept_verdict(spec: PromoteSpec, stage: Stage, names: tuple[str, ...], champion: str | None) -> Any:
    """The verdict of an earlier attempt that died while it was carried out, else a new one."""
    from serving.policy import Policy
    from serving.verdict import Verdict, verdict

    address = _verdict_address(stage)
    if not storage.exists(address):
        scores = scores_beside(spec.scorecard.address)
        candidates = [name for name in names if name != champion]
        seen = looks_with(stage.store, spec.scorecard.address, stage.key)
        fresh = verdict(scores, champion, candidates, Policy.parse(spec.policy, "policy"), looks=seen)
        stage.check()
        storage.create(address, fresh.canonical())
    return Verdict.parse(storage.read(address), address)


def looks_with(store: str, scorecard: str, what: str) -> int:
    """Write down that `what` looked at the corpus of a scorecard; how often that corpus was looked at, now included."""
    from serving.ledger import record
    from training.scorecard import Scorecard

    return record(store, Scorecard.parse(storage.read(scorecard), scorecard).corpus_digest, what)


def scores_beside(scorecard: str) -> Any:
    """The table of scores that lies beside a scorecard."""
    import pandas as pd

    return pd.read_parquet(io.BytesIO(storage.read(storage.join(scorecard.rpartition("/")[0], "scores.parquet"))))
