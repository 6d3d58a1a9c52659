"""Letting a candidate in, step by step: from the first mirrored request to the point where it may be promoted."""

import time
from collections.abc import Callable
from typing import Protocol

from serving.audit import Event
from serving.canary import Decision, Evidence, Rules, decide
from simulation.errors import VerificationFailed
from training.registry import Version

POLL_S = 0.5
"""How often the judge is asked; it decides by itself after each request."""


class RolledBack(VerificationFailed):
    """The canary sent the candidate away; the champion answers every request, as before."""


class SplitService(Protocol):
    """A service that can share its requests between the champion and a candidate that was deployed beside it."""

    def let_in(self, version: Version, percent: float, rules: Rules) -> None:
        """Let the candidate answer this share of the requests from now on, and count from zero."""

    def evidence(self) -> Evidence:
        """What was counted since; raises VerificationFailed where the service ended."""

    def let_out(self) -> None:
        """Let the champion answer every request; may be called at any time."""


def walk(
    version: Version,
    rules: Rules,
    service: SplitService,
    note: Callable[[Event], None],
    waiting: Callable[[], None] = lambda: None,
) -> None:
    """Take a candidate through every step below 100 %; raises RolledBack, with the reason, where one sends it away.

    `note` hears of everything that happens, `waiting` is called between two looks and may raise to end it all. The
    champion answers alone when this returns or raises.
    """
    try:
        for percent in rules.canary_steps:
            service.let_in(version, percent, rules)
            note(Event(what="canary began", version=version.name, percent=percent, reason=_asked(rules)))
            evidence, decision = _watched(rules, service, waiting)
            what = "stepped up" if decision.action == "step up" else "rolled back by the canary"
            note(Event(what=what, version=version.name, percent=percent, reason=decision.reason, evidence=evidence))
            if decision.action == "roll back":
                raise RolledBack(
                    f"The canary rolled {version.name} back at {percent:g} %: {decision.reason}. The champion answers"
                    " every request. `unmuffle status` shows the audit log."
                )
    finally:
        service.let_out()


def _watched(rules: Rules, service: SplitService, waiting: Callable[[], None]) -> tuple[Evidence, Decision]:
    """The evidence of one step when it was decided; no decision in time is a no."""
    end = time.monotonic() + rules.patience_s
    while True:
        evidence = service.evidence()
        decision = decide(evidence, rules)
        if decision.action != "go on":
            return evidence, decision
        if time.monotonic() > end:
            late = f"not decided within {rules.patience_s:g} s: {decision.reason}"
            return evidence, Decision(action="roll back", reason=late)
        waiting()
        time.sleep(POLL_S)


def _asked(rules: Rules) -> str:
    return f"rolled back by mistake with probability {rules.alpha:g} at most, passed by mistake with {rules.beta:g}"
