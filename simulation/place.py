"""What a place in a store can do, be it in a folder (`simulation.folder`) or in a bucket (`simulation.storage`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from simulation.errors import StorageError

if TYPE_CHECKING:
    import pyarrow.fs

OURS = ".unmuffle-"
"""Prefix of the names that are nobody's objects: temporary files, probes, locks."""


PARALLEL = 16
"""Threads of what is done to many objects at once."""


@dataclass(frozen=True)
class Stored:
    """One object in a listing."""

    address: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class Unfinished(Stored):
    """A multipart upload that may still go on: so many bytes of it have come, the last of them when it was modified."""

    upload: str
    """Its id."""


class NotConditional(StorageError):
    """The store said itself that it cannot write under the condition that nothing is there."""


class Place(Protocol):
    """One address of a store. Every method raises only errors of `simulation.errors`."""

    @property
    def address(self) -> str:
        """The full address."""

    def root(self) -> tuple[str, ...]:
        """What stands for the whole store: its bucket, or its device."""

    def read(self) -> bytes:
        """All bytes of the object."""

    def read_range(self, start: int, size: int) -> bytes:
        """At most `size` bytes (at least 1) from byte `start` on."""

    def exists(self) -> bool:
        """Whether an object lies here."""

    def stored(self) -> Stored | None:
        """Size and time of the object that lies here, if one does; its bytes are not read."""

    def below(self) -> list[Stored]:
        """All objects below here, ours too, sorted by address."""

    def create(self, data: bytes) -> bool:
        """Write if nothing is there, in one step; NotConditional where the store cannot."""

    def replace(self, data: bytes) -> None:
        """Write over what is there, in one step."""

    def upload(self, file: Path) -> None:
        """`replace` with the content of a local file of any size."""

    def download(self, target: Path) -> None:
        """Copy to a local file, whose folder exists."""

    def delete(self) -> None:
        """Remove what is there, if anything."""

    def unfinished(self) -> list[Unfinished]:
        """Uploads in parts below here that were neither completed nor aborted."""

    def abort(self, upload: str) -> None:
        """Drop the parts of an upload to here."""

    def arrow(self) -> "tuple[pyarrow.fs.FileSystem, str]":
        """pyarrow's filesystem and the path of this place in it."""
