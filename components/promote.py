"""The step that decides: compares the versions of a run with the champion, and promotes at most one.

The gate is inside this task, not a branch of the pipeline: the same code decides on a laptop and on a cluster.
"""

import io
from itertools import count
from typing import Any

from components.compute import launch, say
from components.specs import Input, PromoteSpec
from components.stage import Stage, folder, result_of
from simulation import storage
from simulation.errors import PromotionBusy

VERDICT, PAGE = "verdict.json", "verdict.html"
"""What the stage leaves in its folder, beside its result."""


def decided(
    scorecard: Input,
    candidates: tuple[Input, ...],
    use: str,
    store: str,
    parent: str = "",
    policy: str = "",
    canary: dict[str, Any] | None = None,
) -> str:
    """Gate these candidates on their scorecard, or answer from a result that still holds; returns its address.

    `policy` is a name or a file; empty takes the use's own. `canary`, as in the spec, lets the winner in by steps.
    """
    from serving.policy import policy_for
    from training.tracking import Tracking

    ordered = tuple(sorted(candidates, key=lambda candidate: candidate.address))
    spec = PromoteSpec(
        scorecard=scorecard,
        candidates=ordered,
        use=use,
        policy=policy_for(use, policy).model_dump(mode="json"),
        parent=parent,
        canary=canary,
    )
    spec = against_the_champion(spec, store, Tracking())
    result = launch(spec, store)
    return storage.join(folder(store, spec.stage, result.key), "result.json")


def against_the_champion(spec: PromoteSpec, store: str, tracking: Any) -> PromoteSpec:
    """The spec with its opponent: the champion, or the one before where this very spec made the champion.

    A result is an answer only while its champion is still the champion: after a rollback the gate decides anew.
    """
    champion, previous = tracking.alias(spec.use, "champion"), tracking.alias(spec.use, "previous_champion")
    if champion is not None and champion.weights_sha256 in {candidate.sha256 for candidate in spec.candidates}:
        made = _newest_try(_against(spec, previous), store, champion)
        if result_of(store, made) is not None or _crowned(made, store, champion):
            return made
    return _newest_try(_against(spec, champion), store, champion)


def _against(spec: PromoteSpec, opponent: Any) -> PromoteSpec:
    return spec.model_copy(update={"champion": opponent.weights_sha256 if opponent else ""})


def _newest_try(spec: PromoteSpec, store: str, champion: Any) -> PromoteSpec:
    """The first try at this spec that has no result, or one after which this champion was left."""
    for number in count():
        one = spec.model_copy(update={"again": number})
        result = result_of(store, one)
        if result is None or result.outputs["champion"] == (champion.version if champion else None):
            return one
    raise AssertionError("unreachable")


def _crowned(spec: PromoteSpec, store: str, champion: Any) -> bool:
    """Whether an attempt that was killed before its result got as far as making this champion."""
    from serving.judgement import Verdict

    address = storage.join(folder(store, spec.stage, spec.key()), VERDICT)
    return storage.exists(address) and Verdict.parse(storage.read(address), address).winner == champion.name


def run(spec: PromoteSpec, stage: Stage) -> dict[str, Any]:
    """The stage: verdict first and kept, then deploy, verify, move the alias."""
    from components.deployment import deployer
    from components.record import recorded, version_at
    from serving.canary import Rules
    from serving.promotion import promote as carried_out
    from serving.verdict_page import page
    from training.tracking import Tracking

    tracking = Tracking()
    versions = {}
    for candidate in spec.candidates:
        version = version_at(tracking, spec.use, candidate.address)
        versions[version.name] = version
    champion = tracking.alias(spec.use, "champion")
    if champion is not None:
        versions[champion.name] = champion
    with deployer() as service, recorded(tracking, stage, "promote", spec.parent) as run_id:
        verdict = _kept_verdict(spec, stage, versions, champion)
        say(f"promote: {verdict.winner or 'nobody'} wins over {verdict.opponent}")
        storage.replace(storage.join(stage.folder, PAGE), page(verdict))
        for name in (VERDICT, PAGE):
            tracking.artifact(run_id, storage.read(storage.join(stage.folder, name)), name)
        tracking.tag(run_id, {"gate_winner": verdict.winner or "nobody", "gate_reason": verdict.reason})
        if verdict.winner:
            keep_scores(stage.store, spec, versions[verdict.winner], verdict)
        rules = Rules.parse(spec.canary, "canary") if spec.canary else None
        promotion = carried_out(verdict, versions, tracking, service, stage.store, spec.use, rules)
    addresses = {"verdict": storage.join(stage.folder, VERDICT), "verdict_page": storage.join(stage.folder, PAGE)}
    outputs = addresses | {"scorecard": spec.scorecard.address, "run_id": run_id}
    return outputs | promotion.model_dump(mode="json")


def keep_scores(store: str, spec: PromoteSpec, winner: Any, verdict: Any) -> None:
    """Leave the winner's scores where the service that will answer with it shows them."""
    from serving.playground.scores import keep, scores_of
    from training.scorecard import Scorecard

    scorecard = Scorecard.parse(storage.read(spec.scorecard.address), spec.scorecard.address)
    keep(store, spec.use, winner.weights_sha256, scores_of(winner, scorecard, verdict))


def _kept_verdict(spec: PromoteSpec, stage: Stage, versions: dict[str, Any], champion: Any) -> Any:
    """The verdict of an earlier attempt that died while it was carried out, else a new one."""
    from serving.policy import Policy
    from serving.verdict import Verdict, verdict

    address = storage.join(stage.folder, VERDICT)
    if not storage.exists(address):
        if spec.champion != (champion.weights_sha256 if champion else ""):
            raise PromotionBusy(
                f"The champion of {spec.use} is now {champion.name if champion else 'nobody'}, no longer the one that "
                "this was to be compared with: another promotion or rollback came in between. Run the same command "
                "again."
            )
        names = [name for name in versions if champion is None or name != champion.name]
        fresh = verdict(
            scores_beside(spec.scorecard.address),
            champion.name if champion else None,
            names,
            Policy.parse(spec.policy, "policy"),
            facts={name: facts_beside(spec.scorecard.address, versions[name]) for name in names},
            looks=looks_with(stage.store, spec.scorecard.address, stage.key),
        )
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


def facts_beside(scorecard: str, version: Any) -> Any:
    """What a version costs, kept beside its scores; measured here where nobody has yet."""
    from serving.facts import measured
    from serving.judgement import Facts

    address = storage.join(scorecard.rpartition("/")[0], "facts", f"{version.weights_sha256[:16]}.json")
    if storage.exists(address):
        return Facts.parse(storage.read(address), address)
    say(f"promote: measuring what {version.name} costs")
    facts = measured(version.address)
    if facts != Facts():  # what could not be measured may be another time
        storage.create(address, facts.canonical())
    return facts
