import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
import uvicorn

from serving.messages import Limits, ServedVersion, ServiceConfig
from serving.replica import Service
from simulation.home import Home
from training.checkpoint import save_version
from training.models import GruMask
from training.registry import Version


@pytest.fixture(scope="session", autouse=True)
def one_core_each() -> None:
    """Numerical libraries that workers load take one core each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def saved(folder: Path, number: int) -> Version:
    """A registered version of a tiny untrained network, saved below `folder`."""
    torch.manual_seed(number)
    address = f"file://{folder / str(number)}"
    digest = save_version(GruMask.Config(width=8, layers=1).build(), address, facts={})
    return Version("denoise-16k", str(number), "gru", address, digest, run_id="", tags={"number": str(number)})


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Version, Version]:
    """Two intact versions with different weights."""
    folder = tmp_path_factory.mktemp("versions")
    return saved(folder, 1), saved(folder, 2)


@pytest.fixture(scope="session")
def corrupt(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A version whose weights were changed after they were saved."""
    version = saved(tmp_path_factory.mktemp("corrupt"), 3)
    weights = Path(version.address.removeprefix("file://")) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    return version


@pytest.fixture(scope="session")
def config_of() -> Callable[[Version], ServiceConfig]:
    """The configuration of a service that answers with a version, within narrow limits."""
    limits = Limits(max_body_mb=1.0, max_seconds=60.0, max_decoded_mb=8.0, threads=1)
    return lambda version: ServiceConfig(version=ServedVersion.of(version), limits=limits)


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago."""
    with socket.socket() as attempt:
        attempt.bind(("127.0.0.1", 0))
        return int(attempt.getsockname()[1])


@pytest.fixture
def port() -> int:
    """A free port."""
    return free_port()


@dataclass(frozen=True)
class RunningService:
    """A live service and its home."""

    url: str
    home: Home
    store: str
    """Of its replicas: in a cluster that an earlier test started, that of the cluster's home."""


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory,
    versions: tuple[Version, Version],
    config_of: Callable[[Version], ServiceConfig],
) -> Iterator[RunningService]:
    """The service with the first version, on a free port, in a Ray cluster that this process started or was in."""
    from serving.deployer import MAIN, deploy
    from serving.service import announced, http_proxy
    from simulation.cluster import cluster

    home, port, config = Home(tmp_path_factory.mktemp("home")), free_port(), config_of(versions[0])
    with ExitStack() as stack:
        stack.enter_context(cluster(home, cpus=2))
        stack.enter_context(http_proxy(port))
        deploy(MAIN, config, "/")
        record = stack.enter_context(announced(home, port, config))
        yield RunningService(record.address, home, ray.get(ray.remote(lambda: Home.current().store).remote()))


ANSWERING: ContextVar[Service] = ContextVar("ANSWERING")
"""Which service of this process a request is for: there is one application for all."""


@contextmanager
def in_process(service: Service, config: ServiceConfig) -> Iterator[str]:
    """The routes over a service of this process, at an address; Ray has no part in it. Several may run at a time."""
    from serving.app import ROUTES
    from serving.replica import this

    async def application(scope: Any, receive: Any, send: Any) -> None:
        ANSWERING.set(service)
        await ROUTES(scope, receive, send)

    asyncio.run(service.reconfigure(config.model_dump(mode="json")))
    ROUTES.dependency_overrides[this] = lambda: ANSWERING.get()
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def run_here() -> Callable:
    """`in_process`, for tests that need a service of their own."""
    return in_process


@pytest.fixture(scope="module")
def here(versions: tuple[Version, Version], config_of: Callable[[Version], ServiceConfig]) -> Iterator[str]:
    """The address of a service of this process, with the first version."""
    with in_process(Service(), config_of(versions[0])) as address:
        yield address
