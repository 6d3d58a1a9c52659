"""The Ray Serve application: its routes, what is said when one fails, and how versions are exchanged.

The version arrives as Serve's `user_config`. A new replica that cannot load its version raises; the old replica goes
on answering, because Serve starts the new one beside it (`max_surge_percent`). A living replica that is told to change
over loads the new version beside the old one and swaps them in one assignment. What it refuses it writes down, and
keeps the old one: Serve stops a replica whose `reconfigure` raises, and then nothing would answer (Ray 2.60).
"""

import logging
import time
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray import serve
from starlette.exceptions import HTTPException

from serving import job_routes, streams, wire
from serving.messages import ErrorBody, ErrorCode, Health, Limits, Models, ServedVersion, ServiceConfig
from serving.options import Options
from serving.playground import routes as playground
from serving.replica import Loaded, Service, This
from serving.telemetry import Telemetry, figures
from serving.traffic import KEY, position
from simulation.errors import UnmuffleError

log = logging.getLogger(__name__)

ROUTES = FastAPI(title="unmuffle", docs_url=None, redoc_url=None)
ROUTES.add_middleware(Telemetry)
ROUTES.include_router(streams.ROUTES)
ROUTES.include_router(job_routes.ROUTES)
ROUTES.include_router(playground.ROUTES)


class Wishes(Options):
    """The query of `POST /v1/enhance`."""

    format: Literal["", "wav", "flac", "ogg"] = ""
    """Of the answer; without it, what `Accept` names, else WAV."""


@ROUTES.post("/v1/enhance")
async def enhance(request: Request, service: This, wishes: Annotated[Wishes, Query()]) -> Response:
    """Audio in, audio out: same sample rate and length, and same channels; WAV, FLAC or Ogg."""
    started = time.perf_counter()
    loaded = service.loaded
    limits = loaded.config.limits
    caller = service.doorkeeper.caller(request, "enhance")
    with service.admission.holding(limits) as hold:
        upload = await wire.upload(request, limits, hold)
        hold(await service.in_thread(wire.waveforms_mb, upload, limits))
        with service.admission.request(caller, limits):
            return await _enhanced(request, service, loaded, upload, wishes, started)


async def _enhanced(
    request: Request, service: Service, loaded: Loaded, upload: wire.Upload, wishes: Wishes, started: float
) -> Response:
    """The answer to a request that was let in."""
    samples, sample_rate = await service.in_thread(wire.decode, upload)
    key = request.headers.get(KEY, "")
    place = await service.in_thread(position, key, upload.data) if service.traffic else 0.0
    options = Options.model_validate(wishes.model_dump(exclude={"format"}))
    enhanced, version = await service.enhanced(loaded, place, samples, sample_rate, options)
    format = wire.format_for(wishes.format, request.headers.get("accept", ""))
    body, media_type = await service.in_thread(wire.encode_as, enhanced, sample_rate, format)
    service.fingerprints.note(version.use, samples, sample_rate)
    took_s = time.perf_counter() - started
    figures().answered(version.name, len(samples) / sample_rate, took_s)
    headers = {**identity(version), "X-Unmuffle-Seconds": f"{took_s:.3f}"}
    return Response(body, media_type=media_type, headers=headers)


@ROUTES.get("/healthz")
async def healthz(service: This) -> Response:
    """200 when a second of speech came back sane within the last seconds, and from which version."""
    try:
        version = (await service.tested()).version
    except UnmuffleError as error:
        return refusal(503, "failed_self_test", str(error))
    health = Health(version=version.name, network=version.network, weights_sha256=version.weights_sha256)
    return JSONResponse(health.model_dump(), headers=identity(version))


@ROUTES.get("/v1/models")
async def models(request: Request, service: This) -> Models:
    """What is loaded, and what a request may ask for."""
    service.doorkeeper.caller(request, "read")
    loaded = service.loaded
    return Models(models=(loaded.facts(),), limits=loaded.config.limits, split=loaded.config.split)


def identity(version: ServedVersion) -> dict[str, str]:
    """Headers that say which version answered."""
    return {
        "X-Unmuffle-Version": version.name,
        "X-Unmuffle-Network": version.network,
        "X-Unmuffle-Weights": version.weights_sha256,
    }


def refusal(status: int, code: ErrorCode, message: str, retry_after_s: int | None = None) -> JSONResponse:
    """A refused request's answer."""
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else None
    return JSONResponse(ErrorBody(error=message, code=code).model_dump(), status_code=status, headers=headers)


@ROUTES.exception_handler(UnmuffleError)
async def _explained(request: Request, error: UnmuffleError) -> JSONResponse:
    status, code = wire.status_of(error)
    return refusal(status, code, str(error), error.retry_after_s if isinstance(error, wire.Refused) else None)


@ROUTES.exception_handler(RequestValidationError)
async def _misspelt(request: Request, error: RequestValidationError) -> JSONResponse:
    found = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
    return refusal(422, "bad_option", f"{request.method} {request.url.path}: {found}.")


@ROUTES.exception_handler(HTTPException)
async def _unrouted(request: Request, error: HTTPException) -> JSONResponse:
    known = "POST /v1/enhance, WS /v1/stream, POST /v1/jobs, GET /v1/models, GET /healthz, GET /openapi.json"
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
    max_ongoing_requests=1000,  # bodies that are still coming in and streams count too; `Admission` counts what costs
    max_queued_requests=256,
    backpressure_config={"status_code": 429, "retry_after_s": 2},
    ray_actor_options={"num_cpus": 0},  # claims none: must start even beside a training run that holds every core
    max_surge_percent=100,  # the new replica first, then the end of the old one
    max_constructor_retry_count=1,  # a version that cannot be loaded will not be loadable in a second
    graceful_shutdown_wait_loop_s=0.5,
    graceful_shutdown_timeout_s=300,  # a long file may be on its way
)(serve.ingress(ROUTES)(Service))


def application(config: ServiceConfig) -> serve.Application:
    """The application that answers with this version."""
    return DEPLOYMENT.options(user_config=config.model_dump(mode="json"), **scale(config.limits)).bind()


def scale(limits: Limits) -> dict[str, Any]:
    """Serve's options for the number of replicas; none for a single one, so that a Serve config file may say more."""
    if limits.most_replicas > limits.replicas:
        bounds = {"min_replicas": limits.replicas, "max_replicas": limits.most_replicas}
        return {"autoscaling_config": bounds | {"target_ongoing_requests": limits.requests_of_a_replica}}
    return {"num_replicas": limits.replicas} if limits.replicas > 1 else {}
