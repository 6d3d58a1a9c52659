"""From the workers to the person and the record: what a training run says while the driver waits for it.

A mailbox actor takes the newest word of progress and the rows of each checkpoint from rank 0, and gives the rows out
once Ray Train has committed the checkpoint. A row whose figures on the valid split are still out holds back those
behind it. A thread of the driver empties it: it hands on lines as they come, and rows exactly once, oldest first. The
last step handed on is kept in the store, so that a driver that was killed and started again does not repeat any.
"""

import json
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import ray
from ray.train import UserCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simulation import storage
from simulation.errors import StorageError
from training.progress import Progress

logger = logging.getLogger(__name__)

Row = dict[str, float | int]
Log = Callable[[dict[str, float | int], int], None]
"""Takes the values of a row by name, and its step."""

INTERVAL_S = 0.5
"""Between two looks into the mailbox."""


class Mailbox:
    """What waits for the driver."""

    def __init__(self) -> None:
        self.newest: Progress | None = None
        self.waiting: list[Row] = []
        self.ready: list[Row] = []
        self.owed: set[int] = set()
        self.last = -1

    def progress(self, progress: Progress) -> None:
        """A newer one takes the place of the older one."""
        self.newest = progress

    def wait(self, rows: list[Row], owed: int | None = None) -> None:
        """Rows of a checkpoint that is about to be committed; after a replay, again. `owed`: a step without figures."""
        self.waiting += rows
        if owed is not None:
            self.owed.add(owed)

    def figures(self, step: int, values: dict[str, float | int]) -> None:
        """Those that were owed."""
        for row in self.waiting + self.ready:
            if row["step"] == step:
                row.update(values)
        self.owed.discard(step)

    def committed(self, step: int) -> None:
        """The checkpoint of this step is in the store."""
        self.last = step
        self.ready += [row for row in self.waiting if row["step"] <= step]
        self.waiting = [row for row in self.waiting if row["step"] > step]

    def committed_step(self) -> int:
        """The step of the last checkpoint that is in the store; -1 before there was any word of one."""
        return self.last

    def take(self) -> tuple[Progress | None, list[Row]]:
        """The newest progress, and the committed rows up to the first that lacks figures; each is given out once."""
        complete = [row["step"] not in self.owed for row in self.ready]
        count = complete.index(False) if False in complete else len(complete)
        progress, rows, self.newest, self.ready = self.newest, self.ready[:count], None, self.ready[count:]
        return progress, rows


class Commits(UserCallback):
    """Runs in Ray Train's controller: tells the mailbox of every checkpoint that is in the store."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Ray Train calls this when all workers have reported."""
        if checkpoint is not None:
            self.mailbox.committed.remote(metrics[0]["step"])


class Watch:
    """Empties a mailbox while the body of its `with` runs.

    A store that cannot be written is asked again at the next look; its rows wait. Any other error in `log` or
    `progress` ends the watching and is raised at the end of the body.
    """

    def __init__(self, address: str, log: Log | None, progress: Callable[[Progress], None] | None) -> None:
        """`address`: where the last logged step is kept."""
        self.address, self.log, self.progress = address, log, progress
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.mailbox: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()
        self.logged = json.loads(storage.read(address))["step"] if storage.exists(address) else 0
        self._kept = self.logged
        self._rows: list[Row] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._error: Exception | None = None

    @property
    def committed_step(self) -> int:
        """The step of the last checkpoint that workers of this driver know to be in the store; -1 before."""
        return int(ray.get(self.mailbox.committed_step.remote()))

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is None:
            self._look()  # at what was committed since the last look
        ray.kill(self.mailbox)
        if kind is None and self._error is not None:
            raise self._error

    def _watch(self) -> None:
        while self._error is None and not self._stop.wait(INTERVAL_S):
            self._look()

    def _look(self) -> None:
        try:
            progress, rows = ray.get(self.mailbox.take.remote())
            if progress is not None and self.progress is not None:
                self.progress(progress)
            self._rows += rows
            self.hand_on(self._rows)
            self._rows = []
        except StorageError as problem:
            logger.warning("the record of this run is behind: %s", problem)
        except Exception as error:
            self._error = error

    def hand_on(self, rows: list[Row]) -> None:
        """Log those rows that were not logged before."""
        for row in rows:  # a worker that died between posting and committing leaves rows that are posted again
            if row["step"] > self.logged:
                step = int(row["step"])
                if self.log is not None:
                    self.log({name: value for name, value in row.items() if name != "step"}, step)
                self.logged = step
        if self.logged > self._kept:
            storage.replace(self.address, json.dumps({"step": self.logged}).encode())
            self._kept = self.logged
