"""One version in memory, checked and ready to answer: what a Serve replica and a temporary replica have in common."""

from dataclasses import dataclass, replace

import torch

from serving.engine import Engine
from serving.messages import ModelFacts, ServedVersion, ServiceConfig
from serving.verification import self_test
from simulation.errors import CheckpointIncompatible
from training.checkpoint import version_record


@dataclass(frozen=True)
class Loaded:
    """An engine, and all that is said about it. Replaced as a whole, so that an answer and its headers agree."""

    engine: Engine
    config: ServiceConfig
    refused: str = ""
    """Why the last version that should have replaced this one was turned down."""

    @property
    def version(self) -> ServedVersion:
        """What answers."""
        return self.config.version

    def refusing(self, reason: str) -> "Loaded":
        """The same, with the reason why it was kept."""
        return replace(self, refused=reason)

    def facts(self) -> ModelFacts:
        """What `GET /v1/models` says of it."""
        model = self.engine.model
        return ModelFacts(
            name=self.version.name,
            version=self.version,
            kind=model.config.kind,
            sample_rate=model.sample_rate,
            causal=model.causal,
            latency_samples=model.latency_samples,
            parameters=sum(weights.numel() for weights in model.parameters()),
            refused=self.refused,
        )


def load(config: ServiceConfig) -> Loaded:
    """Load a version, check that its weights are the registered ones, and let it answer once.

    Sets the cores of torch, for the whole process. Raises `NotThere`, `CheckpointIncompatible`, `VerificationFailed`.
    """
    version = config.version
    torch.set_num_threads(config.limits.threads)
    found = version_record(version.address).weights_sha256
    if found != version.weights_sha256:
        raise CheckpointIncompatible(
            f"The weights at {version.address} have the digest {found[:12]}; {version.name} was registered with"
            f" {version.weights_sha256[:12]}. The folder holds another model now; promote a version that is intact."
        )
    engine = Engine.load(version.address)
    self_test(engine, version.name)
    return Loaded(engine, config)
