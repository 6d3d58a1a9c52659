"""What is told of every request: a trace id in and out, one line of JSON in the log, and figures for Prometheus.

Ray exports the figures at each node's metrics port under `ray_unmuffle_...`, with the replica and deployment as labels.
A replica writes its lines to standard error, which Ray keeps among the logs of its session (`worker-*.err`).
A caller's own `X-Trace-Id` is kept where it looks like one, so that a request can be followed through several services.
"""

import json
import logging
import re
import secrets
import time
from functools import cache
from typing import Any

from ray import serve
from ray.serve import metrics
from ray.serve.exceptions import RayServeException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("unmuffle.requests")

TRACE = "x-trace-id"
TRACED = re.compile(r"[A-Za-z0-9_-]{8,64}")
LATENCY_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0]
FACTORS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
WHO = ("version",)


class Figures:
    """Of one replica."""

    def __init__(self) -> None:
        self.requests = metrics.Counter("unmuffle_requests", "Answers, by route and status", ("route", "status"))
        self.latency = metrics.Histogram("unmuffle_latency_seconds", "From request to answer", LATENCY_S, ("route",))
        self.factor = metrics.Histogram(
            "unmuffle_real_time_factor", "Time for an answer over its audio", FACTORS, tag_keys=WHO
        )
        self.audio = metrics.Counter("unmuffle_audio_seconds", "Audio that was enhanced", WHO)
        self.queue = metrics.Gauge("unmuffle_requests_under_way", "Requests that this replica is busy with")
        self.chunks = metrics.Counter("unmuffle_stream_chunks", "Chunks of streams that were answered", WHO)
        self.misses = metrics.Counter("unmuffle_deadline_misses", "Chunks answered later than they last", WHO)
        self.fingerprints = metrics.Counter(
            "unmuffle_fingerprints", "Recordings, by the range of a measure", ("measure", "at_most")
        )

    def under_way(self, requests: int) -> None:
        """So many are in the replica."""
        self.queue.set(requests)

    def answered(self, version: str, audio_s: float, took_s: float) -> None:
        """A recording was enhanced."""
        self.audio.inc(audio_s, {"version": version})
        self.factor.observe(took_s / audio_s, {"version": version})

    def fingerprint(self, measure: str, at_most: str) -> None:
        """A measure of a recording fell into this range (`serving/fingerprints.py`)."""
        self.fingerprints.inc(1, {"measure": measure, "at_most": at_most})

    def chunk(self, version: str, late: bool) -> None:
        """A chunk of a stream was answered."""
        self.chunks.inc(1, {"version": version})
        if late:
            self.misses.inc(1, {"version": version})


@cache
def figures() -> Figures:
    """Those of this process; made when first asked for, because Ray must have said by then which replica it is."""
    return Figures()


class Telemetry:
    """ASGI middleware: around everything, so that refusals are told as well."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        _speak()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and tell of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace, began, answer = _trace(scope), time.perf_counter(), {"status": 0, "bytes": 0}

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"] = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (TRACE.encode(), trace.encode())]}
            answer["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            took_s = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "unknown")
            figures().requests.inc(1, {"route": route, "status": str(answer["status"])})
            figures().latency.observe(took_s, {"route": route})
            line: dict[str, Any] = {"trace": trace, "method": scope["method"], "route": route}
            log.info(json.dumps(line | answer | {"seconds": round(took_s, 4)}))


def _speak() -> None:
    """Let a replica's lines be heard: nobody else sets up logging there. Elsewhere it stays as it was set up."""
    try:
        serve.get_replica_context()
    except RayServeException:
        return
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)
        log.propagate = False


def _trace(scope: Scope) -> str:
    """The caller's, or a new one."""
    given = dict(scope["headers"]).get(TRACE.encode(), b"").decode("latin-1")
    return given if TRACED.fullmatch(given) else secrets.token_hex(16)
