"""One Ray cluster a home. What starts or joins one here does so in a process of its own, as people's commands do."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from simulation import cluster as cluster_module
from simulation.cluster import PACKAGES, ClusterInfo, Code, Record, cluster, fraction
from simulation.errors import BadSetting, ClusterProblem
from simulation.home import Home

USE = """
import dataclasses, json, os, sys
import psutil, ray
from simulation.cluster import cluster
from simulation.errors import UnmuffleError

def environment():
    names = ["RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "UNMUFFLE_HOME"]
    return {name: os.environ.get(name) for name in names}

def say(**facts):
    print(json.dumps(facts), flush=True)

before = environment()
try:
    with cluster() as info:
        worker = ray.get(ray.remote(lambda: dict(os.environ)).remote())
        pids = [process.pid for process in psutil.Process().children(recursive=True)]
        say(**dataclasses.asdict(info), inside=environment(), worker=worker, pids=pids)
        sys.stdin.readline()
except UnmuffleError as error:
    say(error=type(error).__name__, message=str(error))
say(restored=environment() == before)
"""
"""Uses a cluster until it is told to go on (a line on its input), saying what it sees."""


class Command:
    """A process that uses a cluster, as a command in a terminal would."""

    def __init__(self, home: Path, **variables: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", USE],
            env=kept | {"UNMUFFLE_HOME": str(home)} | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> dict[str, Any]:
        """What it says next."""
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def end(self) -> dict[str, Any]:
        """Let it go on to its end; what it says last."""
        out, _ = self.process.communicate("go on\n", timeout=60)
        assert self.process.returncode == 0
        return json.loads(out.splitlines()[-1])


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts commands in the test's home; whatever still runs at the end of the test is ended."""
    started: list[Command] = []

    def start(home: Path | None = None, **variables: str) -> Command:
        started.append(Command(home or tmp_path / "home", **variables))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(30)


def session_folder(home: Path) -> Path:
    """The temporary folder of the home's cluster."""
    return Path(json.loads((home / "ray" / "cluster.json").read_text())["folder"])


def wait_until_gone(pids: list[int], folder: Path, seconds: float) -> None:
    """Fail if one of the processes, or the folder, is still there after so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        left = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
        if not left and not folder.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"still there after {seconds} s: processes {left}, folder {folder.exists()}")


def test_a_home_has_one_cluster_which_its_starter_ends(tmp_path: Path, command: Callable[..., Command]) -> None:
    """Started, joined by cluster.json and by the exported environment, left alone by joiners, gone with its starter."""
    home = tmp_path / "home"
    starter = command()
    first = starter.hear()
    assert first["started"] and first["cpus"] >= 2
    token = home / "ray" / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600 and len(token.read_text()) == 64
    assert first["inside"] == {
        "RAY_ADDRESS": first["address"],
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "UNMUFFLE_HOME": str(home),
    }
    assert first["worker"]["RAY_USAGE_STATS_ENABLED"] == "0"
    assert first["worker"]["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "0.1"
    folder = session_folder(home)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    by_description = command(AWS_ENDPOINT_URL="http://other", MLFLOW_TRACKING_URI="http://mlflow")
    said = by_description.hear()
    assert said["address"] == first["address"] and not said["started"]
    assert said["worker"]["AWS_ENDPOINT_URL"] == "http://other"
    assert said["worker"]["MLFLOW_TRACKING_URI"] == "http://mlflow"
    by_address = command(RAY_ADDRESS=first["address"])
    said = by_address.hear()
    assert said["address"] == first["address"] and not said["started"]
    by_environment = command(tmp_path / "another home", **first["inside"])
    said = by_environment.hear()
    assert said["address"] == first["address"] and not said["started"]
    for joiner in (by_environment, by_address, by_description):
        assert joiner.end() == {"restored": True}

    assert starter.end() == {"restored": True}
    wait_until_gone(first["pids"], folder, seconds=1)
    assert sorted(path.name for path in (home / "ray").iterdir()) == ["joined", "lock", "token"]


def test_of_two_commands_at_once_one_starts_and_one_joins(command: Callable[..., Command]) -> None:
    """And a home that is used again keeps its token."""
    both = [command(), command()]
    said = [one.hear() for one in both]
    assert sorted(one["started"] for one in said) == [False, True]
    assert said[0]["address"] == said[1]["address"]
    for one in sorted(zip(said, both, strict=True), key=lambda pair: pair[0]["started"]):
        one[1].end()


def test_a_starter_waits_for_those_who_joined(command: Callable[..., Command]) -> None:
    """Of two commands at once, the one that ends first does not pull the cluster from under the other."""
    starter = command()
    starter.hear()
    joiner = command()
    assert not joiner.hear()["started"]
    assert starter.process.stdin
    starter.process.stdin.write("go on\n")
    starter.process.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        starter.process.wait(3)
    assert command().hear()["started"] is False
    assert joiner.end() == {"restored": True}


def test_a_terminated_starter_takes_its_cluster_along(tmp_path: Path, command: Callable[..., Command]) -> None:
    """SIGTERM, as schedulers send it: processes and folder are gone when the command is."""
    starter = command()
    pids, folder = starter.hear()["pids"], session_folder(tmp_path / "home")
    starter.process.send_signal(signal.SIGTERM)
    assert starter.process.wait(30) != 0
    wait_until_gone(pids, folder, seconds=1)
    assert not (tmp_path / "home" / "ray" / "cluster.json").exists()


def test_a_killed_starter_takes_its_cluster_along(tmp_path: Path, command: Callable[..., Command]) -> None:
    """SIGKILL leaves it no time: its processes, folder and description go without it."""
    starter = command()
    pids, folder = starter.hear()["pids"], session_folder(tmp_path / "home")
    starter.process.kill()
    wait_until_gone(pids, folder, seconds=20)
    assert not (tmp_path / "home" / "ray" / "cluster.json").exists()


CHATTER = """
import os, ray
from simulation.cluster import cluster

@ray.remote(max_restarts=-1)
class Actor:
    def __init__(self, value):
        print("a worker speaks", flush=True)
    def ready(self):
        return True

with cluster():
    actor = Actor.remote(ray.put(1))
    assert ray.get(actor.ready.remote())
    os.write(2, b"ours")
"""
"""Ray's control plane calls such an actor an error, and forwards what it prints."""


def test_nothing_that_ray_says_reaches_the_terminal(tmp_path: Path) -> None:
    """People read lines of progress, not advice to Ray's developers; what is written on purpose gets through."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", CHATTER]
    variables = kept | {"UNMUFFLE_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("", "ours")


@pytest.mark.parametrize("alive", [False, True])
def test_the_description_of_a_lost_cluster_is_removed(home: Home, tmp_path: Path, alive: bool) -> None:
    """Whether its process is gone, its number perhaps used again, or lives but nothing answers; its folder goes too."""
    folder = tmp_path / "unmuffle-lost"
    (folder / "session").mkdir(parents=True)
    home.ray.mkdir(parents=True)
    me = psutil.Process()
    started = me.create_time() if alive else me.create_time() - 1000
    lost = Record(address="127.0.0.1:9", pid=me.pid, started=started, home=str(home.path), folder=str(folder))
    (home.ray / "cluster.json").write_bytes(lost.canonical())
    assert cluster_module._living(home) is None
    assert not (home.ray / "cluster.json").exists() and not folder.exists()


def test_a_description_that_cannot_be_read_is_none(home: Home) -> None:
    """Half a file, or one of another version, must not keep people from working; no folder it names is touched."""
    home.ray.mkdir(parents=True)
    (home.ray / "cluster.json").write_text('{"address": "127')
    assert cluster_module._living(home) is None


def test_only_folders_of_ours_are_removed(home: Home, tmp_path: Path) -> None:
    """A description that was edited by hand cannot make us delete somebody's folder."""
    home.ray.mkdir(parents=True)
    lost = Record(address="127.0.0.1:9", pid=1, started=0.0, home=str(home.path), folder=str(tmp_path))
    (home.ray / "cluster.json").write_bytes(lost.canonical())
    assert cluster_module._living(home) is None
    assert tmp_path.exists()


def test_an_address_that_does_not_answer_is_said(command: Callable[..., Command]) -> None:
    """RAY_ADDRESS goes first; where nothing is, no other cluster is started in silence."""
    said = command(RAY_ADDRESS="127.0.0.1:9").hear()
    assert said["error"] == "ClusterProblem"
    assert "No Ray cluster answers at 127.0.0.1:9. Unset RAY_ADDRESS" in said["message"]


def test_a_home_that_cannot_be_written_is_said(command: Callable[..., Command]) -> None:
    """With the variable that names it."""
    said = command(Path("/proc/unmuffle")).hear()
    assert said["error"] == "ClusterProblem" and "UNMUFFLE_HOME" in said["message"]


def test_a_process_that_has_a_cluster_uses_it(ray_cluster: ClusterInfo, home: Home) -> None:
    """Stages call each other in one process; the inner one neither starts nor stops anything."""
    with cluster() as info:
        assert info == ClusterInfo(ray_cluster.address, ray_cluster.cpus, started=False)
    assert ray.is_initialized()
    assert not home.path.exists()


@pytest.mark.parametrize(("workers", "share"), [(1, 1.0), (2, 0.5), (3, 0.3333), (4, 0.25)])
def test_actors_leave_one_cpu_for_reads(ray_cluster: ClusterInfo, workers: int, share: float) -> None:
    """On two CPUs all actors together claim one, in Ray's ten-thousandths."""
    assert ray_cluster.cpus == 2
    assert fraction(workers) == share


def test_actors_leave_half_of_a_single_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster with one CPU still works."""
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 1.0})
    assert fraction(2) == 0.25


def test_many_cpus_give_each_actor_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What renders one row uses one CPU."""
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 64.0})
    assert fraction(4) == 1.0


def test_no_workers_are_a_bad_setting() -> None:
    """Zero actors would do nothing for ever."""
    with pytest.raises(BadSetting, match="Found 0 workers"):
        fraction(0)


# ---- the code that workers run --------------------------------------------------------------------------------------


@pytest.fixture
def here() -> Code:
    """What this process imports."""
    return Code(*cluster_module._code_reader()(PACKAGES))


def changed(code: Code, **fields: Any) -> Code:
    """The same with some packages elsewhere or other."""
    folders = code.folders | fields.get("folders", {})
    return Code(fields.get("version", code.version), folders, code.digests | fields.get("digests", {}))


def test_workers_with_our_code_are_accepted(here: Code) -> None:
    """From the same folder, or with the same content from another one."""
    cluster_module._compare(here, here)
    cluster_module._compare(here, changed(here, folders=dict.fromkeys(PACKAGES, "/image/unmuffle")))


def test_workers_of_another_version_are_refused(here: Code) -> None:
    """Both versions are named."""
    with pytest.raises(ClusterProblem, match=rf"have unmuffle 9\.9, this process {here.version}"):
        cluster_module._compare(here, changed(here, version="9.9"))


@pytest.mark.parametrize("name", PACKAGES)
def test_workers_that_import_another_package_of_our_name_are_refused(here: Code, name: str) -> None:
    """Names like `training` are common; the folder it came from is said."""
    other = changed(here, folders={name: f"/home/someone/{name}"}, digests={name: "0" * 64})
    with pytest.raises(ClusterProblem, match=f"{name!r} comes from /home/someone/{name} and differs"):
        cluster_module._compare(here, other)


def test_a_driver_that_imports_another_package_of_our_name_is_refused(here: Code) -> None:
    """As in a folder with a `training` of its own."""
    other = changed(here, folders={"training": "/home/someone/training"})
    with pytest.raises(ClusterProblem, match="'training' comes from /home/someone/training, expected"):
        cluster_module._compare(other, other)


def test_a_worker_is_asked(ray_cluster: ClusterInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not this process: what a worker finds is what is compared."""
    asked = []
    monkeypatch.setattr(cluster_module, "_compare", lambda here, there: asked.append(there))
    look = cluster_module._code_reader()

    def elsewhere(packages: tuple[str, ...]) -> Any:
        return (str(os.getpid()), *look(packages)[1:])

    monkeypatch.setattr(cluster_module, "_code_reader", lambda: elsewhere)
    cluster_module._verify_workers()
    assert asked[0].version != str(os.getpid())


def test_the_look_runs_where_our_packages_are_missing() -> None:
    """It is sent whole, so that a worker without them can say so instead of failing to unpickle."""
    sent = ray.cloudpickle.dumps(cluster_module._code_reader())
    script = "import pickle, sys; print(pickle.loads(bytes.fromhex(sys.argv[1]))(('simulation',)))"
    packages = Path(ray.__file__).parents[1]
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(packages)!r}); {script}", sent.hex()],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert "nowhere" in found.stdout, found.stderr
