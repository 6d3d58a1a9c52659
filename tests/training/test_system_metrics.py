"""What nodes are busy with: every living one, at rising steps."""

import sys
import time
from types import ModuleType

import psutil
import pytest

from simulation.cluster import ClusterInfo
from training import system_metrics
from training.system_metrics import look, looks, named, node_names, nodes_watched

Logged = list[tuple[dict[str, float], int]]


def test_a_look_holds_what_mlflow_s_own_monitor_would() -> None:
    """Its names and units: percent and megabytes."""
    seen = look(0.05)
    assert seen["system_memory_usage_megabytes"] == pytest.approx(psutil.virtual_memory().used / 1e6, rel=0.2)
    assert {name for name in seen if not name.startswith("gpu_")} == {
        "cpu_utilization_percentage",
        "system_memory_usage_megabytes",
        "system_memory_usage_percentage",
        "disk_usage_percentage",
        "disk_usage_megabytes",
        "disk_available_megabytes",
        "network_receive_megabytes",
        "network_transmit_megabytes",
    }
    assert all(0 <= seen[name] <= 100 for name in seen if name.endswith("percentage"))


def test_a_gpu_that_tells_less_costs_the_other_figures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice of a GPU has no utilisation to tell; one that shares the machine's memory has no memory of its own."""

    class Unsupported(Exception):
        """What NVML raises."""

    def refused(handle: int) -> None:
        raise Unsupported

    nvml = ModuleType("pynvml")
    nvml.__dict__.update(
        NVMLError=Unsupported,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetMemoryInfo=refused,
        nvmlDeviceGetUtilizationRates=refused,
        nvmlDeviceGetPowerUsage=lambda handle: 250_000,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    seen = look(0.01)
    assert seen["gpu_0_power_usage_watts"] == 250 and "cpu_utilization_percentage" in seen


def test_nodes_of_a_cluster_are_watched_while_the_block_lasts(
    ray_cluster: ClusterInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each under its own name, at steps that are seconds since the run first began."""
    monkeypatch.setattr(system_metrics, "LOOK_S", 0.05)
    logged: Logged = []
    with nodes_watched(lambda values, step: logged.append((values, step)), began=time.time() - 100, every_s=0.2):
        deadline = time.monotonic() + 30
        while len(logged) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    (node,) = node_names()
    assert len(logged) >= 2
    assert all(f"system/{node}/cpu_utilization_percentage" in values for values, _ in logged)
    assert all(100 <= step < 140 for _, step in logged)
    before = len(logged)
    time.sleep(0.5)
    assert len(logged) == before


def test_a_node_that_does_not_answer_is_left_out(ray_cluster: ClusterInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """It died between the list of nodes and the question; the others are still heard."""
    monkeypatch.setattr(system_metrics, "LOOK_S", 0.05)
    (node,) = node_names().items()
    monkeypatch.setattr(system_metrics, "node_names", lambda: {"dead": "0" * 56, node[0]: node[1]})
    assert set(looks(20.0, {})) == {node[0]}


def test_nodes_on_one_host_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a cluster is tried out on one machine; a dead node has none."""
    nodes = [
        {"NodeManagerHostname": host, "NodeID": each * 56, "Alive": alive}
        for host, each, alive in (("one", "a", True), ("one", "b", True), ("two", "c", True), ("three", "d", False))
    ]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert set(node_names()) == {"one-aaaaaa", "one-bbbbbb", "two"}


def test_network_traffic_counts_from_the_first_look() -> None:
    """Not from when the machine was booted."""
    first: dict[str, tuple[float, float]] = {}
    looked = {"network_receive_megabytes": 500.0, "network_transmit_megabytes": 70.0, "cpu_utilization_percentage": 3.0}
    assert named("n", looked, first)["system/n/network_receive_megabytes"] == 0
    later = named("n", looked | {"network_receive_megabytes": 512.0}, first)
    assert later["system/n/network_receive_megabytes"] == 12
    assert later["system/n/cpu_utilization_percentage"] == 3


def test_what_goes_wrong_ends_the_watching_and_nothing_else(
    ray_cluster: ClusterInfo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run inside the block goes on."""
    monkeypatch.setattr(system_metrics, "node_names", lambda: 1 / 0)
    with nodes_watched(lambda values, step: None):
        time.sleep(0.1)
    assert "system metrics end here" in caplog.text
