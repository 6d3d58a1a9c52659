"""Several uses from one service: each further one is a Serve application of its own, at `/USE/v1/enhance` and so on.

They follow their champions as the first one does, share its limits, and cannot take its memory or its turn: each has
replicas of its own.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from serving.messages import Limits, ServedVersion, ServiceConfig
from training.registry import CHAMPION, Version

Deploy = Callable[[str, ServiceConfig, str | None], None]
"""`serving.deployer.deploy`: application, what it answers with, its route."""


class Registry(Protocol):
    """Whoever knows the champions."""

    def resolve(self, name: str, use: str) -> Version:
        """The version that is called so; raises `NoChampion`."""


class Others:
    """The further uses of a service."""

    def __init__(self, uses: Sequence[str], limits: Limits, registry: Registry, deploy: Deploy) -> None:
        self._uses, self._limits, self._registry, self._deploy = uses, limits, registry, deploy
        self._answers: dict[str, ServedVersion] = {}
        """By use: what was deployed."""

    def follow(self) -> None:
        """Let each use answer with its champion; `NoChampion` where one has none, `VerificationFailed` by `deploy`."""
        for use in self._uses:
            champion = ServedVersion.of(self._registry.resolve(CHAMPION, use))
            if self._answers.get(use) != champion:
                self._deploy(f"unmuffle-{use}", ServiceConfig(version=champion, limits=self._limits), f"/{use}")
                self._answers[use] = champion
