"""Training on several Ray nodes while workers, drivers and nodes die: one run, each mixture once, the same weights."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from simulation.build import Built
from simulation.storage import read
from simulation.virtual import open_corpora
from training.ledger import Account, accounts
from training.lineage import LINEAGE, Lineage
from training.models import GruMask
from training.recipe import Recipe

pytestmark = pytest.mark.long

RAY_NODES = Path(__file__).parents[1] / "simulation" / "ray_nodes.py"
NODES = 5
KILLS = ("worker", "driver", "worker", "node", "worker", "driver", "worker", "node", "worker", "driver")
PATIENCE_S = 600.0
"""How long a run may take to get further before the test says that nothing moves any more."""
TELL, END = signal.SIGTERM, signal.SIGKILL

DRIVER = """
import sys
from components.specs import Input
from components.train import trained

recipe, corpus, digest, store = sys.argv[1:]
print(trained(recipe, Input(address=corpus, sha256=digest), store).outputs["version"], flush=True)
"""


class Nodes:
    """A Ray cluster of several nodes of one CPU each, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(RAY_NODES), str(folder), str(NODES)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address, *raylets = self.process.stdout.readline().split()
        self.raylets = [psutil.Process(int(pid)) for pid in raylets]
        self.ids = dict(zip(self.raylets, self.process.stdout.readline().split(), strict=True))

    def workers(self) -> list[psutil.Process]:
        """Those that train."""
        return [each for raylet in self.raylets for each in raylet.children() if "RayTrainWorker" in _title(each)]

    def lose_one(self) -> psutil.Process:
        """A node that trains, but the head; it counts no more."""
        training = [raylet for raylet in self.raylets[1:] if any("RayTrain" in _title(c) for c in raylet.children())]
        raylet = (training or self.raylets[1:])[-1]
        self.raylets.remove(raylet)
        return raylet

    def drain_one(self) -> None:
        """Tell Ray that such a node is to be taken away in a minute, as a provider of machines does."""
        reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--node-id"]
        command = ["-m", "ray.scripts.scripts", "drain-node", "--address", self.address, *reason]
        words = [self.ids[self.lose_one()], "--deadline-remaining-seconds", "60"]
        subprocess.run([sys.executable, *command, *words], check=True, timeout=120)

    def kill_one(self) -> None:
        """SIGKILL, as by a power cut, of everything on such a node."""
        raylet = self.lose_one()
        for process in [raylet, *raylet.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self) -> None:
        """All of them."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.communicate(timeout=60)
        for member in psutil.wait_procs(family, timeout=10)[1]:
            member.kill()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


class Training:
    """One recipe on those nodes, as `unmuffle train` runs it, in a home of its own."""

    def __init__(self, nodes: Nodes, folder: Path, recipe: Recipe, corpus: Built) -> None:
        self.nodes, self.folder, self.corpus = nodes, folder, corpus
        folder.mkdir()
        (folder / "recipe.json").write_text(recipe.model_dump_json())

    def start(self, workers: int = 2, max_steps: int | None = None) -> subprocess.Popen:
        """A driver, with this many workers."""
        profile = {"workers": workers, "cpus_per_worker": 1, "budget": {"max_steps": max_steps}}
        variables = {
            "RAY_ADDRESS": self.nodes.address,
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
            "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5",
            "UNMUFFLE_HOME": str(self.folder / "home"),
            "UNMUFFLE_COMPUTE": json.dumps({"workers": 2, "training": profile}),
            "OMP_NUM_THREADS": "1",
        }
        words = [(self.folder / "recipe.json").as_uri(), self.corpus.address, self.corpus.digest, self.store]
        with (self.folder / "stderr").open("a") as said:
            command = [sys.executable, "-c", DRIVER, *words]
            return subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=said, text=True)

    @property
    def store(self) -> str:
        """Its store."""
        return (self.folder / "store").as_uri()

    def logged(self) -> int:
        """The last step that was logged."""
        found = list(self.folder.glob("store/runs/*/logged.json"))
        return json.loads(found[0].read_text())["step"] if found else 0

    def accounts(self) -> list[Account]:
        """What its workers have used."""
        return [each for run in self.folder.glob("store/runs/*") for each in accounts(run.as_uri())]

    def version(self, driver: subprocess.Popen) -> tuple[str, str]:
        """Address and digest of what a driver leaves that is waited for."""
        said = driver.communicate(timeout=PATIENCE_S)[0].splitlines()
        assert driver.returncode == 0, (self.folder / "stderr").read_text()[-3000:]
        address, _, digest = said[-1].partition("#")
        return address, digest

    def steps_in_mlflow(self) -> list[list[int]]:
        """Of each run that has a loss, the steps in the order in which they were logged."""
        from mlflow import MlflowClient

        (database,) = self.folder.glob("home/**/*.db")
        client = MlflowClient(f"sqlite:///{database}")
        runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
        histories = [client.get_metric_history(run.info.run_id, "train/loss") for run in runs]
        return [[point.step for point in history] for history in histories if history]

    def rows_of(self, version: str) -> list[list[int]]:
        """What the version learnt from, epoch by epoch."""
        lineage = Lineage.from_bytes(read(f"{version}/{LINEAGE}"))
        return [each.rows.tolist() for each in lineage.epochs()]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """The cluster."""
    folder = Path(tempfile.mkdtemp(prefix="um-", dir="/tmp"))  # short: names of unix sockets end at 107 characters
    nodes = Nodes(folder)
    yield nodes
    nodes.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def corpus(built_here: Callable[..., Built], tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Thirty mixtures to learn from, rendered in this process."""
    folder = str(tmp_path_factory.mktemp("corpus"))
    return built_here(folder, "storm", train_hours=0.03, valid_rows=4, test_rows=4)


@pytest.fixture(scope="module")
def recipe(small_recipe: Callable[..., Recipe]) -> Recipe:
    """Steps of some tens of milliseconds, a checkpoint every five."""
    return small_recipe(
        model=GruMask.Config(width=96, layers=1),
        steps=480,
        batch_size=6,
        segment_s=2.0,
        log_every=5,
        validate_every=60,
        checkpoint_every=5,
        deterministic=True,
    )


@pytest.fixture(scope="module")
def undisturbed(nodes: Nodes, corpus: Built, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A run that nothing happens to; started before the storm, on the same nodes."""
    training = Training(nodes, tmp_path_factory.mktemp("calm") / "run", recipe, corpus)
    training.result = training.version(training.start())
    return training


@pytest.mark.timeout(1800)
def test_a_storm_of_kills_leaves_no_trace(
    nodes: Nodes, corpus: Built, recipe: Recipe, undisturbed: Training, tmp_path: Path
) -> None:
    """Five workers, three drivers and two nodes die at steps of chance: one run in MLflow whose steps increase, each
    mixture once an epoch, and the weights of the undisturbed run, bit for bit."""
    training, chance = Training(nodes, tmp_path / "run", recipe, corpus), random.Random(1)
    driver, excused = training.start(), False
    for victim in KILLS:
        began, before = time.monotonic(), training.logged()
        while training.logged() <= before:
            if driver.poll() and excused:  # all nodes have one address here: the driver may have stood on the lost one
                driver, excused = training.start(), False
            assert driver.poll() is None, "the run ended before the storm did"
            assert time.monotonic() < began + PATIENCE_S, (training.folder / "stderr").read_text()[-3000:]
            time.sleep(0.05)
        time.sleep(chance.uniform(0.0, 0.5))
        if victim == "worker":
            while not (workers := nodes.workers()):
                time.sleep(0.05)
            chance.choice(workers).send_signal(chance.choice((TELL, END)))
        elif victim == "node":
            nodes.kill_one()
            excused = True
        elif victim == "driver":
            driver.kill()
            driver.communicate(timeout=60)
            driver, excused = training.start(), False
    version, digest = training.version(driver)
    assert digest == undisturbed.result[1]
    (steps,) = training.steps_in_mlflow()
    assert steps == list(range(5, recipe.steps + 1, 5))
    rows = open_corpora(corpus.address)["train"].rows
    epochs = training.rows_of(version)
    assert sum(map(len, epochs)) == recipe.steps * recipe.batch_size
    assert all(sorted(epoch) == list(range(rows)) for epoch in epochs[:-1])
    assert epochs == undisturbed.rows_of(undisturbed.result[0])


@pytest.mark.timeout(1500)
def test_a_resized_run_meets_each_mixture_once_an_epoch(
    nodes: Nodes, corpus: Built, recipe: Recipe, tmp_path: Path
) -> None:
    """Two workers, then one, then two, each stopped between two steps: nothing twice and nothing left out."""
    short = recipe.model_copy(update={"steps": 60, "validate_every": 60, "warmup_steps": 3})
    training = Training(nodes, tmp_path / "run", short, corpus)
    for workers, max_steps, logged in ((2, 17, 15), (1, 38, 35)):
        driver = training.start(workers, max_steps)
        driver.communicate(timeout=PATIENCE_S)
        assert driver.returncode != 0 and training.logged() == logged
    version, _ = training.version(training.start(2))
    epochs, rows = training.rows_of(version), open_corpora(corpus.address)["train"].rows
    assert sum(map(len, epochs)) == 360
    assert all(sorted(epoch) == list(range(rows)) for epoch in epochs[:-1]) and len(set(epochs[-1])) == len(epochs[-1])
    (steps,) = training.steps_in_mlflow()
    assert steps == list(range(5, 61, 5))


@pytest.mark.timeout(1500)
def test_a_node_that_is_drained_costs_no_step(nodes: Nodes, corpus: Built, recipe: Recipe, tmp_path: Path) -> None:
    """Ray's notice reaches all workers: a checkpoint of the very step, and two others go on from there elsewhere."""
    training = Training(nodes, tmp_path / "run", recipe.model_copy(update={"checkpoint_every": recipe.steps}), corpus)
    driver = training.start()
    while not (ledger := training.accounts()) or not all(account.marks for account in ledger):
        assert driver.poll() is None
        time.sleep(0.2)
    nodes.drain_one()
    training.version(driver)
    ledger = training.accounts()
    resumed = ledger[-1].marks[0][0]
    assert len(ledger) == 4 and 0 < resumed < recipe.steps
    assert [account.marks[-1][0] for account in ledger] == [resumed, resumed, recipe.steps, recipe.steps]
