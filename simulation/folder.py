"""A folder of a file system as an object store: whole objects, one winner, and bytes that survive a power cut.

An object is written to a temporary file beside its place, made durable, and only then given its name: by a hard link,
which fails if the name is taken, or by a rename, which replaces.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simulation.errors import NotAllowed, NotThere, StorageError
from simulation.place import OURS, NotConditional, Stored, Unfinished

if TYPE_CHECKING:
    import pyarrow.fs

NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""What file systems without hard links answer (FAT, some network and FUSE mounts)."""


@dataclass(frozen=True)
class InFolder:
    """A path; the methods are those of `simulation.place.Place`."""

    address: str
    path: Path

    def root(self) -> tuple[str, ...]:
        """The device, found by making the folder, since it is about to be written to."""
        with writing(self.address):
            self.path.mkdir(parents=True, exist_ok=True)
            return ("file", str(self.path.stat().st_dev))

    def read(self) -> bytes:
        """All bytes of the file."""
        with reading(self.address):
            return self.path.read_bytes()

    def read_range(self, start: int, size: int) -> bytes:
        """What lies there, at most `size` bytes."""
        with reading(self.address), self.path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def exists(self) -> bool:
        """Whether a file lies here; a folder is no object."""
        with suppress(NotThere), reading(self.address):
            self.path.stat()
            return self.path.is_file()
        return False

    def stored(self) -> Stored | None:
        """What the file system says of the file."""
        with suppress(NotThere), reading(self.address):
            status = self.path.stat()
            return Stored(self.address, status.st_size, status.st_mtime) if self.path.is_file() else None
        return None

    def below(self) -> list[Stored]:
        """All files below the folder; none if it is missing."""
        with reading(self.address):
            return sorted(_files_below(self.path), key=lambda stored: stored.address)

    def create(self, data: bytes) -> bool:
        """By a hard link, which is refused if the name is taken."""
        with writing(self.address), self._temporary() as temporary:
            _write_through(temporary, data)
            try:
                os.link(temporary, self.path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in NO_HARD_LINKS:
                    raise NotConditional(f"{self.address}: this file system has no hard links.") from error
                raise
            _write_names_through(self.path.parent)
            return True

    def replace(self, data: bytes) -> None:
        """By a rename."""
        with writing(self.address), self._temporary() as temporary:
            _write_through(temporary, data)
            self._name(temporary)

    def upload(self, file: Path) -> None:
        """By a copy and a rename."""
        with writing(self.address), self._temporary() as temporary:
            shutil.copyfile(file, temporary)
            with temporary.open("rb") as copy:
                os.fsync(copy.fileno())
            self._name(temporary)

    def download(self, target: Path) -> None:
        """A copy."""
        with reading(self.address):
            shutil.copyfile(self.path, target)

    def delete(self) -> None:
        """Unlink, if there is something."""
        with suppress(NotThere), reading(self.address):
            self.path.unlink()

    def unfinished(self) -> list[Unfinished]:
        """None: a folder knows no uploads in parts."""
        return []

    def abort(self, upload: str) -> None:
        """Nothing to do."""

    def arrow(self) -> "tuple[pyarrow.fs.FileSystem, str]":
        """pyarrow's local filesystem."""
        import pyarrow.fs

        return pyarrow.fs.LocalFileSystem(), str(self.path)

    def _name(self, temporary: Path) -> None:
        temporary.replace(self.path)
        _write_names_through(self.path.parent)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A path beside ours for the bytes on their way; gone at the end, whatever happens."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f"{OURS}partial-{uuid.uuid4().hex}")
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def _files_below(folder: Path) -> Iterator[Stored]:
    """Every file below a folder, through links to folders too, but each folder once."""
    seen: set[str] = set()
    for path, folders, files in os.walk(folder, onerror=_raise_unless_missing, followlinks=True):
        if (real := os.path.realpath(path)) in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in files:
            with suppress(FileNotFoundError):  # deleted since, or a link to nothing
                status = os.stat(os.path.join(path, name))
                yield Stored("file://" + os.path.join(path, name), status.st_size, status.st_mtime)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _write_through(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write_names_through(folder: Path) -> None:
    """Make the names in a folder last, as fsync of a file makes its bytes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def reading(address: str) -> Iterator[None]:
    """Turn the operating system's errors into ours."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotThere(f"Nothing lies at {address}. Look at the path, or build what should be there.") from error
    except IsADirectoryError as error:
        raise NotThere(f"{address} is a folder; expected a single object.") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise NotThere(f"Nothing lies at {address}: no file has so long a name.") from error
        raise _failure(error, address) from error


@contextmanager
def writing(address: str) -> Iterator[None]:
    """The same where missing folders are made: what is missing then is kept from being by something of its name."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError, FileNotFoundError) as error:
        raise StorageError(
            f"{address} cannot be written ({error.strerror}): a file and a folder want the same name. "
            "Choose another path."
        ) from error
    except OSError as error:
        raise _failure(error, address) from error


def _failure(error: OSError, address: str) -> StorageError:
    reason = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotAllowed(
            f"{address} refuses: {reason}. Change its owner or mode (chown, chmod), or use another store."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"No space is left for {address}: {reason}. Free some, or use another store (UNMUFFLE_STORE)."
        )
    return StorageError(f"{address} failed: {reason}. Look at the disk or mount it lies on.")
