"""What answers: one version in memory, checked and ready; and the service that holds it, changes it, and has streams.

A Serve replica and a temporary replica have `load` in common. Routes ask for the service they belong to by `This`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar, cast

import torch
from fastapi import Depends

from serving import options
from serving.admission import Admission
from serving.engine import Engine
from serving.fingerprints import Fingerprints
from serving.jobs import Jobs
from serving.keys import Doorkeeper
from serving.messages import ModelFacts, ServedVersion, ServiceConfig
from serving.options import Options
from serving.stream_places import Streams
from serving.telemetry import figures
from serving.traffic import Traffic, ask_beside, in_serve
from serving.verification import self_test
from simulation.audio import Waveform
from simulation.errors import CheckpointIncompatible, UnmuffleError
from training.checkpoint import version_record

log = logging.getLogger(__name__)

THREADS = 32
"""Requests that are decoded, enhanced or encoded at a time; most of them wait for the network."""
STREAM_THREADS = 4
"""Chunks of streams at a time, beside those: a chunk must not wait behind files. They take turns at the network."""
TESTED_S = 5.0
"""How long the outcome of a self-test is told again: whoever asks for it often must not keep the network busy."""

Result = TypeVar("Result")


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

    def answers_for(self, config: ServiceConfig) -> bool:
        """Whether nothing has to be loaded to answer as this configuration says."""
        return self.config.version == config.version and self.config.limits == config.limits

    def told(self, config: ServiceConfig) -> "Loaded":
        """The same weights under another configuration."""
        return replace(self, config=config, refused="")

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
            tiers=options.tiers(self.engine),
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
    engine.batches.most_s, engine.batches.window_s = config.limits.batch_s, config.limits.batch_window_ms / 1000
    self_test(engine, version.name)
    return Loaded(engine, config)


class Service:
    """One replica: holds one version, answers with it, changes over to another when told."""

    def __init__(self) -> None:
        self.streams = Streams()
        self.admission = Admission(told=lambda under_way: figures().under_way(under_way))
        self.doorkeeper = Doorkeeper()
        self.jobs = Jobs()
        self.fingerprints = Fingerprints(told=lambda measure, at_most: figures().fingerprint(measure, at_most))
        self.traffic: Traffic | None = None
        self._loaded: Loaded | None = None
        self._threads = ThreadPoolExecutor(THREADS, "enhance")
        self._stream_threads = ThreadPoolExecutor(STREAM_THREADS, "stream")
        self._testing = asyncio.Lock()
        self._tested: tuple[Loaded, float] | None = None
        """What last passed a self-test, and when, by the clock of `time.monotonic`."""

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Load what the configuration names, unless it is loaded already. Serve calls this, at start and later on."""
        config = ServiceConfig.parse(user_config, "user_config")
        old = self._loaded
        traffic = await asyncio.to_thread(in_serve, config.split) if config.split else None
        if old is not None and old.answers_for(config):
            self._loaded, self.traffic = old.told(config), traffic
            return
        try:
            self._loaded, self.traffic = await asyncio.to_thread(load, config), traffic
        except UnmuffleError as error:
            if old is None:
                raise
            log.error("%s stays: %s was refused. %s", old.version.name, config.version.name, error)
            self._loaded = old.refusing(str(error))

    @property
    def loaded(self) -> Loaded:
        """What answers now. Requests come only after the first `reconfigure`."""
        assert self._loaded is not None
        return self._loaded

    async def in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Let a thread do it, so that the replica goes on accepting requests; once begun it is waited for."""
        return await self._in(self._threads, work, *arguments)

    async def in_stream_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The same for a chunk of a stream."""
        return await self._in(self._stream_threads, work, *arguments)

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[..., Result], *arguments: Any) -> Result:
        future = asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def enhanced(
        self, loaded: Loaded, place: float, samples: Waveform, sample_rate: int, wishes: Options | None = None
    ) -> tuple[Waveform, ServedVersion]:
        """Enhanced audio and whose it is: that of what is loaded, or of a candidate that was let in.

        A candidate is asked on requests without wishes only: with them, answers differ for other reasons.
        """
        wishes = wishes or Options()

        async def champion() -> Waveform:
            return await self.in_thread(options.enhanced, loaded.engine, wishes, samples, sample_rate)

        if (traffic := self.traffic) is None or not wishes.plain:
            return await champion(), loaded.version
        answer, by_candidate = await traffic.answered(
            place, champion, lambda: ask_beside(samples, sample_rate), sample_rate
        )
        return answer, traffic.split.candidate if by_candidate else loaded.version

    async def tested(self) -> Loaded:
        """What is loaded, once it has answered a second of speech sanely, not longer than `TESTED_S` ago.

        Raises `VerificationFailed` and whatever else a self-test raises. One runs at a time.
        """
        async with self._testing:
            loaded = self.loaded
            if self._tested and self._tested[0] is loaded and time.monotonic() - self._tested[1] < TESTED_S:
                return loaded
            self._tested = None
            await asyncio.to_thread(self_test, loaded.engine, loaded.version.name)
            self._tested = loaded, time.monotonic()
            return loaded

    def facts(self) -> ModelFacts:
        """What is loaded, for whoever holds this application's handle."""
        return self.loaded.facts()

    async def ask(self, samples: Waveform, sample_rate: int) -> Waveform:
        """Enhanced audio, for whoever holds this application's handle."""
        return await self.in_thread(self.loaded.engine.enhance, samples, sample_rate)


async def this() -> Service:
    """The service of the replica that a request has reached."""
    from ray import serve

    return cast(Service, serve.get_replica_context().servable_object)


This = Annotated[Service, Depends(this)]
