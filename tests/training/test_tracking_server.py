"""A tracking server that dies: a real one, on the loopback interface, killed and started again."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulation import storage
from simulation.build import Built
from simulation.cluster import ClusterInfo
from simulation.home import Home
from training.fit import fit
from training.profile import ComputeProfile
from training.recipe import Recipe
from training.record import RunRecord
from training.registry import DEFAULT_USE
from training.system_metrics import nodes_watched
from training.tracking import Tracking

pytestmark = pytest.mark.long

DIGEST = "0123456789abcdef" * 4
KEY = "6" * 64


class Server:
    """A real tracking server on the loopback interface, in a process group of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"),
            *("--port", str(self.port), "--backend-store-uri", f"sqlite:///{self.folder}/server.db"),
            *("--artifacts-destination", f"file://{self.folder}/artifacts"),
        ]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            command, cwd=self.folder, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True
        )
        deadline = time.monotonic() + 90
        while not self.answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One that runs, and that the environment names."""
    server = Server(tmp_path / "server")
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield server
    server.kill()


def history(server: Server, run_id: str, metric: str) -> list[tuple[int, float]]:
    """(step, value) of every point, in the order in which the server has them."""
    from mlflow import MlflowClient

    return [(point.step, point.value) for point in MlflowClient(server.uri).get_metric_history(run_id, metric)]


def waiting(home: Home) -> list[str]:
    """Addresses of what the journal holds."""
    stored = storage.listing(storage.join(home.store, "journal"))
    return [each.address for each in stored if "/waiting/" in each.address]


def test_a_real_server_serves_runs_and_versions_and_may_die_in_between(
    server: Server, home: Home, tmp_path: Path
) -> None:
    """The same calls against `mlflow server`; killed in the middle of a run, it misses nothing in the end."""
    tracking = Tracking()
    run_id = tracking.run("stage-1", "train dm", parent_key="pipeline-1")
    tracking.params(run_id, {"seed": 1})
    tracking.dataset(run_id, "s3://bucket/corpora/sample@01234567/train", DIGEST, "training")
    tracking.metrics(run_id, {"loss": 1.0}, step=1)
    server.kill()
    begun = time.monotonic()
    tracking.metrics(run_id, {"loss": 0.5}, step=2)
    second = tracking.run("stage-2", "train gru", parent_key="pipeline-1")
    tracking.metrics(second, {"loss": 2.0}, step=1)
    assert time.monotonic() - begun < 30
    assert len(waiting(home)) == 3
    server.start()
    tracking.metrics(run_id, {"loss": 0.25}, step=3)
    assert waiting(home) == []
    assert history(server, run_id, "loss") == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert history(server, tracking.run("stage-2", "train gru"), "loss") == [(1, 2.0)]
    given = (DEFAULT_USE, "dm", f"file://{tmp_path}/version", DIGEST, run_id, {"stage_key": "stage-1"})
    version = tracking.register(*given, card="# dm", figures={"si_sdr_db": 3.0})
    assert tracking.register(*given) == version
    tracking.set_alias(DEFAULT_USE, "champion", version.version)
    assert tracking.resolve("champion") == tracking.resolve("dm/1") == version
    assert version.address == f"file://{tmp_path}/version"
    assert (server.folder / "artifacts").is_dir()
    assert not (home.path / "mlflow.db").exists()


class Outage(threading.Thread):
    """Kills the server once a step has been logged, and starts it again later."""

    def __init__(self, server: Server, run_id: str, after_step: int, seconds: float) -> None:
        super().__init__()
        self.server, self.run_id, self.after_step, self.seconds = server, run_id, after_step, seconds
        self.began = self.ended = 0.0

    def run(self) -> None:
        while not any(step >= self.after_step for step, _ in history(self.server, self.run_id, "train/loss")):
            time.sleep(0.5)
        self.server.kill()
        self.began = time.time()
        time.sleep(self.seconds)
        self.server.start()
        self.ended = time.time()


def test_a_minute_without_mlflow_costs_a_training_run_nothing(
    server: Server,
    home: Home,
    ray_cluster: ClusterInfo,
    built_here: Callable[..., Built],
    small_recipe: Callable[..., Recipe],
) -> None:
    """It trains on; afterwards every step stands in MLflow, in order, at the time at which it was measured."""
    from mlflow import MlflowClient

    corpus = built_here(home.store)
    recipe = small_recipe(steps=60, log_every=1, checkpoint_every=1, validate_every=20)
    tracking = Tracking()
    run_id = tracking.run("stage-1", "train small")
    record = RunRecord(tracking, run_id, storage.join(home.store, "runs", KEY), recipe)
    record.begin(corpus.address, corpus.digest)
    outage = Outage(server, run_id, after_step=3, seconds=60.0)
    outage.start()
    with nodes_watched(record.nodes, record.began, every_s=5.0):
        fitted = fit(
            recipe,
            corpus=corpus.address,
            corpus_digest=corpus.digest,
            storage=home.store,
            name=KEY,
            profile=ComputeProfile(workers=1, cpus_per_worker=1),
            before_commit=lambda: time.sleep(1.5),  # else it would be over within seconds
            log=record.row,
        )
    outage.join()
    version = record.end(fitted, corpus.address, corpus.digest, "stage-1")
    tracking.finish(run_id, ok=True)

    client = MlflowClient(server.uri)
    points = client.get_metric_history(run_id, "train/loss")
    assert [point.step for point in points] == list(range(1, 61))
    measured_meanwhile = [point for point in points if outage.began < point.timestamp / 1000 < outage.began + 60]
    assert len(measured_meanwhile) >= 15
    assert [step for step, _ in history(server, run_id, "valid/si_sdr_db")] == [20, 40, 60]
    for name in client.get_run(run_id).data.metrics:
        steps = [step for step, _ in history(server, run_id, name)]
        assert steps == sorted(set(steps)), name
    assert len(client.list_artifacts(run_id, "samples")) == 4
    assert waiting(home) == []
    assert client.get_run(run_id).info.status == "FINISHED"
    assert client.get_model_version(DEFAULT_USE, version.version).description.startswith("# gru_mask, recipe small")
