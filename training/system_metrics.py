"""What the nodes of a training run are busy with, under the names that MLflow's own monitor gives them.

MLflow's monitor sees the node it runs on and stops for good when its server is away. Here an actor on each living node
of the Ray cluster looks every few seconds (a task would start a process for each look), and what it saw goes where the
run's other numbers go, the journal included. Nodes come and go; one that dies is missing from then on.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

log = logging.getLogger(__name__)

EVERY_S = 10.0
LOOK_S = 0.5
"""Over how long a node's cores are watched."""
MEGABYTE = 1e6

Log = Callable[[dict[str, float], int], None]
"""Takes values by name, and their step."""


@contextmanager
def nodes_watched(log_values: Log, began: float | None = None, every_s: float = EVERY_S) -> Iterator[None]:
    """Log what every node does while the block lasts, as `system/<node>/<what>`.

    Steps are seconds since the run first began (`began`, Unix time; by default now), so they go on rising after a
    restart. Needs an initialised Ray.
    """
    since = time.time() if began is None else began
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(log_values, since, every_s, over), name="nodes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(log_values: Log, since: float, every_s: float, over: threading.Event) -> None:
    sent: dict[str, tuple[float, float]] = {}
    lookouts: Lookouts = {}
    try:
        while not over.is_set():
            for node, seen in looks(every_s, lookouts).items():
                log_values(named(node, seen, sent), int(time.time() - since))
            over.wait(every_s)
    except Exception:  # a look at the weather never ends a voyage
        log.warning("system metrics end here", exc_info=True)
    finally:
        for lookout in lookouts.values():
            with suppress(Exception):  # the cluster may be gone
                ray.kill(lookout)


Lookouts = dict[str, Any]
"""Name of a node -> the actor that looks there."""


def looks(timeout_s: float, lookouts: Lookouts) -> dict[str, dict[str, float]]:
    """What each living node says of itself, by its name; those that do not answer in time are left out.

    Nodes that were not known get an actor, which joins `lookouts`; actors that died leave it.
    """
    for name, node in node_names().items():
        if name not in lookouts:
            lookouts[name] = _on(node).remote()
    asked = {name: lookout.look.remote(LOOK_S) for name, lookout in lookouts.items()}
    if not asked:
        return {}
    ready, late = ray.wait(list(asked.values()), num_returns=len(asked), timeout=LOOK_S + timeout_s)
    for each in late:
        ray.cancel(each)
    found = {}
    for name, answer in asked.items():
        if answer in ready:
            try:
                found[name] = ray.get(answer)
            except ray.exceptions.RayError:  # the node has just died
                del lookouts[name]
    return found


def node_names() -> dict[str, str]:
    """Name -> Ray's id of each living node: its host's name, with the beginning of the id where hosts hold several."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    often = Counter(node["NodeManagerHostname"] for node in alive)
    return {_name(node, often[node["NodeManagerHostname"]]): node["NodeID"] for node in alive}


def _name(node: dict[str, Any], on_this_host: int) -> str:
    host = str(node["NodeManagerHostname"])
    return host if on_this_host == 1 else f"{host}-{node['NodeID'][:6]}"


def _on(node: str) -> Any:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=there)(Lookout)


class Lookout:
    """Looks at the node it stands on."""

    def look(self, seconds: float) -> dict[str, float]:
        """See the function."""
        return look(seconds)


def look(seconds: float) -> dict[str, float]:
    """What this node does: cores over some seconds, memory, disk, network since it was booted, GPUs."""
    memory, disk, network = psutil.virtual_memory(), psutil.disk_usage("/"), psutil.net_io_counters()
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(seconds),
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
        "disk_usage_percentage": disk.percent,
        "disk_usage_megabytes": disk.used / MEGABYTE,
        "disk_available_megabytes": disk.free / MEGABYTE,
        "network_receive_megabytes": network.bytes_recv / MEGABYTE if network else 0.0,
        "network_transmit_megabytes": network.bytes_sent / MEGABYTE if network else 0.0,
        **_gpus(),
    }


def _gpus() -> dict[str, float]:
    """Of each NVIDIA GPU, where there is one and the package nvidia-ml-py to ask it."""
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    seen: dict[str, float] = {}
    for number in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        with suppress(pynvml.NVMLError):  # one that shares the machine's memory has none of its own
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            seen[f"gpu_{number}_memory_usage_megabytes"] = memory.used / MEGABYTE
            seen[f"gpu_{number}_memory_usage_percentage"] = round(100 * memory.used / memory.total, 1)
        with suppress(pynvml.NVMLError):  # a slice of a GPU does not tell
            busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
            seen[f"gpu_{number}_utilization_percentage"] = float(busy)
        with suppress(pynvml.NVMLError):
            seen[f"gpu_{number}_power_usage_watts"] = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
    return seen


def named(node: str, seen: dict[str, float], first: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Under MLflow's names; network traffic counts from the first look at a node, which `first` keeps."""
    network = ("network_receive_megabytes", "network_transmit_megabytes")
    received, transmitted = first.setdefault(node, (seen[network[0]], seen[network[1]]))
    since = {network[0]: seen[network[0]] - received, network[1]: seen[network[1]] - transmitted}
    return {f"system/{node}/{what}": value for what, value in (seen | since).items()}
