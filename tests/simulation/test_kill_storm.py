"""Builds on several Ray nodes, undisturbed and in a storm of kills, before a server that spoils a twentieth of its
answers: the same corpus, little repeated work, and nothing half-done for readers to see."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from simulation import storage
from simulation.build import Built
from simulation.corpus import Corpus, verify
from simulation.errors import CorpusIncomplete, NotThere
from simulation.manifest import ShardRecord
from simulation.orphans import orphans
from simulation.scenario import Scenario, Size
from simulation.shards import look

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
NODES = 3
WORKER_KILLS = 20
FAULTS = 0.05
PATIENCE_S = 600.0
"""How long a storm may take before the test says that nothing moves any more."""


# ---- the players -----------------------------------------------------------------------------------------------------

DRIVER = """
import os, sys
import ray
from simulation import build, cluster
from simulation.scenario import Scenario

scenario, store, speech, noise, rirs, workers, log = sys.argv[1:]

class Counted(build._Renderer):
    def __call__(self, batch):
        with open(log, "a") as file:
            node = ray.get_runtime_context().get_node_id()
            file.write(f"{os.getpid()} {node} {batch['split'][0]} {batch['shard'][0]}\\n")
        return super().__call__(batch)

asked, compare = [], cluster._compare
cluster._compare = lambda here, there: asked.append(compare(here, there))
build._Renderer = Counted
with cluster.cluster():
    built = build.build(
        Scenario.parse(scenario, "test"), store, speech=speech, noise=noise, rirs=rirs, workers=int(workers)
    )
print(built.digest, built.rendered, built.reused, len(asked))
"""


class Nodes:
    """A Ray cluster of several nodes of one CPU each, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "ray_nodes.py"), str(folder), str(NODES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address, *raylets = self.process.stdout.readline().split()
        self.raylets = [psutil.Process(int(pid)) for pid in raylets]

    def kill_one(self) -> None:
        """SIGKILL, as by a power cut, of everything that runs on the last node."""
        raylet = self.raylets.pop()
        for process in [raylet, *raylet.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self) -> None:
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.communicate(timeout=60)
        for member in psutil.wait_procs(family, timeout=10)[1]:
            member.kill()


class Driver:
    """A process that builds on those nodes, and the log that its workers write when they begin a shard."""

    def __init__(self, nodes: Nodes, log: Path, scenario: Scenario, store: str, sources: list[str]) -> None:
        words = [scenario.model_dump_json(), store, *sources, str(NODES), str(log)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, *words],
            env=os.environ | {"RAY_ADDRESS": nodes.address},
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> tuple[str, int, int, int]:
        """Digest, shards rendered, shards reused, nodes that were asked which code they run."""
        *_, last = self.process.communicate(timeout=PATIENCE_S)[0].splitlines()  # Ray tells of deaths before
        assert self.process.returncode == 0
        digest, *counts = last.split()
        rendered, reused, asked = map(int, counts)
        return digest, rendered, reused, asked

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


class Renders:
    """What the workers' log says."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def begun(self) -> list[tuple[int, str, str]]:
        """Process, node and shard of every render that was begun."""
        lines = self.log.read_text().split("\n")[:-1] if self.log.exists() else []
        return [(int(pid), node, f"{split}/{shard}") for pid, node, split, shard in map(str.split, lines)]

    def at_work(self) -> list[psutil.Process]:
        """Living workers that have begun a shard."""
        return [psutil.Process(pid) for pid in {pid for pid, _, _ in self.begun()} if psutil.pid_exists(pid)]


@pytest.fixture
def proxy(faulty_proxy: Callable[[float], str]) -> str:
    """Address of what stands between us and the server."""
    return faulty_proxy(FAULTS)


@pytest.fixture
def nodes(proxy: str) -> Iterator[Nodes]:
    """The cluster; its workers reach the store through the proxy."""
    folder = Path(tempfile.mkdtemp(prefix="um-", dir="/tmp"))  # short: names of unix sockets end at 107 characters
    nodes = Nodes(folder)
    yield nodes
    nodes.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def sources(material: Any, s3_store: str) -> list[str]:
    """Speech, noise and RIRs in the bucket, so that reading them fails as often as anything else."""
    for name, folder in vars(material).items():
        storage.upload(Path(folder), f"{s3_store}/{name}")
    return [f"{s3_store}/{name}" for name in vars(material)]


# ---- the tests -------------------------------------------------------------------------------------------------------


def test_workers_of_several_nodes_build_one_corpus(
    tmp_path: Path,
    nodes: Nodes,
    s3_store: str,
    sources: list[str],
    tiny_scenario: Callable[..., Scenario],
    build_tiny: Callable[..., Built],
    without_ray: None,
) -> None:
    """Every node renders a part of it, each shard once; the digest is that of one process."""
    scenario = tiny_scenario(size=Size(train_hours=30.0 / 3600, valid_rows=4, test_rows=4))
    renders = Renders(tmp_path / "log")
    digest, rendered, reused, asked = Driver(nodes, renders.log, scenario, s3_store, sources).answer()
    assert asked == NODES
    begun = renders.begun()
    assert len({node for _, node, _ in begun}) == NODES
    assert len(begun) == len({shard for _, _, shard in begun}) == rendered and reused == 0
    assert digest == build_tiny(str(tmp_path / "alone"), scenario).digest


def test_a_storm_of_kills_leaves_no_trace(
    tmp_path: Path,
    nodes: Nodes,
    proxy: str,
    s3_endpoint: str,
    s3_store: str,
    sources: list[str],
    tiny_scenario: Callable[..., Scenario],
    build_tiny: Callable[..., Built],
    without_ray: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twenty workers, a driver and a node die while a twentieth of all answers fails: one digest, and little again."""
    scenario = tiny_scenario(rows_per_shard=64, size=Size(train_hours=0.8, valid_rows=64, test_rows=64))
    renders, chance = Renders(tmp_path / "log"), random.Random(1)
    driver = Driver(nodes, renders.log, scenario, s3_store, sources)
    killed: list[int] = []
    at_the_drivers_death = 0
    while len(killed) < WORKER_KILLS:
        killed += _kill_a_worker(renders, chance, driver)
        if len(killed) == 7:
            driver.kill()
            at_the_drivers_death = len(renders.begun())
            root = _root(s3_store)
            _no_reader_sees_a_half(root)
            driver = Driver(nodes, renders.log, scenario, s3_store, sources)
        if len(killed) == 14:
            nodes.kill_one()
    _no_reader_sees_a_half(root)
    digest, rendered, reused, _ = driver.answer()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)  # from here on no answer is spoilt
    alone = build_tiny(str(tmp_path / "alone"), scenario)
    begun = renders.begun()
    shards = {shard for _, _, shard in begun}
    assert digest == alone.digest
    assert verify(root) == []
    assert len(shards) == rendered + reused and reused > 0 and at_the_drivers_death > 0
    again = len(begun) - len(shards)
    assert 0 < again <= WORKER_KILLS + NODES + 1, (
        again
    )  # one a worker killed, one a worker of the driver, one of the node
    _faults_came(proxy)
    _orphans_are_nobodys(root)
    _damage_is_named(root)


def _kill_a_worker(renders: Renders, chance: random.Random, driver: Driver) -> list[int]:
    """When two more shards were begun, SIGKILL at a moment of chance for a worker that is at one; its process id."""
    deadline, before = time.monotonic() + PATIENCE_S, len(renders.begun())
    while time.monotonic() < deadline:
        assert driver.process.poll() is None, "the build ended before the storm did"
        time.sleep(chance.uniform(0.05, 0.5))
        if len(renders.begun()) >= before + 2 and (at_work := renders.at_work()):
            with suppress(psutil.NoSuchProcess):
                (victim := chance.choice(at_work)).kill()
                victim.wait(30)
                return [victim.pid]
    raise AssertionError("no worker is at work")


def _root(store: str) -> str:
    """The address of the one corpus in a store."""
    (name,) = {stored.address.split("/corpora/")[1].split("/")[0] for stored in storage.listing(f"{store}/corpora")}
    return f"{store}/corpora/{name}"


def _no_reader_sees_a_half(root: str) -> None:
    """Before the end there is no corpus; and what a commit object names is there, whole."""
    with pytest.raises((CorpusIncomplete, NotThere)):
        Corpus.open(f"{root}/train")
    for commit in look(f"{root}/train").commits.values():
        record = ShardRecord.parse(storage.read(commit), commit)
        assert hashlib.sha256(storage.read(f"{root}/train/{record.tar}")).hexdigest() == record.sha256


def _faults_came(proxy: str) -> None:
    """Of every kind, and as many as were announced."""
    counts = Counter(json.loads(urllib.request.urlopen(f"{proxy}/-/counts").read()))
    spoilt = sum(count for fate, count in counts.items() if fate != "answered")
    assert len(counts) == 5 and 0.03 < spoilt / counts.total() < 0.07, counts


def _orphans_are_nobodys(root: str) -> None:
    """Whatever was left behind can go, at any age, and every byte of the corpus is still there."""
    for orphan in orphans(root, 0.0, time.time() + 1):
        assert orphan.remove()
    assert verify(root) == []


def _damage_is_named(root: str) -> None:
    """One byte flipped in one tar, another tar deleted, a third cut short: verify names these three and no other."""
    tars = [stored.address for stored in storage.listing(f"{root}/train") if stored.address.endswith(".tar")]
    flipped, deleted, cut = tars[3], tars[5], tars[8]
    data = bytearray(storage.read(flipped))
    data[len(data) // 2] ^= 1
    storage.replace(flipped, bytes(data))
    storage.delete(deleted)
    storage.replace(cut, storage.read(cut)[:-1])
    problems = verify(root)
    assert [problem.split(" is ")[0] for problem in problems] == [flipped, deleted, cut]
    assert ["sha256" in problems[0], "missing" in problems[1], "bytes instead of" in problems[2]] == [True] * 3
