"""How many bytes this process has read from object storage, and how many it has written there."""

from threading import Lock
from typing import NamedTuple


class Traffic(NamedTuple):
    """Bytes of whole objects and ranges, without what protocols add."""

    read: int = 0
    written: int = 0

    def since(self, before: "Traffic") -> "Traffic":
        """What came on top of an earlier count."""
        return Traffic(self.read - before.read, self.written - before.written)


_lock = Lock()
_total = Traffic()


def traffic() -> Traffic:
    """The count since this process began."""
    return _total


def count(read: int = 0, written: int = 0) -> None:
    """Add to the count: `simulation.storage` for what goes through it, others for what they carry past it."""
    global _total
    with _lock:
        _total = Traffic(_total.read + read, _total.written + written)
