"""The promotion lock: one promotion or rollback of a use at a time, on any store, surviving lost holders.

Locks are numbered objects. To take the lock is to create the next number, which exactly one writer can do; the highest
number is the holder, alive until it releases its object or stops refreshing it. Numbers are never used again: a
latecomer who still believes that an older one has expired finds its next number taken.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from simulation import storage
from simulation.errors import PromotionBusy, StorageError
from simulation.schema import Schema

logger = logging.getLogger(__name__)

EXPIRY_S = 120.0
"""A holder that was silent for so long has lost the lock."""
REFRESH_S = 20.0


class Holder(Schema):
    """What a lock object says."""

    host: str
    process: int
    since_s: float
    """Seconds since the epoch, as is the next one."""
    expires_s: float
    released: bool = False

    @property
    def alive(self) -> bool:
        """Whether it still holds; a process that died on this very machine need not be waited for."""
        died_here = self.host == socket.gethostname() and not _runs(self.process)
        return not self.released and self.expires_s > time.time() and not died_here


class Lease:
    """The lock while we hold it."""

    def __init__(self, store: str, number: int, use: str) -> None:
        self.store = store
        self._folder, self._number, self._use = _folder(store, use), number, use
        self._since_s = time.time()

    def record(self, released: bool = False) -> bytes:
        """The lock object as of now."""
        return Holder(
            host=socket.gethostname(),
            process=os.getpid(),
            since_s=self._since_s,
            expires_s=time.time() + EXPIRY_S,
            released=released,
        ).canonical()

    @property
    def address(self) -> str:
        """Of the lock object."""
        return _address(self._folder, self._number)

    def check(self) -> None:
        """PromotionBusy if somebody took the lock over or asked us to stop; called before what cannot be shared."""
        if storage.exists(_stop(self._folder, self._number)):
            raise PromotionBusy(f"This promotion of {self._use} was ended by `unmuffle rollback` before it was done.")
        if _latest(self._folder) != self._number:
            raise PromotionBusy(
                f"Another promotion of {self._use} took over, as this one was silent for {EXPIRY_S:.0f} s or more. "
                f"Nothing was promoted here; see `unmuffle status`, then promote again if it is still wanted."
            )

    @contextmanager
    def refreshed(self) -> Iterator[None]:
        """Move the expiry on in a thread."""
        done = threading.Event()

        def refresh() -> None:
            while not done.wait(REFRESH_S):
                try:
                    storage.replace(self.address, self.record())
                except StorageError as error:
                    logger.warning("the promotion lock was not refreshed: %s", error)

        thread = threading.Thread(target=refresh, name="promotion lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@contextmanager
def promotion_lock(store: str, use: str) -> Iterator[Lease]:
    """Hold the promotion lock of a use; PromotionBusy, naming the holder, when another one does."""
    folder = _folder(store, use)
    number = _latest(folder)
    _refuse_if_held(folder, number, use)
    lease = Lease(store, number + 1, use)
    if not storage.create(lease.address, lease.record()):
        _refuse_if_held(folder, number + 1, use)
        raise PromotionBusy(f"Another promotion of {use} was a moment faster and is over; run the same command again.")
    try:
        with lease.refreshed():
            yield lease
    finally:
        storage.replace(lease.address, lease.record(released=True))


def held(store: str, use: str) -> bool:
    """Whether a promotion or rollback of this use is under way."""
    folder = _folder(store, use)
    number = _latest(folder)
    return number > 0 and _holder(folder, number).alive


def ask_to_stop(store: str, use: str) -> None:
    """Tell whoever holds the lock to give up; it looks before whatever cannot be shared."""
    folder = _folder(store, use)
    storage.create(_stop(folder, _latest(folder)), b"{}")


def _refuse_if_held(folder: str, number: int, use: str) -> None:
    if number == 0 or not (holder := _holder(folder, number)).alive:
        return
    until = time.strftime("%H:%M:%S", time.localtime(holder.expires_s))
    raise PromotionBusy(
        f"A promotion of {use} is under way on {holder.host}, process {holder.process}. Wait until it ends and run "
        f"the same command again; if it died, its lock is free after {until}."
    )


def _folder(store: str, use: str) -> str:
    return storage.join(store, "promotions", use, "locks")


def _address(folder: str, number: int) -> str:
    return storage.join(folder, f"{number:08d}.json")


def _stop(folder: str, number: int) -> str:
    return storage.join(folder.rpartition("/")[0], "stops", f"{number:08d}.json")


def _latest(folder: str) -> int:
    """The highest number taken so far; 0 before the first."""
    stored = storage.listing(folder)
    return int(stored[-1].address.rsplit("/", 1)[-1].removesuffix(".json")) if stored else 0


def _holder(folder: str, number: int) -> Holder:
    address = _address(folder, number)
    return Holder.parse(storage.read(address), address)


def _runs(process: int) -> bool:
    """Whether a process of this machine is alive; signal 0 only asks."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
