"""What networks cost on this machine, measured: processor time, clock and memory of passes over noise.

`unmuffle models --measure` asks for the real-time factor on one thread and the most memory, both for ten seconds of
audio. Each network is measured in a process of its own, which may take the memory that is free and no more; what was
found is kept in the home, with the machine's name, until the network's settings change. `benchmarks/models.py` measures
other lengths, threads and the backward pass.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from serving.facts import machine, peak_memory_mb, said_by
from simulation import storage
from simulation.errors import UnknownName
from simulation.home import Home
from simulation.schema import Schema
from training.models.base import ModelConfig
from training.models.presets import PRESETS

SECONDS = 10
"""Of audio that a network is measured with."""
NOISE_LEVEL = 0.05
MEGABYTE = 1e6


class Passes(NamedTuple):
    """What passes through a network took in this process."""

    clock_s: float
    """For one pass, the fastest."""
    core_s: float
    """Of the processor, for one pass, the cheapest."""
    peak_mb: float
    """More than before the network was built, weights included; in 10^6 bytes."""


class NetworkCost(Schema):
    """What one network was measured at, for `SECONDS` of audio on one thread."""

    settings: str
    """Digest of the network's settings, so that a figure never stands beside another network."""
    real_time_factor: float | None = None
    """Processor time over duration of the audio; None where it could not be measured."""
    peak_memory_mb: float | None = None
    """Of the network, its weights included."""
    machine: str
    reason: str = ""
    """Why there is no figure."""


class NetworkCosts(Schema):
    """All that was measured, by the name of the preset."""

    costs: dict[str, NetworkCost]


def passes(config: ModelConfig, seconds: int, learning: bool = False, repeats: int = 1) -> Passes:
    """Build a network with fresh weights and send noise through it, in this process and with its threads.

    `learning`: forward and backward in training mode, else forward alone. One second goes before, to warm up.
    """
    torch.manual_seed(0)
    before_mb = peak_memory_mb() or 0.0
    model = config.build().train(learning)

    def once(heard: torch.Tensor) -> tuple[float, float]:
        began, worked = time.perf_counter(), time.process_time()
        with torch.set_grad_enabled(learning):
            enhanced = model(heard)
            if learning:
                enhanced.square().mean().backward()
        return time.perf_counter() - began, time.process_time() - worked

    once(_noise(config, 1))
    taken = [once(_noise(config, seconds)) for _ in range(repeats)]
    clock_s, core_s = (min(each) for each in zip(*taken, strict=True))
    return Passes(clock_s, core_s, (peak_memory_mb() or 0.0) - before_mb)


def _noise(config: ModelConfig, seconds: int) -> torch.Tensor:
    return NOISE_LEVEL * torch.randn(1, seconds * config.sample_rate)


def available_mb() -> float:
    """Memory that is free or can be freed, and that a limit on this machine's processes leaves; in 10^6 bytes."""
    free = psutil.virtual_memory().available / MEGABYTE
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        free = min(free, (int(most) - int(used.read_text())) / MEGABYTE)
    return free


def leave_room() -> None:
    """From here on, a request of this process for more memory than is free fails, and nobody else is ended for it."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    held = psutil.Process().memory_info().data if sys.platform == "linux" else 0
    resource.setrlimit(resource.RLIMIT_DATA, (held + int(0.9 * available_mb() * MEGABYTE), hard))


def measured(name: str) -> NetworkCost:
    """The costs of a preset, from a process of its own; without figures and with the reason where that failed."""
    try:
        return NetworkCost.parse(said_by("serving.network_costs", name), f"the costs of {name}")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return NetworkCost(settings=PRESETS[name].config.digest(), machine=machine(), reason=why(error))


def why(error: subprocess.CalledProcessError | subprocess.TimeoutExpired) -> str:
    """Why a process that was to measure did not: time, memory, or what it said last."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not done within {error.timeout:.0f} s"
    if any(words in error.stderr for words in ("allocate memory", "bad_alloc", "MemoryError")):
        return f"more than the {available_mb() / 1000:.1f} GB of memory that are free"
    said = [line for line in error.stderr.splitlines() if line.strip()]
    return said[-1] if said else f"the process ended with {error.returncode}"


def known(home: Home) -> dict[str, NetworkCost]:
    """What was measured in this home, of networks whose settings are still those."""
    address = _address(home)
    if not storage.exists(address):
        return {}
    costs = NetworkCosts.parse(storage.read(address), address).costs
    return {
        name: cost for name, cost in costs.items() if name in PRESETS and cost.settings == PRESETS[name].config.digest()
    }


def measure(home: Home, names: Sequence[str] = ()) -> Iterator[tuple[str, NetworkCost]]:
    """Measure these networks, or all that were not measured in this home; each is kept as soon as it is there.

    Raises UnknownName before the first one is measured.
    """
    for name in names:
        if name not in PRESETS:
            raise UnknownName("network", name, PRESETS)
    for name in names or [each for each in PRESETS if each not in known(home)]:
        cost = measured(name)
        home.path.mkdir(parents=True, exist_ok=True)
        kept = NetworkCosts(costs=known(home) | {name: cost})
        storage.replace(_address(home), kept.model_dump_json(indent=1).encode())
        yield name, cost


def _address(home: Home) -> str:
    return storage.normal(str(home.path / "networks.json"))


def main(name: str) -> None:
    """Measure a preset in this process; prints JSON."""
    torch.set_num_threads(1)
    config = PRESETS[name].config
    leave_room()
    found = passes(config, SECONDS)
    cost = NetworkCost(
        settings=config.digest(),
        real_time_factor=round(found.core_s / SECONDS, 4),
        peak_memory_mb=round(found.peak_mb, 1),
        machine=machine(),
    )
    print(cost.model_dump_json())


if __name__ == "__main__":
    main(sys.argv[1])
