"""An objective that notes when each step begins, wherever the run is: for `make bench-training`.

It is the regression, and says so: recipes, checkpoints and versions are those of the regression. Where the times go is
told by the environment, which reaches Ray's workers. Where a bare loop takes turns with the run, the step that ends a
turn waits until the bare loop has had its own.
"""

import json
import os
import resource
import time
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from training.objectives.regression import Regression

FOLDER = "UNMUFFLE_BENCH_TIMES"
"""Where each process leaves its times."""
TURN = "UNMUFFLE_BENCH_TURN"
"""Steps of a turn."""
SOCKET = "UNMUFFLE_BENCH_SOCKET"
"""Of the bare loop that takes turns with the run; absent: there is none."""


class Stopwatch(Regression):
    """The regression, with times."""

    class Config(Regression.Config):
        """As the regression's."""

        def build(self) -> "Stopwatch":
            """The objective."""
            return Stopwatch(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._bare: Connection | None = None

    def step_begins(self, step: int) -> None:
        """Note it; wait, where it is the other's turn."""
        super().step_begins(step)
        begins, used = time.time(), time.process_time()
        if SOCKET in os.environ and step and step % int(os.environ[TURN]) == 0:
            self._bare = self._bare or connected(os.environ[SOCKET])
            self._bare.send(step)
            self._bare.recv()
        note(
            step=step,
            begins=begins,
            goes_on=time.time(),
            cpu_begins=used,
            cpu_goes_on=time.process_time(),
            peak_mb=peak_mb(),
        )


def connected(socket: str) -> Connection:
    """To the bare loop, which may have begun later."""
    while not Path(socket).exists():
        time.sleep(0.1)
    return Client(socket, "AF_UNIX")


def note(**what: Any) -> None:
    """One line of this process's file."""
    with Path(os.environ[FOLDER], f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(what) + "\n")


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def times(folder: str) -> list[list[dict[str, Any]]]:
    """What each process noted, the longest first."""
    files = [[json.loads(line) for line in path.read_text().splitlines()] for path in Path(folder).glob("*.jsonl")]
    return sorted(files, key=len, reverse=True)


def turns(noted: list[dict[str, Any]], size: int, skipped: int, clock: str = "") -> list[float]:
    """Seconds a step in each turn of `size` steps, without the first `skipped` ones of each; with "cpu_", of work."""
    ends = noted[size::size]
    starts = [noted[place - size + skipped] for place in range(size, len(noted), size)]
    return [
        (end[f"{clock}begins"] - start[f"{clock}goes_on"]) / (size - skipped)
        for start, end in zip(starts, ends, strict=True)
    ]
