import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from serving.messages import Limits, ServedVersion, ServiceConfig
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
        yield RunningService(record.address, home)
