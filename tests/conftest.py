"""What tests share: an environment without the caller's settings, a home of their own, a bucket, a Ray cluster."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulation.bucket import client
from simulation.cluster import ClusterInfo, cluster
from simulation.home import Home

OUR_VARIABLES = ("AWS_", "MLFLOW_", "RAY_", "UNMUFFLE_")


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees, or writes to, the store, tracking server, cluster or home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(OUR_VARIABLES)]:
            patch.delenv(name)
        patch.setenv("UNMUFFLE_HOME", str(tmp_path_factory.mktemp("home-of-all")))
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home of this test alone, named by the environment; the folder does not exist yet."""
    monkeypatch.setenv("UNMUFFLE_HOME", str(tmp_path / "home"))
    return Home.current()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of moto's S3 server on a free port of the loopback interface."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_variables(endpoint: str) -> dict[str, str]:
    """What boto3 and pyarrow need to reach that server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "2",
    }


@pytest.fixture
def s3_store(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket, reached by the AWS_* variables that this fixture sets."""
    for name, value in s3_variables(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{uuid.uuid4().hex}"
    client().create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


@dataclass(frozen=True)
class SharedCluster:
    """The tests' Ray cluster, and what a child process needs to join it."""

    info: ClusterInfo
    variables: dict[str, str]


@pytest.fixture(scope="session")
def shared_cluster(clean_environment: None, s3_endpoint: str) -> Iterator[SharedCluster]:
    """A cluster of two CPUs whose workers can reach the buckets of `s3_store`; the environment stays as it was."""
    with tempfile.TemporaryDirectory(prefix="home-") as folder, ExitStack() as stack:
        before = dict(os.environ)
        os.environ.update(s3_variables(s3_endpoint))
        info = stack.enter_context(cluster(Home(Path(folder)), cpus=2))
        variables = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
        for name in set(os.environ) - set(before):
            del os.environ[name]
        yield SharedCluster(info, variables)


@pytest.fixture(scope="session")
def ray_cluster(shared_cluster: SharedCluster) -> ClusterInfo:
    """One small Ray cluster, connected to this process, for all tests that need one."""
    return shared_cluster.info


@pytest.fixture
def ray_for_children(shared_cluster: SharedCluster, monkeypatch: pytest.MonkeyPatch) -> ClusterInfo:
    """The same cluster, for processes that the test starts: the environment says how to join it."""
    for name, value in shared_cluster.variables.items():
        monkeypatch.setenv(name, value)
    return shared_cluster.info
