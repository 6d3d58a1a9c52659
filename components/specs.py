"""What each stage is told: frozen documents that lie in the store as JSON.

A spec holds identity (what decides the result) and circumstance (where things lie, who asked). Only identity enters the
stage key, so moving a bucket or renaming a run never repeats work. Nothing here imports torch, ray or kfp: a launcher
that has none of them can write and read these documents.
"""

import hashlib
from typing import Any, Literal

from pydantic import Field

from simulation.errors import BadSetting
from simulation.scenario import Scenario
from simulation.schema import OneOf, Range, Schema, canonical_json


class Input(Schema):
    """Something another stage made: the digest says what it is, the address only where it lies."""

    address: str
    sha256: str
    """64 hex characters."""

    def __str__(self) -> str:
        return f"{self.address}#{self.sha256}"

    @classmethod
    def of(cls, text: str) -> "Input":
        """From "<address>#<digest>", as the steps of a pipeline hand it over."""
        address, mark, digest = text.rpartition("#")
        if not mark or len(digest) != 64:
            raise BadSetting(
                f"{text!r} is not <address>#<digest>: the digest is 64 hex characters, printed by the step."
            )
        return cls(address=address, sha256=digest)


class Spec(Schema):
    """Base of the specs. Every field identifies, but for `parent` and a promotion's `canary`."""

    stage: str
    parent: str = ""
    """Logical key of the pipeline run that asked for this stage; empty for a stage on its own."""
    again: int = 0
    """Raised to do the same work once more."""

    def key(self) -> str:
        """sha256 over the identity: equal keys have equal results."""
        return hashlib.sha256(canonical_json(_identity(self))).hexdigest()


class SimulateSpec(Spec):
    """Build the train, valid and test corpora of a scenario."""

    stage: Literal["simulate"] = "simulate"
    scenario: Scenario
    sources_digest: str
    """Digest of the source manifest: which recordings, not where they lie."""
    render_version: int
    """`simulation.render.RENDER_VERSION`: rendering that was changed is not answered with what it gave before."""
    virtual: bool = False
    """Commit the plan alone; rows are rendered by whoever reads them."""


class TrainSpec(Spec):
    """Train one recipe on a corpus and register the version."""

    stage: Literal["train"] = "train"
    recipe: dict[str, Any]
    """The recipe as JSON; the stage validates it (its classes need torch)."""
    corpus: Input


class DistilSpec(Spec):
    """Let versions teach a student: train its recipe on their lessons, and register the version."""

    stage: Literal["distil"] = "distil"
    teachers: tuple[Input, ...]
    """What they say is averaged."""
    recipe: dict[str, Any]
    """The student's, as for training, its teachers left open."""
    corpus: Input


class TuneSpec(Spec):
    """Search over a recipe: trials on a corpus, and the best one's recipe."""

    stage: Literal["tune"] = "tune"
    recipe: dict[str, Any]
    """The recipe as JSON, as for training."""
    search: dict[str, Range | OneOf]
    """Its fields that are varied, by their names with dots, and what values are drawn from."""
    corpus: Input
    trials: int = Field(gt=0)
    steps: int = Field(gt=0)
    """Of a trial that is never stopped."""
    metric: str
    """The figure on the valid split that trials are compared by."""


class EvaluateSpec(Spec):
    """Score versions on one corpus, for a listening page beside the champion."""

    stage: Literal["evaluate"] = "evaluate"
    models: tuple[Input, ...]
    """Candidates, champion, and the recurrent baseline where there is one."""
    champion: Input | None = None
    """One of `models`. Scores do not depend on it; what the page compares with, and picks to be heard, does."""
    corpus: Input
    use: str
    metric_versions: dict[str, int]
    """Of every metric that is scored: one that was changed is not answered with what it gave before."""
    metric_weights: dict[str, str] = Field(default_factory=dict)
    """sha256 of the weights that a metric asks, where they are a file of the user's own."""
    harmless: int = 0
    """Do-no-harm rows of each case."""
    scoring_version: int = 1
    """`training.evaluate.SCORING_VERSION`, likewise for everything beside the metrics."""


class PromoteSpec(Spec):
    """Compare the candidates of a run with the champion; promote at most one."""

    stage: Literal["promote"] = "promote"
    scorecard: Input
    candidates: tuple[Input, ...]
    use: str
    policy: dict[str, Any]
    champion: str = ""
    """Digest of the weights of the opponent; empty where there was no champion."""
    canary: dict[str, Any] | None = None
    """`serving.canary.Rules` as JSON: how the winner is let in before it is champion; None: at once."""


AnySpec = SimulateSpec | TrainSpec | DistilSpec | TuneSpec | EvaluateSpec | PromoteSpec
SPECS: dict[str, type[AnySpec]] = {
    "simulate": SimulateSpec,
    "train": TrainSpec,
    "distil": DistilSpec,
    "tune": TuneSpec,
    "evaluate": EvaluateSpec,
    "promote": PromoteSpec,
}


def is_address(text: str) -> bool:
    """Whether a person who could name something of ours means a document of their own instead."""
    return "/" in text or text.endswith(".json")


_SOURCE_ADDRESSES = {"speech", "noise", "rirs", "pairs"}


def _identity(value: Any) -> Any:
    """JSON of a spec without circumstance: inputs by digest, scenarios without the addresses of their sources."""
    if isinstance(value, Input):
        return value.sha256
    if isinstance(value, Scenario):
        return value.model_dump(mode="json", exclude=_SOURCE_ADDRESSES)
    if isinstance(value, Spec):
        names = sorted(set(type(value).model_fields) - {"parent", "canary"})
        return {name: _identity(getattr(value, name)) for name in names}
    if isinstance(value, tuple):
        return [_identity(item) for item in value]
    if isinstance(value, dict):
        return {name: _identity(item) for name, item in value.items()}
    if isinstance(value, Schema):
        return value.model_dump(mode="json")
    return value
