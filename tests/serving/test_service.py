import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from serving.deployer import LocalServe, record_path, running
from serving.lease import promotion_lock
from serving.service import serve
from simulation.errors import BadSetting, NoChampion
from simulation.home import Home
from training.registry import CHAMPION, Version
from training.tracking import Tracking

USE = "denoise-16k"
SERVE = """
import sys
from serving.service import serve
from simulation.home import Home
serve(Home.current(), int(sys.argv[1]))
"""


def registered(home: Home, versions: tuple[Version, ...]) -> tuple[Tracking, list[Version]]:
    """The versions in the registry of a home; the first one is champion."""
    tracking = Tracking(home.tracking_uri)
    run = tracking.run("a run", "a run")
    known = [
        tracking.register(USE, each.network, each.address, each.weights_sha256, run, {"stage_key": each.version})
        for each in versions
    ]
    tracking.set_alias(USE, CHAMPION, known[0].version)
    return tracking, known


@contextmanager
def serving_process(port: int, log: Path) -> Iterator[subprocess.Popen]:
    """`serve` of the current home in a process of its own, as the command runs it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(port)], env=environment, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)


def wait_for(what: Callable[[], bool], log: Path, limit_s: float = 90.0) -> None:
    """Until it is so; fails with the log of the service."""
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)


def answering(port: int) -> str:
    """The version that answers, or nothing."""
    try:
        return str(httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False, timeout=10).json()["version"])
    except (httpx.HTTPError, ValueError, KeyError):
        return ""


def test_the_service_follows_the_alias_and_ends_cleanly(
    home: Home, port: int, versions: tuple[Version, Version], tmp_path: Path
) -> None:
    """It needs a champion, answers with it, moves when the alias does but not during a promotion, leaves nothing."""
    with pytest.raises(NoChampion, match="unmuffle run"):
        serve(home, port)
    assert not record_path(home).exists() and not home.ray.exists()
    tracking, (first, second) = registered(home, versions)
    log = tmp_path / "log"
    with serving_process(port, log) as process:
        wait_for(lambda: running(home) is not None, log)
        assert answering(port) == f"{USE}/{first.version}"
        assert json.loads(record_path(home).read_text())["address"] == f"http://127.0.0.1:{port}"
        assert LocalServe(home).serving().weights_sha256 == first.weights_sha256
        children = psutil.Process(process.pid).children(recursive=True)

        with pytest.raises(BadSetting, match=f"process {process.pid}"):
            serve(home, port)
        with promotion_lock(home.store, USE):
            tracking.set_alias(USE, CHAMPION, second.version)
            time.sleep(5)
            assert answering(port) == f"{USE}/{first.version}"
        wait_for(lambda: answering(port) == f"{USE}/{second.version}", log)
        wait_for(lambda: running(home).version == f"{USE}/{second.version}", log)

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, log.read_text()[-3000:]
    assert not record_path(home).exists() and not answering(port)
    assert not (home.ray / "cluster.json").exists()
    assert not psutil.wait_procs(children, timeout=20)[1]


def test_a_taken_port_is_refused_before_anything_is_started(home: Home) -> None:
    """The message names the port and the option."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(BadSetting, match=rf"Port {other.getsockname()[1]} .*--port"):
            serve(home, other.getsockname()[1])
    assert not home.path.exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"address": "x", "pid": 1, "started": 0, "version": "v", "limits": {}}']
)
def test_what_a_killed_service_left_behind_is_no_service(home: Home, content: bytes) -> None:
    """A damaged record, or one of a process that is another now."""
    home.path.mkdir()
    record_path(home).write_bytes(content)
    assert running(home) is None and LocalServe(home).serving() is None
