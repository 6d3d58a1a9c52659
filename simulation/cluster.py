"""The one door to a Ray cluster: use this process's, join the one that is named or the home's own, else start one.

A home has one local cluster, described in `<home>/ray/cluster.json`; whoever starts it exports how to join it and stops
it at the end, when those who joined have left. It asks for a token of the home's own (`<home>/ray/token`), sends no
usage statistics, and keeps its session folder below a short temporary path, because the names of unix sockets end at
107 characters; that folder is removed at the end, by `simulation.guard` if its starter was killed, or by the next start
if both were.

Ray's processes share the fate of the thread that started them: enter `cluster` in one that lives as long as it does.
"""

import atexit
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simulation import storage
from simulation.cores import cores
from simulation.errors import BadSetting, ClusterProblem
from simulation.home import Home
from simulation.schema import Schema

log = logging.getLogger(__name__)

PACKAGES = ("simulation", "training", "serving", "components", "pipelines")

DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its errors, most of them advice to developers, would reach the terminal
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # Ray Train's poll of 2 s delays every reported checkpoint by as much
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "86400",  # a second training run waits for the first one's CPUs
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.again:middlewares",  # what a dead replica left is asked again
}
"""Environment of a cluster we start, where the caller says nothing."""

FORWARDED = ("AWS_", "MLFLOW_", "UNMUFFLE_")
"""Variables of a joining process that its workers must see, though the cluster was started without them."""

LONGEST_TEMPORARY = 32
"""Characters of a temporary folder below which Ray's sockets still fit; beyond it, /tmp is taken."""

ANSWER_S = 2.0
"""How long a cluster may take to accept a connection."""
WORKER_S = 120.0
"""How long a worker may take to say which code it runs."""
POLL_S = 0.5
"""How often a starter looks whether the joiners have left."""
GONE_S = 15.0
"""How long Ray's processes may take to end when they are told to, before they are killed."""


@dataclass(frozen=True)
class ClusterInfo:
    """The cluster in use."""

    address: str
    """host:port of its global control service."""
    cpus: float
    started: bool
    """Whether this process started it, and will stop it."""


class Record(Schema):
    """`cluster.json`: who runs the home's cluster, and where."""

    address: str
    pid: int
    started: float
    """When that process began, in seconds since the epoch: process numbers are used again."""
    home: str
    folder: str
    """The temporary folder of the session."""


@contextmanager
def cluster(home: Home | None = None, *, cpus: int | None = None) -> Iterator[ClusterInfo]:
    """Ray, ready for use: joined where there is a cluster, else started with `cpus` (default: all, at least 2).

    Looks in this order: this process, RAY_ADDRESS, the home's cluster.json. Inside, RAY_ADDRESS, RAY_AUTH_MODE,
    RAY_AUTH_TOKEN_PATH and UNMUFFLE_HOME let child processes join. Raises ClusterProblem if the cluster does not
    answer, cannot be started, or its workers run other code than this process.
    """
    if ray.is_initialized():
        yield _info(started=False)
        return
    with ExitStack() as stack:
        atexit.register(stack.close)
        stack.callback(atexit.unregister, stack.close)
        started = _join_or_start(home or Home.current(), cpus, stack)
        _verify_workers()
        yield _info(started)


def fraction(workers: int) -> float:
    """CPUs that each of `workers` actors may claim so that one CPU's worth (half of a single one) stays free for reads.

    An actor pool that takes every CPU starves the tasks that feed it, and Ray Data then hangs without a word.
    """
    if workers < 1:
        raise BadSetting(f"Found {workers} workers; expected at least 1.")
    cpus = ray.cluster_resources().get("CPU", 1.0)
    share = max(cpus - 1, cpus / 2) / workers
    return min(1.0, int(share * 10_000) / 10_000)  # Ray counts in ten-thousandths


def _info(started: bool) -> ClusterInfo:
    return ClusterInfo(ray.get_runtime_context().gcs_address, ray.cluster_resources().get("CPU", 0.0), started)


def _join_or_start(home: Home, cpus: int | None, stack: ExitStack) -> bool:
    """Connect this process; what must be undone goes on the stack. True if the cluster was started."""
    stack.enter_context(_environment_restored())
    if address := os.environ.get("RAY_ADDRESS"):
        ours = _is_of(home, address)
        if ours:
            stack.enter_context(_among_joiners(home))
            _export(home, _token(home), address)
        _join(address, _forwarded() if ours else {}, stack)
        return False
    with _locked(home):
        record = _living(home)
        token = _token(home)
        _export(home, token, record.address if record else None)
        if record:
            stack.enter_context(_among_joiners(home))
            _join(record.address, _forwarded(), stack)
            return False
        _start(home, cpus, stack)
        return True


# ---- quietly --------------------------------------------------------------------------------------------------------


def _init(**options: Any) -> None:
    """ray.init; what its workers print is heard where somebody asked for it (--verbose, a task's log), nowhere else."""
    with _no_announcement():
        ray.init(logging_level=logging.WARNING, log_to_driver=log.isEnabledFor(logging.INFO), **options)


@contextmanager
def _no_announcement() -> Iterator[None]:
    """Pass on what is written to the terminal meanwhile, but Ray's line that says how much it will log."""
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            written.seek(0)
            for line in written:
                if b"RAY_BACKEND_LOG_LEVEL" not in line:
                    os.write(2, line)


# ---- join -----------------------------------------------------------------------------------------------------------


def _join(address: str, variables: dict[str, str], stack: ExitStack) -> None:
    if ":" in address and "://" not in address and not _accepts(address):
        raise ClusterProblem(
            f"No Ray cluster answers at {address}. Unset RAY_ADDRESS to start one here, or set it to one that runs."
        )
    _read_authentication()
    environment = {"env_vars": variables} if variables else None
    try:
        _init(address=address, runtime_env=environment)
    except Exception as error:  # Ray raises a dozen types here
        raise ClusterProblem(
            f"The Ray cluster at {address} cannot be joined: {_first_line(error)} "
            "Look at RAY_ADDRESS and at the token that RAY_AUTH_TOKEN_PATH names."
        ) from error
    stack.callback(ray.shutdown)


def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError):
        return False
    return True


def _is_of(home: Home, address: str) -> bool:
    record = _record(home)
    return record is not None and record.address == address


def _forwarded() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(FORWARDED)}


def _description(home: Home) -> Path:
    return home.ray / "cluster.json"


def _record(home: Home) -> Record | None:
    """What cluster.json says; None if there is none, or none that can be read."""
    try:
        return Record.parse(_description(home).read_bytes(), "cluster.json")
    except (OSError, BadSetting):
        return None


def _living(home: Home) -> Record | None:
    """The home's cluster if it lives; what a dead one left is removed."""
    record = _record(home)
    if record is None:
        return None
    if _runs(record) and _accepts(record.address):
        return record
    _forget(home, record)
    if Path(record.folder).name.startswith("unmuffle-"):
        shutil.rmtree(record.folder, ignore_errors=True)
    return None


def _runs(record: Record) -> bool:
    try:
        return abs(psutil.Process(record.pid).create_time() - record.started) < 1
    except psutil.Error:
        return False


def _forget(home: Home, record: Record) -> None:
    """Remove the description, if it is still this one."""
    if _record(home) == record:
        _description(home).unlink(missing_ok=True)


# ---- start ----------------------------------------------------------------------------------------------------------


def _start(home: Home, cpus: int | None, stack: ExitStack) -> None:
    folder = _temporary_folder()
    guard = stack.enter_context(ExitStack())  # first in, last out: it watches over the clean-up too
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    stack.callback(_stop, folder)
    _read_authentication()
    try:
        _init(
            address="local",  # never a cluster that `ray start` left a note about
            num_cpus=cpus or max(2, cores()),
            include_dashboard=False,
            _temp_dir=str(folder / "ray"),  # Ray opens this folder to everybody; the one above stays ours
        )
    except Exception as error:  # Ray raises a dozen types here
        raise ClusterProblem(f"Ray cannot be started: {_first_line(error)} Try `unmuffle doctor`.") from error
    address = ray.get_runtime_context().gcs_address
    me = psutil.Process()
    record = Record(address=address, pid=me.pid, started=me.create_time(), home=str(home.path), folder=str(folder))
    storage.replace(storage.normal(str(_description(home))), record.canonical())
    stack.callback(_forget, home, record)
    guard.enter_context(_guarded(home, folder))
    stack.callback(_outlast_joiners, home, record)
    os.environ["RAY_ADDRESS"] = address


@contextmanager
def _among_joiners(home: Home) -> Iterator[None]:
    """Count as one who uses the home's cluster without having started it; the system ends that where we are killed."""
    with (home.ray / "joined").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def _outlast_joiners(home: Home, record: Record) -> None:
    """Return when nobody else uses the cluster, and nobody can find it any more."""
    told = False
    with (home.ray / "joined").open("a") as file:
        while True:
            with _locked(home), suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _forget(home, record)
                return
            if not told:
                log.warning("Another command works in %s, on Ray as started here; waiting for its end.", home.path)
                told = True
            time.sleep(POLL_S)


@contextmanager
def _guarded(home: Home, folder: Path) -> Iterator[None]:
    """A process beside us, out of reach of the terminal's signals, that cleans up if we are killed."""
    arguments = [folder, _description(home), os.getpid(), *(process.pid for process in _processes(folder))]
    command = [sys.executable, "-P", "-m", "simulation.guard", *map(str, arguments)]
    quiet = subprocess.DEVNULL  # nobody who reads our output should wait for it
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _stop(folder: Path) -> None:
    """End the session, and return when none of its processes is left."""
    processes = _processes(folder)
    ray.shutdown()
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with suppress(psutil.Error):
                end(process)
        _, processes = psutil.wait_procs(processes, timeout=GONE_S)


def _processes(folder: Path) -> list[psutil.Process]:
    """The session's services, which name its folder, and all that descends from them: agents and workers."""
    services = [process for process in psutil.Process().children() if str(folder) in " ".join(_command(process))]
    return services + [process for service in services for process in _descendants(service)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _temporary_folder() -> Path:
    short = len(tempfile.gettempdir()) <= LONGEST_TEMPORARY
    return Path(tempfile.mkdtemp(prefix="unmuffle-", dir=None if short else "/tmp"))


# ---- what joiners need ----------------------------------------------------------------------------------------------


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    """One process at a time looks for the home's cluster, so that of two at once one starts it and the other joins."""
    try:
        home.ray.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (home.ray / "lock").open("w")
    except OSError as error:
        raise ClusterProblem(
            f"{home.ray} cannot be written ({error.strerror}). Set UNMUFFLE_HOME to a folder that can."
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _token(home: Home) -> Path:
    """The home's secret: whoever can read this file may use its cluster."""
    path = home.ray / "token"
    if not path.exists():
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    path.chmod(0o600)
    return path


def _export(home: Home, token: Path, address: str | None) -> None:
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ["UNMUFFLE_HOME"] = str(home.path)
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    os.environ.pop("RAY_AUTH_TOKEN", None)  # would go before the file
    if address:
        os.environ["RAY_ADDRESS"] = address


@contextmanager
def _environment_restored() -> Iterator[None]:
    names = ["UNMUFFLE_HOME", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN", *DEFAULTS]
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _read_authentication() -> None:
    """Make Ray look at RAY_AUTH_* again.

    It reads the mode when it is imported and the token once; a process that imported Ray before, or has used another
    home's cluster, would be refused by its own cluster.
    """
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."


# ---- the code that workers run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Code:
    """What one process would import under our names."""

    version: str
    folders: dict[str, str]
    """Package name to folder."""
    digests: dict[str, str]
    """Package name to the sha256 over its source files."""


def _verify_workers() -> None:
    """Ask a worker of every node for its version and its five packages; ClusterProblem if they are not ours."""
    look, here = _code_reader(), Code(*_code_reader()(PACKAGES))
    try:
        found = ray.get([_on(node, look).remote(PACKAGES) for node in _living_nodes()], timeout=WORKER_S)
    except Exception as error:  # whatever a worker may raise
        raise ClusterProblem(f"A worker of Ray does not answer: {_first_line(error)} Restart the cluster.") from error
    for there in found:
        _compare(here, Code(*there))


def _living_nodes() -> list[str]:
    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def _on(node: str, function: Callable[..., Any]) -> Any:
    """A remote function that runs on this node, or on another if it dies meanwhile."""
    there = NodeAffinitySchedulingStrategy(node, soft=True)
    return ray.remote(num_cpus=0, scheduling_strategy=there)(function)


def _compare(here: Code, there: Code) -> None:
    if here.version != there.version:
        raise ClusterProblem(
            f"Ray's workers have unmuffle {there.version}, this process {here.version}. Install one on both."
        )
    root = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        if here.folders[name] != str(root / name):
            raise ClusterProblem(
                f"The package {name!r} comes from {here.folders[name]}, expected {root / name}. "
                "Something else of that name comes first on the path: run from another folder, or look at PYTHONPATH."
            )
        if there.folders[name] != here.folders[name] and there.digests[name] != here.digests[name]:
            raise ClusterProblem(
                f"On Ray's workers the package {name!r} comes from {there.folders[name]} and differs from "
                f"ours in {here.folders[name]}. Give the workers the same installation."
            )


def _code_reader() -> Callable[[tuple[str, ...]], tuple[str, dict[str, str], dict[str, str]]]:
    """The function that looks, as a local one: Ray sends those whole, so it runs where our packages are missing."""

    def look(packages: tuple[str, ...]) -> tuple[str, dict[str, str], dict[str, str]]:
        folders, digests = {}, {}
        for name in packages:
            found = importlib.util.find_spec(name)
            folder = Path(found.origin).resolve().parent if found and found.origin else Path("nowhere")
            sources = sorted(folder.rglob("*.py"))
            content = b"".join(str(file.relative_to(folder)).encode() + file.read_bytes() for file in sources)
            folders[name], digests[name] = str(folder), hashlib.sha256(content).hexdigest()
        try:
            return importlib.metadata.version("unmuffle"), folders, digests
        except importlib.metadata.PackageNotFoundError:
            return "(not installed)", folders, digests

    return look
