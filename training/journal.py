"""What MLflow has not heard yet: failed writes, kept in the store until it answers again.

One object a write, named by time, so that a listing is the order in which they happened. An object is one line of JSON
and is never changed; replaying applies it and then deletes it. What MLflow refuses for good moves to `refused/`, where
it blocks nothing and a person can read it.
"""

import json
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from simulation import storage
from simulation.errors import NotThere, StorageError

logger = logging.getLogger(__name__)

Entry = dict[str, Any]


class Journal:
    """Entries below one address; the writers are many processes, each naming its own objects."""

    def __init__(self, address: str) -> None:
        self.address = address

    def keep(self, entry: Entry) -> None:
        """Store one entry. A store that fails too costs the entry, never the training run."""
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl"
        line = json.dumps(entry, sort_keys=True) + "\n"
        try:
            storage.create(storage.join(self.address, "waiting", name), line.encode())
        except StorageError as error:
            logger.error("lost for MLflow, as the store does not take it either (%s): %.200s", error, line)

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """(address, entry) of everything that waits, oldest first."""
        for stored in storage.listing(storage.join(self.address, "waiting")):
            with suppress(NotThere):  # another process has just replayed it
                yield stored.address, json.loads(storage.read(stored.address))

    def forget(self, address: str) -> None:
        """The entry has reached MLflow."""
        storage.delete(address)

    def refuse(self, address: str, reason: str) -> None:
        """MLflow will never take this entry: set it aside, and say so."""
        aside = storage.join(self.address, "refused", address.rsplit("/", 1)[-1])
        storage.create(aside, storage.read(address))
        storage.delete(address)
        logger.error("MLflow refuses a journalled write (%s); it lies at %s", reason, aside)
