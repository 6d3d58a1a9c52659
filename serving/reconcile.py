"""Bringing a service back to the alias: the champion answers, whatever a killed promotion or an old spec says.

The alias is the truth. Whenever another version than the champion answers, and no promotion is under way that would
move the alias itself, the service is brought back to it.
"""

import logging
from typing import Protocol

from serving import lease
from serving.messages import ServedVersion
from training.registry import CHAMPION, Version
from training.tracking import Tracking

log = logging.getLogger(__name__)


class Service(Protocol):
    """A deployer that can say what its service answers with."""

    def serving(self) -> ServedVersion | None:
        """The version that answers; None where no service runs."""

    def left_behind(self) -> bool:
        """Whether there is a candidate beside the service."""

    def let_out(self) -> None:
        """Let the version that serves answer every request."""

    def clear(self) -> None:
        """Remove the candidate beside the service."""

    def switch(self, version: Version) -> None:
        """Let the service answer with this version."""


def reconcile(store: str, use: str, tracking: Tracking, service: Service) -> bool:
    """Let the champion answer, and sweep up after a lost promotion; False, and nothing done, while one is under way."""
    beside = service.left_behind()  # before the lock is looked at: what comes later is not left behind
    if lease.held(store, use):
        return False
    if beside:
        service.let_out()
        service.clear()
    champion = tracking.alias(use, CHAMPION)  # after it: a promotion that has just ended has moved it
    if champion is not None and service.serving() != ServedVersion.of(champion):
        log.warning("%s is the champion but does not answer; switching to it", ServedVersion.of(champion).name)
        service.switch(champion)
    return True
