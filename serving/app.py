"""The Ray Serve application: `POST /v1/enhance`, `GET /healthz`, `GET /v1/models`, and how versions are exchanged.

The version arrives as Serve's `user_config`. A new replica that cannot load its version raises; the old replica goes
on answering, because Serve starts the new one beside it (`max_surge_percent`). A living replica that is told to change
over loads the new version beside the old one and swaps them in one assignment. What it refuses it writes down, and
keeps the old one: Serve stops a replica whose `reconfigure` raises, and then nothing would answer (Ray 2.60).
"""

import asyncio
import logging
import time
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from ray import serve
from starlette.exceptions import HTTPException

from serving import replica, wire
from serving.messages import ErrorBody, ErrorCode, Health, ModelFacts, Models, ServiceConfig
from serving.replica import Loaded
from serving.verification import self_test
from simulation.audio import Waveform
from simulation.errors import UnmuffleError

log = logging.getLogger(__name__)

ROUTES = FastAPI(title="unmuffle", docs_url=None, redoc_url=None)
"""Serve turns these methods into routes of whatever replica answers."""


class Service:
    """One replica: holds one version, answers with it, changes over to another when told."""

    def __init__(self) -> None:
        self._loaded: Loaded | None = None

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Load what the configuration names, unless it is loaded already. Serve calls this, at start and later on."""
        config = ServiceConfig.parse(user_config, "user_config")
        old = self._loaded
        if old is not None and old.config == config:
            self._loaded = old.refusing("")
            return
        try:
            self._loaded = await asyncio.to_thread(replica.load, config)
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

    @ROUTES.post("/v1/enhance")
    async def enhance(self, request: Request) -> Response:
        """Audio in, audio out: same sample rate, channels and length; WAV, or FLAC by `Accept: audio/flac`."""
        started = time.perf_counter()
        loaded = self.loaded
        upload = await wire.upload(request, loaded.config.limits)
        flac = wire.wants_flac(request.headers.get("accept", ""))
        body, media_type = await asyncio.to_thread(answer, loaded, upload, flac)
        headers = {**identity(loaded), "X-Unmuffle-Seconds": f"{time.perf_counter() - started:.3f}"}
        return Response(body, media_type=media_type, headers=headers)

    @ROUTES.get("/healthz")
    async def healthz(self) -> Response:
        """200 when a second of speech comes back sane, and from which version."""
        loaded = self.loaded
        try:
            await asyncio.to_thread(self_test, loaded.engine, loaded.version.name)
        except UnmuffleError as error:
            return refusal(503, "failed_self_test", str(error))
        version = loaded.version
        health = Health(version=version.name, network=version.network, weights_sha256=version.weights_sha256)
        return JSONResponse(health.model_dump(), headers=identity(loaded))

    @ROUTES.get("/v1/models")
    async def models(self) -> Models:
        """What is loaded, and what a request may ask for."""
        return Models(models=(self.loaded.facts(),), limits=self.loaded.config.limits)

    def facts(self) -> ModelFacts:
        """What is loaded, for whoever holds this application's handle."""
        return self.loaded.facts()

    def ask(self, samples: Waveform, sample_rate: int) -> Waveform:
        """Enhanced audio, for whoever holds this application's handle."""
        return self.loaded.engine.enhance(samples, sample_rate)


def answer(loaded: Loaded, upload: wire.Upload, flac: bool) -> tuple[bytes, str]:
    """Decode, enhance, encode; runs in a thread, so that the replica goes on accepting requests."""
    samples, sample_rate = wire.decode(upload, loaded.config.limits)
    return wire.encode(loaded.engine.enhance(samples, sample_rate), sample_rate, flac)


def identity(loaded: Loaded) -> dict[str, str]:
    """Headers that say which version answered."""
    return {
        "X-Unmuffle-Version": loaded.version.name,
        "X-Unmuffle-Network": loaded.version.network,
        "X-Unmuffle-Weights": loaded.version.weights_sha256,
    }


def refusal(status: int, code: ErrorCode, message: str) -> JSONResponse:
    """A refused request's answer."""
    return JSONResponse(ErrorBody(error=message, code=code).model_dump(), status_code=status)


@ROUTES.exception_handler(UnmuffleError)
async def _explained(request: Request, error: UnmuffleError) -> JSONResponse:
    status, code = wire.status_of(error)
    return refusal(status, code, str(error))


@ROUTES.exception_handler(HTTPException)
async def _unrouted(request: Request, error: HTTPException) -> JSONResponse:
    known = "POST /v1/enhance, GET /healthz, GET /v1/models"
    return refusal(
        error.status_code, "http_error", f"{request.method} {request.url.path}: {error.detail}. Here: {known}."
    )


@ROUTES.exception_handler(Exception)
async def _failed(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return refusal(500, "internal_error", "The service failed on this request; its log says why.")


# Last, because `ingress` takes a copy of the routes and handlers as they are when it is called.
DEPLOYMENT = serve.deployment(
    name="enhance",
    logging_config={"log_level": "WARNING"},
    max_ongoing_requests=4,  # each holds its waveform in memory, and the cores are soon all busy
    max_queued_requests=64,
    backpressure_config={"status_code": 503, "retry_after_s": 2},
    ray_actor_options={"num_cpus": 0},  # claims none: must start even beside a training run that holds every core
    max_surge_percent=100,  # the new replica first, then the end of the old one
    max_constructor_retry_count=1,  # a version that cannot be loaded will not be loadable in a second
    graceful_shutdown_wait_loop_s=0.5,
    graceful_shutdown_timeout_s=300,  # a long file may be on its way
)(serve.ingress(ROUTES)(Service))


def application(config: ServiceConfig) -> serve.Application:
    """The application that answers with this version."""
    return DEPLOYMENT.options(user_config=config.model_dump(mode="json")).bind()
