"""What a cluster has beside Kubernetes, on this machine: PostgreSQL, an MLflow server on it, an S3 endpoint, two Ray
nodes. Everything lies in one temporary folder and listens on free ports of the loopback interface, but for Ray, which
takes the machine's own address and asks for a token.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

RAY_NODES = Path(__file__).parent / "simulation" / "ray_nodes.py"
READY_S = 180.0
"""MLflow makes its tables in this time."""
GONE_S = 30.0
BUCKET = "unmuffle"
CPUS = 2
"""Of a Ray node."""
UNPRIVILEGED = ("postgres", "nobody")
"""Who runs PostgreSQL where we are root, whom it refuses; the first one that there is."""


@dataclass(frozen=True)
class Stack:
    """What runs, and the environment that leads a command of ours to it."""

    folder: Path
    environment: dict[str, str]
    database: str
    """Address of MLflow's database, with its password."""
    nodes: tuple[str, ...]
    """Ids of Ray's nodes."""


def missing() -> str:
    """What is not installed, and what to type; empty where all is there."""
    wanted = {
        "PostgreSQL's server (initdb, postgres)": ("apt-get install postgresql", _program("initdb")),
        "psycopg2": ("pip install psycopg2-binary", find_spec("psycopg2")),
        "moto's server": ("pip install 'moto[server]'", find_spec("moto") and find_spec("flask")),
    }
    return "; ".join(f"{name} is not here: {type_this}" for name, (type_this, found) in wanted.items() if not found)


@contextmanager
def running() -> Iterator[Stack]:
    """The whole of it, until the block ends."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="stack-", dir="/tmp"))  # sockets have short names
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)  # PostgreSQL's user passes through
        storage = stack.enter_context(_s3(folder))
        database = stack.enter_context(_postgres(folder))
        tracking = stack.enter_context(_mlflow(folder, database, storage))
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        environment = storage | {
            "MLFLOW_TRACKING_URI": tracking,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
        }
        address, nodes = stack.enter_context(_ray(folder, environment))
        yield Stack(folder, environment | {"RAY_ADDRESS": address}, database, nodes)


@contextmanager
def _s3(folder: Path) -> Iterator[dict[str, str]]:
    """Variables that lead to a bucket."""
    port = _free_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "stack",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(8),
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with _process(folder, "s3", ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], _answers(port)):
        made = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        urllib.request.urlopen(made, timeout=10).close()
        yield variables


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    """The address of a database; its superuser and its password are ours alone."""
    user = _unprivileged()
    data, password, port = folder / "postgres", secrets.token_hex(16), _free_port()
    data.mkdir(mode=0o700)
    words = folder / "password"
    words.write_text(password)
    if user:
        for path in (data, words):
            shutil.chown(path, user)
    made = [_program("initdb"), "-D", str(data), "-U", "mlflow", "--auth", "scram-sha-256", "--pwfile", str(words)]
    subprocess.run([*made, "--no-sync", "--encoding", "UTF8"], check=True, user=user, cwd=data, capture_output=True)
    words.unlink()
    settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
    command = [_program("postgres"), "-D", str(data), "-p", str(port)]
    command += [word for setting in settings for word in ("-c", setting)]
    with _process(folder, "postgres", command, _accepts(port), user=user, end=signal.SIGINT):
        yield f"postgresql+psycopg2://mlflow:{password}@127.0.0.1:{port}/postgres"


@contextmanager
def _mlflow(folder: Path, database: str, storage: dict[str, str]) -> Iterator[str]:
    """The address of a tracking server, whose files lie in the bucket."""
    port = _free_port()
    command = ["-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--artifacts-destination", f"s3://{BUCKET}/mlflow"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    variables = storage | quiet | {"MLFLOW_BACKEND_STORE_URI": database}  # not in a command line: it has a password
    with _process(folder, "mlflow", command, _answers(port, "/health"), variables=variables):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _ray(folder: Path, variables: dict[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Address and node ids of two nodes."""
    command = [sys.executable, str(RAY_NODES), str(folder / "ray"), "2", str(CPUS)]
    with (folder / "ray.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    try:
        address, *_ = process.stdout.readline().split() or [""]
        assert address, (folder / "ray.log").read_text()
        yield address, tuple(process.stdout.readline().split())
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.communicate(timeout=60)  # the end of its input is the end of its nodes
        for member in psutil.wait_procs(family, timeout=GONE_S)[1]:
            member.kill()


@contextmanager
def _process(
    folder: Path,
    name: str,
    command: list[str],
    ready: Callable[[], bool],
    variables: dict[str, str] | None = None,
    user: str | None = None,
    end: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """A program, or a module of Python, that runs until the block ends, once it is ready."""
    words = [sys.executable, *command] if command[0] == "-m" else command
    path = folder / f"{name}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            words,
            cwd="/",
            env=os.environ | (variables or {}),
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=user,
        )
    try:
        until = time.monotonic() + READY_S
        while not ready():
            assert process.poll() is None and time.monotonic() < until, f"{name} is not ready:\n{path.read_text()}"
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(end)  # nothing happens to one that is gone
        with suppress(subprocess.TimeoutExpired):
            process.wait(GONE_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left behind
        process.wait()


def _answers(port: int, path: str = "/") -> Callable[[], bool]:
    """Whether a web server answers there."""

    def look() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).close()
        except OSError:
            return False
        return True

    return look


def _accepts(port: int) -> Callable[[], bool]:
    """Whether anybody listens there."""

    def look() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return False
        return True

    return look


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _program(name: str) -> str:
    """A program of PostgreSQL, which Debian keeps off the PATH; empty where there is none."""
    found = shutil.which(name)
    return found or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default="")


def _unprivileged() -> str | None:
    """Whom PostgreSQL runs as: another user where we are root, else ourselves."""
    if os.geteuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in UNPRIVILEGED if name in known)
