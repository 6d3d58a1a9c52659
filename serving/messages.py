"""What the service is told and what it says: its configuration, its limits, and the JSON of its answers."""

from typing import Literal

from serving.tolerances import Tolerances
from simulation.schema import Schema
from training.registry import Version


class ServedVersion(Schema):
    """A registered version as the service knows it: enough to load it, and to say which one answered."""

    use: str
    version: str
    """The registry's number within the use; "" for a checkpoint folder that was never registered."""
    network: str
    address: str
    """Folder with weights.safetensors and config.json."""
    weights_sha256: str

    @classmethod
    def of(cls, version: Version) -> "ServedVersion":
        """The same version, without what only the registry needs."""
        return cls(
            use=version.use,
            version=version.version,
            network=version.network,
            address=version.address,
            weights_sha256=version.weights_sha256,
        )

    @property
    def name(self) -> str:
        """What stands in `X-Unmuffle-Version`: `denoise-16k/7`."""
        return f"{self.use}/{self.version or 'unregistered-' + self.weights_sha256[:8]}"


class Limits(Schema):
    """What one request may ask for; more is answered with 413."""

    max_body_mb: float = 64.0
    """Body of a request, in MB (10^6 bytes)."""
    max_seconds: float = 600.0
    """Length of the audio times its channels, each channel counting as one second at least."""
    max_decoded_mb: float = 256.0
    """The decoded waveform as float32, in MB: a small FLAC can hold a very long silence."""
    threads: int = 2
    """Cores that one inference may use."""


class Split(Schema):
    """A candidate beside the version that answers, and which requests it takes part in."""

    candidate: ServedVersion
    percent: float
    """Of the requests: the candidate's answer is heard. 0: a shadow."""
    mirrored_percent: float
    """Of the requests, beside those: the candidate is asked as well, and nobody hears it."""
    tolerances: Tolerances = Tolerances()


class ServiceConfig(Schema):
    """Serve's `user_config`: the version to answer with, the limits, and the candidate that was let in, if any."""

    version: ServedVersion
    limits: Limits = Limits()
    split: Split | None = None


class ModelFacts(Schema):
    """What is loaded."""

    name: str
    """As in `X-Unmuffle-Version`."""
    version: ServedVersion
    kind: str
    """Of the network's configuration."""
    sample_rate: int
    """Hz at which the network works. What lies above half of it in an input is not in the output."""
    causal: bool
    latency_samples: int
    parameters: int
    refused: str = ""
    """Why the last version this replica was told to load was turned down; "" when it was not."""


class Models(Schema):
    """Answer of `GET /v1/models`."""

    models: tuple[ModelFacts, ...]
    limits: Limits
    split: Split | None = None
    """The canary that is under way."""


class Health(Schema):
    """Answer of `GET /healthz`."""

    status: Literal["ok"] = "ok"
    version: str
    network: str
    weights_sha256: str


ErrorCode = Literal[
    "bad_audio",
    "bad_multipart",
    "empty_body",
    "failed_self_test",
    "http_error",
    "internal_error",
    "not_encodable",
    "too_large",
    "too_long",
]


class ErrorBody(Schema):
    """Answer of every request that was refused."""

    error: str
    """One paragraph: what was found, what was expected."""
    code: ErrorCode
