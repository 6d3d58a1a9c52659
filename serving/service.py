"""What `unmuffle serve` runs: the HTTP service of a use, which follows the champion alias until it is told to end.

The alias is the truth: see `serving/reconcile.py`.
"""

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
from ray import serve as ray_serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from serving.deployer import MAIN, LocalServe, ServiceRecord, deploy, quiet, record_path, running
from serving.messages import Limits, ServedVersion, ServiceConfig
from serving.reconcile import reconcile
from serving.side_by_side import Others
from simulation import storage
from simulation.cluster import cluster
from simulation.errors import BadSetting, ClusterProblem, UnmuffleError
from simulation.home import Home
from training.registry import CHAMPION, DEFAULT_USE
from training.tracking import Tracking

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
DEFAULT_PORT = 8000
POLL_S = 3.0
"""How often the alias is looked at."""
LONGEST_POLL_S = 60.0
"""The same while something is wrong, such as a champion that cannot be loaded: each attempt starts a replica."""


def serve(
    home: Home,
    port: int = DEFAULT_PORT,
    use: str = DEFAULT_USE,
    limits: Limits | None = None,
    ready: Callable[[ServiceRecord], None] = lambda record: None,
    also: Sequence[str] = (),
) -> None:
    """Answer over HTTP with the champion of a use, until SIGINT or SIGTERM; call in the main thread.

    The champions of the uses in `also` answer below `/USE/`. `ready` is called once, when the service answers. Raises
    `NoChampion`, `BadSetting` for a port that is taken, a home that is served already or a use that is named twice,
    `VerificationFailed` for a champion that cannot be loaded, `ClusterProblem`.
    """
    _refuse_repeated((use, *also))
    _refuse_second(home)
    _refuse_taken(port)
    tracking = Tracking(home.tracking_uri, storage.join(home.store, "journal"))
    champion = ServedVersion.of(tracking.resolve(CHAMPION, use))
    with ExitStack() as stack:
        stack.enter_context(cluster(home))
        stack.enter_context(http_proxy(port))
        stop = stack.enter_context(stop_signals())
        config = ServiceConfig(version=champion, limits=limits or Limits())
        others = Others(also, config.limits, tracking, deploy)
        others.follow()
        deploy(MAIN, config, "/")
        record = stack.enter_context(announced(home, port, config))
        ready(record)
        _follow(home, use, tracking, stop, others)


def _follow(home: Home, use: str, tracking: Tracking, stop: threading.Event, others: Others) -> None:
    """Look at the aliases every few seconds, and ever more seldom while that fails."""
    deployer, poll_s = LocalServe(home), POLL_S
    while not stop.wait(poll_s):
        try:
            bring_to_alias(home, use, tracking, deployer)
            others.follow()
            poll_s = POLL_S
        except (UnmuffleError, RayError, RayServeException) as error:
            poll_s = min(2 * poll_s, LONGEST_POLL_S)
            log.error("%s Looking again in %.0f s.", error, poll_s)


def bring_to_alias(home: Home, use: str, tracking: Tracking, deployer: LocalServe) -> None:
    """Let the service answer with the champion, unless a promotion is under way, and say so in `serve.json`."""
    if reconcile(home.store, use, tracking, deployer):
        _write_version(home, deployer.serving())


def _write_version(home: Home, version: ServedVersion | None) -> None:
    """Keep `serve.json` true after a switch."""
    record = running(home)
    if record is not None and version is not None and record.version != version.name:
        _write(home, record.model_copy(update={"version": version.name}))


@contextmanager
def announced(home: Home, port: int, config: ServiceConfig) -> Iterator[ServiceRecord]:
    """`serve.json` for as long as the service runs."""
    me = psutil.Process()
    address = f"http://{HOST}:{port}"
    record = ServiceRecord(
        address=address, pid=me.pid, started=me.create_time(), version=config.version.name, limits=config.limits
    )
    _write(home, record)
    try:
        yield record
    finally:
        record_path(home).unlink(missing_ok=True)


def _write(home: Home, record: ServiceRecord) -> None:
    storage.replace(storage.normal(str(record_path(home))), record.canonical())


@contextmanager
def http_proxy(port: int) -> Iterator[None]:
    """Serve with its HTTP proxy on the loopback interface; what a killed service left in the cluster goes first."""
    quiet()
    ray_serve.shutdown()
    try:
        ray_serve.start(
            proxy_location="HeadOnly",
            http_options={"host": HOST, "port": port},
            logging_config={"log_level": "WARNING"},
        )
    except Exception as error:  # Ray raises what the proxy actor met
        ray_serve.shutdown()
        raise ClusterProblem(f"Ray Serve cannot listen on {HOST}:{port}: {error}. Try another --port.") from error
    try:
        yield
    finally:
        ray_serve.shutdown()


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, in place of what Ray and Python do on them."""
    stop = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _refuse_repeated(uses: Sequence[str]) -> None:
    if len(set(uses)) < len(uses):
        raise BadSetting(f"The uses {', '.join(uses)} hold one twice. Name each once: --use A --also B --also C")


def _refuse_second(home: Home) -> None:
    record = running(home)
    if record is not None:
        raise BadSetting(
            f"{home.path} is served already, at {record.address} by process {record.pid}, with {record.version}. End"
            f" that one (kill {record.pid}), or set UNMUFFLE_HOME to another home."
        )


def _refuse_taken(port: int) -> None:
    """Try the port before anything is started."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise BadSetting(
                f"Port {port} of {HOST} cannot be used ({error}). Choose one between 1024 and 65535 that is free:"
                " unmuffle serve --port 8001"
            ) from None
