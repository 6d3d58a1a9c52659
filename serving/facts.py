"""What a version costs, measured: time, memory, latency and size, as `serving.judgement.Facts`.

It is measured in a process of its own, with one thread, on four seconds of speech: whoever asks may have loaded
anything, and uses as many threads as it likes. Time is what the processor spent, the median of several answers, so that
what else runs on the machine does not slow a version down; it still depends on the machine, which is named.
"""

import logging
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from serving.engine import Engine
from serving.judgement import Facts
from serving.verification import PROBE_RATE, probe
from simulation import storage
from simulation.errors import BadSetting
from training.blocks import BLOCK_S, CONTEXT_S, FADE_S
from training.checkpoint import WEIGHTS
from training.models.base import Enhancer

logger = logging.getLogger(__name__)

INPUT_S = 4.0
"""Seconds of speech that are enhanced; they pass a network as a whole."""
REPEATS = 5
"""Answers that are timed, after one that is not."""
PATIENCE_S = 600.0
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def measured(address: str) -> Facts:
    """The facts of the version at this address; what could not be measured is missing, with a warning in the log."""
    try:
        return Facts.parse(said_by("serving.facts", address), f"the facts of {address}")
    except (subprocess.SubprocessError, BadSetting) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        logger.warning("the facts of %s were not measured: %s %s", address, error, said)
        return Facts()


def said_by(module: str, argument: str) -> str:
    """The last line that a module prints, run on one thread in a process of its own; "" where it prints none.

    Raises `CalledProcessError`, or `TimeoutExpired` after `PATIENCE_S`.
    """
    words = [sys.executable, "-m", module, argument]
    done = subprocess.run(
        words, env=os.environ | ONE_THREAD, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    return "".join(done.stdout.splitlines()[-1:])


def facts_of(engine: Engine, size_mb: float | None = None) -> Facts:
    """What an engine costs in this process, whose threads and memory count; to be called where nothing else runs."""
    return Facts(
        real_time_factor=real_time_factor(engine),
        latency_ms=latency_ms(engine.model),
        memory_mb=peak_memory_mb(),
        size_mb=size_mb,
        machine=machine(),
    )


def real_time_factor(engine: Engine) -> float:
    """Seconds of processor time per second of audio: the median over `REPEATS` answers to the same four seconds."""
    question = np.resize(probe(), (round(INPUT_S * PROBE_RATE), 1))
    spent = []
    for _ in range(1 + REPEATS):
        began = time.process_time()
        engine.enhance(question, PROBE_RATE)
        spent.append(time.process_time() - began)
    return statistics.median(spent[1:]) / INPUT_S


def latency_ms(model: Enhancer) -> float:
    """Audio that has to be there before the first sample can be answered, in ms.

    A causal network says how far it looks ahead; the others get a block with its fade and the context behind it.
    """
    ahead_s = model.latency_samples / model.sample_rate if model.causal else BLOCK_S + FADE_S + CONTEXT_S
    return 1000 * ahead_s


def peak_memory_mb() -> float | None:
    """The most memory that this process had at any time, in 10^6 bytes; None where the system does not tell.

    The kernel's `VmHWM`: `getrusage` would answer with the parent's peak for a process that was just started.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    kibibytes = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(kibibytes) * 1024 / 1e6


def machine() -> str:
    """Where this was measured: name, processor and system."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.node()}, {model or platform.processor() or platform.machine()}, {platform.system()}"


def main(address: str) -> None:
    """Measure the version at this address in this process; prints JSON."""
    import torch

    torch.set_num_threads(1)
    size_mb = len(storage.read(storage.join(address, WEIGHTS))) / 1e6
    print(facts_of(Engine.load(address), size_mb).model_dump_json())


if __name__ == "__main__":
    main(sys.argv[1])
