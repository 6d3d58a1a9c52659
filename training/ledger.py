"""The cost ledger: what a training run has used so far, and how much of that was lost to failures.

Every worker of every attempt keeps one object below its run, `ledger/<began>-<id>.json`, and replaces it every few
seconds, so a kill loses no more than those. Claimed cores and GPUs count for as long as the worker holds them, whether
it keeps them busy or not. Lost is the work that a later attempt had to do again: what came after the last checkpoint
that it resumed from.
"""

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from simulation import storage
from simulation.errors import StorageError
from simulation.schema import Schema
from simulation.traffic import traffic

log = logging.getLogger(__name__)

BEAT_S = 5.0
"""Between two accounts of a worker; what a kill may hide."""


class Account(Schema):
    """What one worker used in one attempt."""

    began: float
    """Unix time."""
    seconds: float = 0.0
    """Until it ended or was last heard of."""
    cores: float
    gpus: float
    marks: tuple[tuple[int, float], ...] = ()
    """(step, seconds): where the worker took the run up, and each checkpoint since."""
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def ended(self) -> float:
        """Unix time at which it ended or was last heard of."""
        return self.began + self.seconds


class Cost(Schema):
    """Sums over accounts."""

    attempts: int = 0
    """Times that a worker took the run up."""
    core_seconds: float = 0.0
    gpu_seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    wasted_seconds: float = 0.0
    """Of workers, whose work was done again."""
    wasted_core_seconds: float = 0.0
    wasted_gpu_seconds: float = 0.0

    @property
    def core_hours(self) -> float:
        """The same in hours."""
        return self.core_seconds / 3600

    @property
    def gpu_hours(self) -> float:
        """The same in hours."""
        return self.gpu_seconds / 3600

    def line(self) -> str:
        """In words."""
        gpus = f"{self.gpu_hours:.2f} GPU-hours, " if self.gpu_seconds else ""
        lost = f"{self.wasted_core_seconds / 3600:.3f} core-hours lost to failures"
        return f"{self.core_hours:.3f} core-hours, {gpus}{lost}"


class Meter:
    """Keeps one worker's account; see `metered`."""

    def __init__(self, address: str, account: Account) -> None:
        self.address = address
        self._account = account
        self._clock, self._before = time.monotonic(), traffic()
        self._marks: list[tuple[int, float]] = []

    def mark(self, step: int) -> None:
        """The run was taken up at this step, or a checkpoint of it was taken: nothing before it needs doing again."""
        self._marks.append((step, self._seconds()))

    def write(self) -> None:
        """Replace the account in the store; a store that does not take it costs the account, never the run."""
        moved = traffic().since(self._before)
        facts = {
            "seconds": self._seconds(),
            "marks": tuple(self._marks),
            "bytes_read": moved.read,
            "bytes_written": moved.written,
        }
        try:
            storage.replace(self.address, self._account.model_copy(update=facts).canonical())
        except StorageError as error:
            log.warning("the cost ledger misses an account: %s", error)

    def _seconds(self) -> float:
        return round(time.monotonic() - self._clock, 3)


@contextmanager
def metered(run: str, cores: float, gpus: float = 0.0, every_s: float = BEAT_S) -> Iterator[Meter]:
    """Account for this worker, which claims that many cores and GPUs, below the run's address while the block lasts."""
    account = Account(began=time.time(), cores=cores, gpus=gpus)
    name = f"{int(account.began * 1000):015d}-{uuid.uuid4().hex[:8]}.json"
    meter = Meter(storage.join(ledger_address(run), name), account)
    over = threading.Event()

    def beat() -> None:
        meter.write()
        while not over.wait(every_s):
            meter.write()

    thread = threading.Thread(target=beat, name="ledger", daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        over.set()
        thread.join()
        meter.write()


def ledger_address(run: str) -> str:
    """Where the accounts of a run lie."""
    return storage.join(run, "ledger")


def spent(run: str) -> Cost:
    """What the run at this address has cost so far, over all its attempts; nothing where there is no account."""
    return total(accounts(run))


def accounts(run: str) -> list[Account]:
    """The accounts below a run, oldest first."""
    addresses = [stored.address for stored in storage.listing(ledger_address(run))]
    found = zip(addresses, storage.read_many(addresses), strict=True)
    return sorted((Account.parse(data, address) for address, data in found), key=lambda one: one.began)


def total(found: list[Account]) -> Cost:
    """The sum of accounts of one run."""
    lost = [(one, _lost_seconds(one, found)) for one in found]
    return Cost(
        attempts=len(found),
        core_seconds=round(sum(one.cores * one.seconds for one in found), 3),
        gpu_seconds=round(sum(one.gpus * one.seconds for one in found), 3),
        bytes_read=sum(one.bytes_read for one in found),
        bytes_written=sum(one.bytes_written for one in found),
        wasted_seconds=round(sum(seconds for _, seconds in lost), 3),
        wasted_core_seconds=round(sum(one.cores * seconds for one, seconds in lost), 3),
        wasted_gpu_seconds=round(sum(one.gpus * seconds for one, seconds in lost), 3),
    )


def _lost_seconds(one: Account, found: list[Account]) -> float:
    """What came after the checkpoint from which the next attempt went on; nothing while there is none."""
    later = [other for other in found if other.began >= one.ended and other.marks]
    if not later:
        return 0.0
    resumed = min(later, key=lambda other: other.began).marks[0][0]
    kept = [seconds for step, seconds in one.marks if step <= resumed]
    return one.seconds - kept[-1] if kept else one.seconds


def first_began(run: str) -> float:
    """Unix time at which a worker first took the run up; now, if none did yet."""
    return min((one.began for one in accounts(run)), default=time.time())
