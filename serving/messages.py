"""What the service is told and what it says: its configuration, its limits, and the JSON of its answers."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

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
    max_requests: int = 64
    """Requests of a replica at a time; more are answered with 429."""
    max_requests_of_a_caller: int = 32
    """The same for one key, or one address where there are no keys."""
    max_requests_a_minute: float = 60_000.0
    """Of one caller."""
    max_held_mb: float = 1024.0
    """Bodies and waveforms of all requests under way; more are answered with 429."""
    max_job_mb: float = 20_000.0
    """Bytes of the file of a job."""
    max_jobs: int = 16
    """Jobs of a replica that wait or run."""
    upload_idle_s: float = 15.0
    """How long a body may take to go on."""
    batch_s: float = 16.0
    """Audio that passes the network at a time: more is faster, and takes more memory. 0: one piece."""
    batch_window_ms: float = 2.0
    """How long a batch waits for requests that have come in and are not decoded yet."""
    max_streams: int = 64
    """Streams of a replica at a time."""
    max_stream_s: float = 3600.0
    """Audio of one stream."""
    window_s: float = 10.0
    """Output of a stream that may be out and not acknowledged; input that may wait. Each of the two."""
    resume_s: float = 30.0
    """How long a stream waits for a client that was cut off."""
    replicas: int = Field(default=1, ge=1)
    """Processes that answer, at least."""
    most_replicas: int = Field(default=1, ge=1)
    """The same at most: above `replicas`, Serve adds and removes them with the load."""
    requests_of_a_replica: float = Field(default=4.0, gt=0)
    """Requests under way for each replica at which Serve neither adds nor removes one."""


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
    tiers: tuple[str, ...] = ()
    """What `tier` of a request may be; none where the network is no diffusion network."""
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
    "bad_message",
    "bad_multipart",
    "bad_option",
    "bad_range",
    "empty_body",
    "failed_self_test",
    "http_error",
    "internal_error",
    "no_key",
    "not_allowed",
    "not_causal",
    "not_done",
    "not_encodable",
    "not_there",
    "overrun",
    "too_large",
    "too_long",
    "too_many",
    "too_slow",
    "unknown_job",
    "unknown_session",
]


class ErrorBody(Schema):
    """Answer of every request that was refused."""

    error: str
    """One paragraph: what was found, what was expected."""
    code: ErrorCode


class StreamStart(Schema):
    """First message of a new stream."""

    type: Literal["start"] = "start"
    key: str = Field(default="", max_length=256)
    """Where the service asks for one and the connection cannot carry it in a header."""
    sample_rate: int
    """Hz, in and out."""
    channels: int = Field(default=1, ge=1, le=8)
    encoding: Literal["s16le", "f32le"] = "s16le"
    """PCM in and out: little-endian, 16-bit integers or 32-bit floats, channels side by side."""


class StreamResume(Schema):
    """First message of a client that was cut off."""

    type: Literal["resume"] = "resume"
    key: str = Field(default="", max_length=256)
    session: str = Field(max_length=64)
    received: int = Field(ge=0)
    """Samples of each channel that arrived; the output goes on there."""


class StreamAck(Schema):
    """Now and then: so much has arrived."""

    type: Literal["ack"] = "ack"
    received: int = Field(ge=0)
    """Samples of each channel, from the beginning of the stream."""


class StreamEnd(Schema):
    """Nothing more goes in."""

    type: Literal["end"] = "end"


FROM_CLIENT: TypeAdapter[StreamStart | StreamResume | StreamAck | StreamEnd] = TypeAdapter(
    Annotated[StreamStart | StreamResume | StreamAck | StreamEnd, Field(discriminator="type")]
)
"""Text messages of a client."""


class StreamStarted(Schema):
    """The service's first message."""

    type: Literal["started"] = "started"
    session: str
    """For `StreamResume`; whoever knows it hears the stream."""
    position: int
    """Samples of each channel that came in before: the input goes on there."""
    window: int
    """Samples of each channel that may be out and not acknowledged."""
    latency_samples: int
    """Of the network, at its own sample rate."""
    version: str
    """As in `X-Unmuffle-Version`; a stream keeps it to its end."""
    weights_sha256: str


class StreamEnded(Schema):
    """The service's last message."""

    type: Literal["ended"] = "ended"
    samples: int
    """Of each channel, that went out: as many as came in."""
    chunks: int
    deadline_misses: int
    """Chunks whose output went out later after their arrival than they last."""
    version: str


class StreamError(Schema):
    """Why the service closes the connection."""

    type: Literal["error"] = "error"
    error: str
    code: ErrorCode
    retry_after_s: int | None = None
