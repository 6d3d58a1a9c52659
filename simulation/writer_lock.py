"""The lock of a store that cannot referee a race: one writer at a time, named in an object that it keeps refreshing.

Without conditional writes such a lock cannot be exact. It writes its name, waits, and looks whether it is still there,
so two writers must be slower than the wait to both believe they hold it; and each looks again at every refresh. Expiry
is by the writers' clocks, which may differ by far less than it.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from simulation.errors import BadSetting, NotThere, StorageError
from simulation.place import Place
from simulation.schema import Schema

log = logging.getLogger(__name__)

EXPIRY_S = 120.0
"""A lock that was not refreshed for so long is free to take."""
REFRESH_S = 30.0
"""How often its holder refreshes it."""
SETTLE_S = 2.0
"""How long a new holder waits before it looks whether another one wrote over its name."""


class Held(StorageError):
    """Another writer holds the lock."""


class Claim(Schema):
    """The lock object. Times in seconds since the epoch."""

    owner: str
    token: str
    since_s: float
    expires_s: float


class WriterLock:
    """One writer's hold on the object at `place`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.owner = f"process {os.getpid()} on {socket.gethostname()}"
        self._token = uuid.uuid4().hex
        self._since_s = time.time()
        self._lost: Held | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Take, keep refreshing in a thread, release. Held if another writer has it, or took it from us meanwhile."""
        self._take()
        done = threading.Event()
        thread = threading.Thread(target=self._keep, args=[done], name="writer lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._release()
        if self._lost:
            raise self._lost

    def _take(self) -> None:
        self._check()
        self._write()
        time.sleep(SETTLE_S)
        self._check()

    def _keep(self, done: threading.Event) -> None:
        while not done.wait(REFRESH_S):
            try:
                self._check()
                self._write()
            except Held as error:
                self._lost = error
                log.error("The writer lock is lost; what is being written may be damaged: %s", error)
                return
            except StorageError as error:
                log.warning("The writer lock could not be refreshed, trying again: %s", error)

    def _check(self) -> None:
        """Held if the object names another writer and has not expired."""
        claim = self._claim()
        if claim and claim.token != self._token and claim.expires_s > time.time():
            raise Held(
                f"{self.place.address} is held by {claim.owner} since {_clock(claim.since_s)}, and this store takes a "
                f"single writer. Wait for it to end; if it died, the lock is free after {_clock(claim.expires_s)}."
            )

    def _claim(self) -> Claim | None:
        try:
            return Claim.parse(self.place.read(), self.place.address)
        except NotThere:
            return None
        except BadSetting as error:
            raise StorageError(f"{error} Delete it if nobody writes to this store.") from error

    def _write(self) -> None:
        expires_s = time.time() + EXPIRY_S
        claim = Claim(owner=self.owner, token=self._token, since_s=self._since_s, expires_s=expires_s)
        self.place.replace(claim.canonical())

    def _release(self) -> None:
        with suppress(StorageError):  # it expires by itself
            claim = self._claim()
            if claim and claim.token == self._token:
                self.place.delete()


def _clock(epoch_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch_s))
