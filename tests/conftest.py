"""What tests share: an environment without the caller's settings, a home of their own, a bucket, a Ray cluster."""

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="session")
def built_here() -> Callable[..., Any]:
    """`built_here(root, name, rows_per_shard, **size)`: a corpus of real speech with noise, without Ray."""
    return _built_here


def _built_here(root: str, name: str = "small", rows_per_shard: int = 8, **size: float) -> Any:
    """Its shards are rendered in this process; `size` is that of the scenario."""
    from simulation.build import build, render_shard
    from simulation.degradations import AddNoise
    from simulation.render import Library
    from simulation.scenario import Case, Scenario, Size
    from simulation.schema import Range
    from simulation.shards import commit

    def rendered(plan: Any, root: str, missing: list, workers: int) -> Iterator[tuple]:
        library = Library(plan.sources, plan.scenario, plan.seed)
        for split, number in missing:
            yield split, number, commit(f"{root}/{split}", *render_shard(plan, split, number, library))

    scenario = Scenario(
        name=name,
        cases=(Case(name="noise", degradations=(AddNoise(snr_db=Range(low=-5.0, high=15.0)),)),),
        rows_per_shard=rows_per_shard,
        size=Size.model_validate({"train_hours": 0.001, "valid_rows": 2, "test_rows": 1} | size),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulation.build._rendered", rendered)
        return build(scenario, root)


# ---- pages in a browser ----------------------------------------------------------------------------------------------


class Tab:
    """One tab, driven by the DevTools protocol; collects what the page complains about and what it asks for."""

    def __init__(self, address: str) -> None:
        from websockets.sync.client import connect

        self._socket = connect(address, max_size=None)
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            self._notice(message)
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    def js(self, expression: str) -> Any:
        """The value of an expression, awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, page: Path) -> None:
        """Load a file with the network off, and wait until it is there."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        self.call("Page.navigate", url=page.as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def wait(self, condition: str, seconds: float = 20.0) -> None:
        """Until a condition of the page holds."""
        end = time.monotonic() + seconds
        while not self.js(condition):
            assert time.monotonic() < end, f"not within {seconds} s: {condition}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """A key, as the keyboard sends it."""
        text = {"Enter": "\r"}.get(key, key)
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def _notice(self, message: dict[str, Any]) -> None:
        method, facts = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(facts["exceptionDetails"]))
        if method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(facts["args"]))
        if method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.complaints.append(facts["entry"]["text"])
        if method == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])


def browse(chromium: str, folder: Path, *flags: str) -> Iterator[Tab]:
    """A browser of its own with one empty tab, started with `flags` as well; ends with the generator."""
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
               "--autoplay-policy=no-user-gesture-required", "--mute-audio", "--remote-debugging-port=0")  # fmt: skip
    command = [chromium, *options, *flags, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = folder / "DevToolsActivePort"
        end = time.monotonic() + 30
        while not (port.exists() and port.read_text().count("\n")):
            assert time.monotonic() < end and process.poll() is None, "chromium did not start"
            time.sleep(0.05)
        number, path = port.read_text().split("\n")[:2]
        browser = Tab(f"ws://127.0.0.1:{number}{path}")
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        yield Tab(f"ws://127.0.0.1:{number}/devtools/page/{target}")
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def new_tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Tab]]:
    """`new_tab(*flags)`: a browser of its own with one empty tab; skips where there is no Chromium to open pages in."""
    pytest.importorskip("websockets.sync.client", reason="the DevTools protocol needs the package websockets")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no chromium here: the page cannot be opened in a browser")
    with ExitStack() as stack:
        yield lambda *flags: stack.enter_context(
            contextmanager(browse)(chromium, tmp_path_factory.mktemp("profile"), *flags)
        )
