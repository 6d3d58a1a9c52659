"""The audit log of a use: what moved its traffic or its champion, when, and why; one small object for each event."""

import time
import uuid

from serving.canary import Evidence
from simulation import storage
from simulation.schema import Schema


class Event(Schema):
    """Something that happened to a version."""

    what: str
    """`canary began`, `stepped up`, `rolled back by the canary`, `promoted`, `rolled back`."""
    version: str
    """As people call it: `dm/3`."""
    reason: str
    percent: float | None = None
    """Of the requests that it answered."""
    evidence: Evidence | None = None
    """Every count behind a canary's decision."""
    time_s: float = 0.0
    """Since the epoch."""


def note(store: str, use: str, event: Event) -> None:
    """Write down an event of now."""
    now = event.model_copy(update={"time_s": round(time.time(), 3)})
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
    storage.create(storage.join(_folder(store, use), name), now.canonical())


def events(store: str, use: str, latest: int = 20) -> list[Event]:
    """The latest events, oldest first."""
    addresses = [stored.address for stored in storage.listing(_folder(store, use))][-latest:]
    return [Event.parse(data, address) for address, data in zip(addresses, storage.read_many(addresses), strict=True)]


def _folder(store: str, use: str) -> str:
    return storage.join(store, "promotions", use, "audit")
