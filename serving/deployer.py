"""The local form of the deployer: Serve inside the home's Ray cluster, bound to the loopback interface.

Where the service runs, a candidate is deployed as a second Serve application beside it, without a route, and the
service is then switched by a new `user_config`: Serve starts the new replica first, so no request meets a gap. Where no
service runs, the candidate lives in a plain Ray actor that loads, checks and answers by the same code
(`serving/replica.py`); that spares Serve's controller, and leaves no Serve without its HTTP port behind for an
`unmuffle serve` that starts at the same moment.
"""

import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from serving import replica, wire
from serving.app import application
from serving.canary import Evidence, Rules
from serving.keys import own_headers
from serving.messages import Limits, ModelFacts, Models, ServedVersion, ServiceConfig, Split
from serving.replica import Loaded
from serving.traffic import BESIDE, judge
from serving.verification import PROBE_RATE, check_answer, probe
from simulation import audio
from simulation.audio import Waveform
from simulation.errors import BadSetting, UnmuffleError, VerificationFailed
from simulation.home import Home
from simulation.schema import Schema
from training.registry import Version

MAIN = "unmuffle"
"""The Serve application with the HTTP routes; `BESIDE` is the one without, in which a candidate is verified."""

DEPLOY_S = 180.0
"""How long an application may take to be ready."""
ANSWER_S = 60.0
"""How long a version may take to enhance one second."""
SWITCHED_S = 15.0
"""How long HTTP may go on answering with the old version after the new one is ready."""


class ServiceRecord(Schema):
    """`<home>/serve.json`: the service that runs for this home."""

    address: str
    """http://127.0.0.1:<port>"""
    pid: int
    """Of the `unmuffle serve` that looks after it."""
    started: float
    """When that process began, in seconds since the epoch: process numbers are used again."""
    version: str
    """As in `X-Unmuffle-Version`."""
    limits: Limits
    """That it was started with: every version that it is switched to keeps them."""


@dataclass(frozen=True)
class Beside:
    """A candidate that was deployed without traffic."""

    facts: Callable[[], ModelFacts]
    ask: Callable[[Waveform, int], Waveform]
    discard: Callable[[], None]


class TemporaryReplica:
    """A Ray actor that holds one version while it is verified."""

    def __init__(self) -> None:
        self._loaded: Loaded | None = None

    def load(self, config: ServiceConfig) -> None:
        """Load and check, as a Serve replica does."""
        self._loaded = replica.load(config)

    def facts(self) -> ModelFacts:
        """What is loaded."""
        assert self._loaded is not None
        return self._loaded.facts()

    def ask(self, samples: Waveform, sample_rate: int) -> Waveform:
        """Enhanced audio."""
        assert self._loaded is not None
        return self._loaded.engine.enhance(samples, sample_rate)


class LocalServe:
    """Deploys beside, verifies and switches on this machine. Needs a Ray that was joined (`simulation.cluster`)."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._judge: Any = None

    def serving(self) -> ServedVersion | None:
        """The version that answers over HTTP now; None where no service runs. Needs no Ray."""
        models = self._models()
        return models.models[0].version if models else None

    def deploy_beside(self, version: Version) -> Beside:
        """Start a version without traffic: `VerificationFailed` where it cannot be loaded."""
        config = ServiceConfig(version=ServedVersion.of(version), limits=self._limits())
        return _in_serve(config) if self._is_here() else _in_actor(config)

    def verify(self, handle: Beside, version: Version) -> None:
        """`VerificationFailed` unless what was deployed is this version, and answers speech with sane audio."""
        asked, wanted = probe(), ServedVersion.of(version)
        try:
            found, answered = handle.facts().version, handle.ask(asked, PROBE_RATE)
        except (RayError, RayServeException, TimeoutError) as error:
            raise VerificationFailed(f"{wanted.name} was deployed but does not answer: {_reason(error)}") from error
        if found != wanted:
            raise VerificationFailed(f"Expected {_identity(wanted)} to answer; found {_identity(found)}.")
        check_answer(asked, answered, wanted.name)

    def switch(self, version: Version) -> None:
        """Let the service answer with this version; nothing to do where none runs, or where it does already.

        Nor where it answers for another use in the first place: what it serves beside, it looks after by itself.
        Raises `VerificationFailed` when it does not answer as this version; the service is then told to go on with
        the version it had.
        """
        before, wanted = self._models(), ServedVersion.of(version)
        if not self._is_here() or (before and before.models[0].version == wanted):
            return
        if before and before.models[0].version.use != wanted.use:
            return
        try:
            deploy(MAIN, ServiceConfig(version=wanted, limits=self._limits()), "/")
            self._verify_over_http(wanted)
        except VerificationFailed:
            if before:
                deploy(MAIN, ServiceConfig(version=before.models[0].version, limits=self._limits()), "/")
            raise

    def discard(self, handle: Beside) -> None:
        """Take away what `deploy_beside` started."""
        handle.discard()

    def let_in(self, version: Version, percent: float, rules: Rules) -> None:
        """Let the candidate that was deployed beside answer this share of the requests; the judge counts from zero."""
        models = self._models()
        if models is None or not self._is_here():
            raise VerificationFailed(f"No service of {self._home.path} answers, so {version.name} meets no requests.")
        if models.models[0].version.use != version.use:
            raise VerificationFailed(
                f"The service of {self._home.path} answers for {models.models[0].version.use}, so {version.name} of"
                f" {version.use} meets no requests. Leave out --canary, or serve that use: unmuffle serve --use"
                f" {version.use}"
            )
        self._judge = self._judge or judge(rules)
        _judged(self._judge.begin.remote(percent))
        split = Split(
            candidate=ServedVersion.of(version),
            percent=percent,
            mirrored_percent=rules.mirrored_percent,
            tolerances=rules.tolerances,
        )
        deploy(MAIN, ServiceConfig(version=models.models[0].version, limits=self._limits(), split=split), "/")

    def evidence(self) -> Evidence:
        """What the judge has counted."""
        if running(self._home) is None:
            raise VerificationFailed("The service ended while a candidate was let in. Start it again: unmuffle serve")
        evidence: Evidence = _judged(self._judge.evidence.remote())
        return evidence

    def let_out(self) -> None:
        """Let the version that serves answer every request; nothing to do where it does."""
        if self._judge is not None:
            ray.kill(self._judge)
            self._judge = None
        models = self._models()
        if models is not None and models.split is not None and self._is_here():
            deploy(MAIN, ServiceConfig(version=models.models[0].version, limits=self._limits()), "/")

    def split(self) -> Split | None:
        """How requests are shared with a candidate, while there is one. Needs no Ray."""
        models = self._models()
        return models.split if models else None

    def candidate(self) -> str:
        """The candidate that is let in, or nothing. Needs no Ray."""
        split = self.split()
        return split.candidate.name if split else ""

    def left_behind(self) -> bool:
        """Whether there is a candidate beside the service: a promotion is under way, or one was killed."""
        return BESIDE in serve.status().applications

    def clear(self) -> None:
        """Remove the candidate that a killed promotion left beside the service."""
        serve.delete(BESIDE)

    def _is_here(self) -> bool:
        """Whether this home's service runs in the Ray cluster that we are in."""
        return running(self._home) is not None and MAIN in serve.status().applications

    def _limits(self) -> Limits:
        record = running(self._home)  # a service that is too busy to answer still has its limits
        return record.limits if record else Limits()

    def _models(self) -> Models | None:
        """What the service says of itself; None where there is none, or it does not answer."""
        record = running(self._home)
        if record is None:
            return None
        try:
            with _http() as http:
                response = http.get(f"{record.address}/v1/models")
            return Models.parse(response.content, "/v1/models") if response.status_code == 200 else None
        except (httpx.HTTPError, BadSetting):
            return None

    def _verify_over_http(self, wanted: ServedVersion) -> None:
        """Ask the service as any client does, until it is this version that answers."""
        record = running(self._home)
        if record is None:
            raise VerificationFailed("The service ended while it was switched. Start it again: unmuffle serve")
        deadline, found = time.monotonic() + SWITCHED_S, "nobody"
        while time.monotonic() < deadline:
            found, answered = _ask_over_http(record.address)
            if found == f"{wanted.name} {wanted.weights_sha256}":
                check_answer(probe(), answered, wanted.name)
                return
            time.sleep(0.2)
        raise VerificationFailed(f"Expected {_identity(wanted)} to answer at {record.address}; found {found}.")


def _judged(said: Any) -> Any:
    """What the judge says; `VerificationFailed` where it ended."""
    try:
        return ray.get(said, timeout=ANSWER_S)
    except RayError as error:
        raise VerificationFailed(f"The judge of the canary does not answer: {_reason(error)}") from error


def running(home: Home) -> ServiceRecord | None:
    """The service of this home, if the process that looks after it lives."""
    try:
        record = ServiceRecord.parse(record_path(home).read_bytes(), "serve.json")
    except (OSError, BadSetting):
        return None
    with suppress(psutil.Error):
        return record if abs(psutil.Process(record.pid).create_time() - record.started) < 1 else None
    return None


def record_path(home: Home) -> Path:
    """Where the service of a home is described."""
    return home.path / "serve.json"


def deploy(name: str, config: ServiceConfig, route: str | None) -> None:
    """Start or update a Serve application and wait until it answers; `VerificationFailed`, with the reason, if not."""
    quiet()
    target = serve.RunTarget(application(config), name=name, route_prefix=route)
    serve.run_many([target], wait_for_applications_running=False)
    deadline = time.monotonic() + DEPLOY_S
    while time.monotonic() < deadline:
        overview = serve.status().applications.get(name)
        if overview is None:
            raise VerificationFailed(f"{config.version.name} was removed while it was deployed. Run it again.")
        if overview.status == "RUNNING":
            return
        if overview.status == "DEPLOY_FAILED":
            messages = [overview.message, *(each.message for each in overview.deployments.values())]
            raise VerificationFailed(f"{config.version.name} was not deployed: {_last_error(messages[-1])}")
        time.sleep(0.1)
    raise VerificationFailed(f"{config.version.name} was not ready within {DEPLOY_S:.0f} s; look at the Serve logs.")


def quiet() -> None:
    """Keep what Serve tells of every step of a deployment out of our output; its warnings stay."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)


def _in_serve(config: ServiceConfig) -> Beside:
    try:
        deploy(BESIDE, config, None)
    except VerificationFailed:
        serve.delete(BESIDE)
        raise
    handle = serve.get_app_handle(BESIDE)
    return Beside(
        facts=lambda: handle.facts.remote().result(timeout_s=ANSWER_S),
        ask=lambda samples, sample_rate: handle.ask.remote(samples, sample_rate).result(timeout_s=ANSWER_S),
        discard=lambda: serve.delete(BESIDE),
    )


def _in_actor(config: ServiceConfig) -> Beside:
    actor = ray.remote(num_cpus=0)(TemporaryReplica).remote()
    try:
        ray.get(actor.load.remote(config), timeout=DEPLOY_S)
    except RayError as error:
        ray.kill(actor)
        raise VerificationFailed(f"{config.version.name} was not deployed: {_reason(error)}") from error
    return Beside(
        facts=lambda: ray.get(actor.facts.remote(), timeout=ANSWER_S),
        ask=lambda samples, sample_rate: ray.get(actor.ask.remote(samples, sample_rate), timeout=ANSWER_S),
        discard=lambda: ray.kill(actor),
    )


def _ask_over_http(address: str) -> tuple[str, Waveform]:
    """Who answered a second of speech (version and weights), and with what."""
    body, media_type = wire.encode(probe(), PROBE_RATE, flac=False)
    try:
        with _http() as http:
            response = http.post(f"{address}/v1/enhance", content=body, headers={"Content-Type": media_type})
    except httpx.HTTPError as error:
        return f"no answer ({error})", probe()[:0]
    if response.status_code != 200:
        return f"status {response.status_code}: {response.text[:500]}", probe()[:0]
    who = f"{response.headers['X-Unmuffle-Version']} {response.headers['X-Unmuffle-Weights']}"
    return who, audio.read(response.content, "The answer")[0]


def _http() -> httpx.Client:
    """A client that no proxy of the environment comes between."""
    return httpx.Client(trust_env=False, timeout=ANSWER_S, headers=own_headers())


def _identity(version: ServedVersion) -> str:
    return f"{version.name} (weights {version.weights_sha256[:12]})"


def _reason(error: Exception) -> str:
    """Our own message where a worker raised one of our errors, else the last line of Ray's."""
    cause: Any = error.cause if isinstance(error, RayTaskError) else error
    return str(cause) if isinstance(cause, UnmuffleError) else _last_error(str(error))


def _last_error(text: str) -> str:
    """The message behind the last exception of a traceback that Ray hands over as text."""
    ours = re.findall(r"^simulation\.errors\.\w+: (.+)$", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if line.strip()]
    return ours[-1] if ours else (lines[-1] if lines else "no reason given")
