"""Promotion: deploy the winner beside what serves, verify what answers, then move the champion alias.

The alias is the truth. Everything before it moves can be thrown away, everything after it follows from it, so a
promotion that was killed at any point is completed, or begun anew, by running it again. Rolling back is the same walk
towards the previous champion. The verdict itself is pure and stands in `serving/verdict.py`.

With rules for a canary the winner meets requests first, beside the champion: see `serving/steps.py`.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from serving.audit import Event, note
from serving.canary import EVERYTHING, Rules
from serving.lease import Lease, ask_to_stop, held, promotion_lock
from serving.steps import RolledBack, SplitService, walk
from serving.verdict import UNPROCESSED, Verdict
from serving.verdict_page import page
from simulation import storage
from simulation.errors import NoChampion, PromotionBusy, VerificationFailed
from simulation.schema import Schema
from training.registry import CHALLENGER, CHAMPION, PREVIOUS_CHAMPION
from training.tracking import Tracking, Version

logger = logging.getLogger(__name__)


STOP_S = 60.0
"""How long a canary may take to end when it is told to."""


class Deployer(SplitService, Protocol):
    """Where a use is served: local Serve, or a RayService. Each call waits until it is done, within its own limit."""

    def deploy_beside(self, version: Version) -> Any:
        """Start the version beside what serves, without traffic, and give a handle to it.

        Whatever it started is gone again when it raises.
        """

    def verify(self, handle: Any, version: Version) -> None:
        """Ask what was deployed: raises VerificationFailed unless it answers, sanely, as this very version."""

    def switch(self, version: Version) -> None:
        """Let the service answer with this version from now on; nothing to do where none runs, or it does already."""

    def discard(self, handle: Any) -> None:
        """Take away what `deploy_beside` started; called once for each handle, after a switch as well."""

    def candidate(self) -> str:
        """The candidate that was let in and answers some requests, as its answers call it; "" where there is none."""


class Promotion(Schema):
    """What a promotion or rollback did."""

    use: str
    champion: str | None
    """Registry number of the champion afterwards."""
    previous: str | None
    """Registry number of the champion before."""
    moved: bool
    reason: str


def promote(
    verdict: Verdict,
    versions: Mapping[str, Version],
    tracking: Tracking,
    deployer: Deployer,
    store: str,
    use: str,
    canary: Rules | None = None,
) -> Promotion:
    """Carry out a verdict; `versions` names the registered version of each candidate, and of the opponent.

    With `canary` the winner has to pass its steps on live requests first; RolledBack where it does not.

    Without a winner only the records are written: the verdict in the store, its reasons on versions and runs, and the
    challenger alias. Raises PromotionBusy while another promotion of the use is under way or when the champion is no
    longer the one the verdict is about, VerificationFailed when the winner does not answer as it should: before the
    alias moves the champion stays; after it the winner is champion, and running it again switches the service.
    """
    with promotion_lock(store, use) as lease:
        before = tracking.alias(use, CHAMPION)
        winner = versions[verdict.winner] if verdict.winner else None
        _refuse_if_stale(verdict, versions, before, winner, use)
        _record(verdict, versions, tracking, store, use)
        if winner is not None:
            try:
                _install(winner, deployer, lease, _crown(winner, before, tracking), _canary(canary, before, winner))
            except (VerificationFailed, PromotionBusy) as problem:
                outcome = _outcome(problem, tracking.aliases(use).get(CHAMPION) == winner.version)
                tracking.tag_version(winner, {"gate_outcome": outcome, "gate_reason": str(problem)})
                raise
            note(store, use, Event(what="promoted", version=winner.name, percent=EVERYTHING, reason=verdict.reason))
        _name_challenger(verdict, versions, tracking, use)
    after = winner or before
    return Promotion(
        use=use,
        champion=after.version if after else None,
        previous=before.version if before else None,
        moved=winner is not None and (before is None or before.version != winner.version),
        reason=verdict.reason,
    )


def rollback(tracking: Tracking, deployer: Deployer, store: str, use: str) -> Promotion:
    """Make the previous champion champion again, by the same steps; NoChampion where there is none to go back to.

    It goes one step back and no further: afterwards nothing is called previous champion until the next promotion.
    While a canary is under way, that is what is ended, and the champion stays.
    """
    if (candidate := deployer.candidate()) and held(store, use):
        return _end_canary(candidate, tracking, store, use)
    with promotion_lock(store, use) as lease:
        before, target = tracking.alias(use, CHAMPION), tracking.alias(use, PREVIOUS_CHAMPION)
        if target is None:
            raise NoChampion(
                f"{use} has no previous champion to go back to: it was rolled back already, or has had one champion at "
                f"most. `unmuffle models` lists its versions; `unmuffle promote` gates one of them."
            )
        _install(target, deployer, lease, lambda: tracking.set_alias(use, CHAMPION, target.version))
        tracking.delete_alias(use, PREVIOUS_CHAMPION)
    reason = f"rolled back to {target.name}"
    note(store, use, Event(what="rolled back", version=before.name if before else "nobody", reason=reason))
    if before is not None and before.version != target.version:
        tracking.tag_version(before, {"gate_outcome": "rolled back", "gate_reason": reason})
    return Promotion(
        use=use,
        champion=target.version,
        previous=before.version if before else None,
        moved=before is None or before.version != target.version,
        reason=reason,
    )


def _end_canary(candidate: str, tracking: Tracking, store: str, use: str) -> Promotion:
    """Tell the promotion that let a candidate in to give up, and wait until it has."""
    ask_to_stop(store, use)
    end = time.monotonic() + STOP_S
    while held(store, use):
        if time.monotonic() > end:
            raise PromotionBusy(f"The canary of {candidate} was told to end, and has not within {STOP_S:.0f} s.")
        time.sleep(0.2)
    champion = tracking.aliases(use).get(CHAMPION)
    reason = f"the canary of {candidate} was ended; the champion stays"
    note(store, use, Event(what="rolled back", version=candidate, reason=reason))
    return Promotion(use=use, champion=champion, previous=champion, moved=False, reason=reason)


def _install(
    version: Version,
    deployer: Deployer,
    lease: Lease,
    move_alias: Callable[[], None],
    canary: Rules | None = None,
) -> None:
    """Deploy beside, verify, let in, move the alias, switch; the replica beside never outlives this."""
    handle = deployer.deploy_beside(version)
    try:
        deployer.verify(handle, version)
        if canary is not None:
            walk(version, canary, deployer, lambda event: note(lease.store, version.use, event), lease.check)
        lease.check()
        move_alias()
        deployer.switch(version)
    finally:
        deployer.discard(handle)
    logger.info("%s is the champion of %s", version.name, version.use)


def _crown(winner: Version, before: Version | None, tracking: Tracking) -> Callable[[], None]:
    """Remember the champion as the previous one, then move the alias; nothing to move when a killed attempt did."""

    def move() -> None:
        if before is not None and before.version == winner.version:
            return
        if before is not None:
            tracking.set_alias(winner.use, PREVIOUS_CHAMPION, before.version)
        tracking.set_alias(winner.use, CHAMPION, winner.version)

    return move


def _canary(rules: Rules | None, before: Version | None, winner: Version) -> Rules | None:
    """None where there is nobody to share requests with: no champion, or a killed attempt has made it champion."""
    return None if before is None or before.version == winner.version else rules


def _outcome(problem: Exception, crowned: bool) -> str:
    """What is said of a winner that did not get there."""
    if isinstance(problem, RolledBack):
        return "won, but the canary rolled it back"
    if isinstance(problem, PromotionBusy):
        return "won, but its promotion was ended"
    return "won, but the service does not follow" if crowned else "won, but failed verification"


def _refuse_if_stale(
    verdict: Verdict, versions: Mapping[str, Version], champion: Version | None, winner: Version | None, use: str
) -> None:
    """A verdict holds against the champion it was reached against, and against no other."""
    now = champion.version if champion else None
    judged = versions[verdict.opponent].version if verdict.opponent in versions else None
    carried_out_already = winner is not None and now == winner.version
    if carried_out_already or (now == judged and (now is not None or verdict.opponent == UNPROCESSED)):
        return
    raise PromotionBusy(
        f"The champion of {use} is now {champion.name if champion else 'nobody'}, but the verdict is about "
        f"{verdict.opponent}: another promotion came in between. Evaluate against the present champion and run "
        f"`unmuffle promote` again."
    )


def _record(verdict: Verdict, versions: Mapping[str, Version], tracking: Tracking, store: str, use: str) -> None:
    """Keep the verdict in the store, and each candidate's reason where people look: on its version and its run."""
    address = storage.join(store, "promotions", use, "verdicts", f"{verdict.digest()[:16]}.json")
    storage.create(address, verdict.canonical())
    shown = page(verdict)
    for judgement in verdict.judgements:
        tags = {
            "gate_outcome": "won" if judgement.candidate == verdict.winner else "challenger",
            "gate_opponent": verdict.opponent,
            "gate_reason": judgement.reason,
            "gate_policy": f"{verdict.policy.name}, revision {verdict.policy.revision}",
            "gate_warnings": " ".join(verdict.warnings),
            "gate_verdict": address,
        }
        version = versions[judgement.candidate]
        tracking.tag_version(version, tags)
        tracking.tag(version.run_id, tags)
        tracking.artifact(version.run_id, verdict.canonical(), "gate/verdict.json")
        tracking.artifact(version.run_id, shown, "gate/verdict.html")


def _name_challenger(verdict: Verdict, versions: Mapping[str, Version], tracking: Tracking, use: str) -> None:
    """The best candidate that is not champion is the challenger; the champion is nobody's challenger."""
    aliases = tracking.aliases(use)
    losers = [versions[name].version for name in verdict.ranking if name != verdict.winner]
    losers = [version for version in losers if version != aliases.get(CHAMPION)]
    if losers:
        tracking.set_alias(use, CHALLENGER, losers[0])
    elif aliases.get(CHALLENGER) == aliases.get(CHAMPION):
        tracking.delete_alias(use, CHALLENGER)
