"""The one door to object storage: a folder (`file:///path`) or a bucket (`s3://bucket/key`), with the same promises.

An object is whole or absent, never half written. `create` never overwrites: of several writers exactly one wins, which
is what commits rest on (a single PUT with `If-None-Match: *`; a hard link in a folder). `replace` is for the mutable
pointers. A probe, once per bucket or device and process, tells whether a store honours conditional writes; one that
does not takes a single writer at a time, who holds `writer_lock`.

S3 is set up by boto3's usual variables: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
AWS_DEFAULT_REGION, AWS_PROFILE, AWS_CA_BUNDLE, AWS_MAX_ATTEMPTS. Older servers (Ceph 16 among them) refuse the
checksums that AWS's libraries add by default; for them set AWS_REQUEST_CHECKSUM_CALCULATION=when_required and
AWS_RESPONSE_CHECKSUM_VALIDATION=when_required, which boto3 and pyarrow both read.

Names that begin with `.unmuffle-` (temporary files, probes, locks) are ours: `listing` hides them, `leftovers` shows
them.
"""

import logging
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from simulation.bucket import InBucket
from simulation.errors import BadSetting, NotThere, StorageError
from simulation.folder import InFolder, reading, writing
from simulation.place import OURS, PARALLEL, NotConditional, Place, Stored, Unfinished
from simulation.traffic import count
from simulation.writer_lock import WriterLock

if TYPE_CHECKING:
    import pyarrow.fs

__all__ = [
    "PARALLEL",
    "Stored",
    "Unfinished",
    "abort",
    "arrow",
    "create",
    "delete",
    "exists",
    "honours_conditional_writes",
    "in_parallel",
    "join",
    "leftovers",
    "listing",
    "local_copy",
    "normal",
    "read",
    "read_many",
    "read_range",
    "replace",
    "stored",
    "stored_many",
    "unfinished",
    "upload",
    "write_once",
    "writer_lock",
]

log = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")


# ---- addresses ------------------------------------------------------------------------------------------------------


def normal(path_or_address: str) -> str:
    """The full address of a path; an address stays, without a trailing slash.

    Raises BadSetting for a scheme other than file and s3, an empty text, or an s3 address without a bucket.
    """
    text = str(path_or_address)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", text)
    if not text.strip() or "\0" in text:
        raise BadSetting(f"{text!r} is no address. Expected a path, file:///absolute/path or s3://bucket/key.")
    if scheme is None:
        return "file:///" + os.path.abspath(os.path.expanduser(text)).lstrip("/")
    if text.startswith("file:///"):
        return "file:///" + os.path.abspath(text.removeprefix("file://")).lstrip("/")
    bucket, _, key = text.removeprefix("s3://").partition("/")
    if text.startswith("s3://") and bucket:
        return f"s3://{bucket}/{key}".rstrip("/")
    raise BadSetting(
        f"Found the address {text!r}. Expected a path, file:///absolute/path (three slashes) or s3://bucket/key."
    )


def join(address: str, *parts: str) -> str:
    """The address below `address`, parts set apart by one slash."""
    below = [part.strip("/") for part in parts]
    return "/".join([address.rstrip("/"), *(part for part in below if part)])


def _parent(address: str) -> str:
    """The folder or prefix that holds an object; a bucket is its own parent."""
    parent = address.rpartition("/")[0]
    return address if parent.endswith("/") else parent


def _at(address: str) -> Place:
    """The place behind a full address."""
    if address.startswith("file:///"):
        return InFolder(address, Path(address.removeprefix("file://")))
    if address.startswith("s3://"):
        bucket, _, key = address.removeprefix("s3://").partition("/")
        if bucket:
            return InBucket(address, bucket, key)
    raise BadSetting(f"Found the address {address!r}. Expected file:///absolute/path or s3://bucket/key.")


# ---- reading --------------------------------------------------------------------------------------------------------


def read(address: str) -> bytes:
    """All bytes of an object. Raises NotThere, NotAllowed or StoreUnreachable."""
    data = _at(address).read()
    count(read=len(data))
    return data


def read_range(address: str, start: int, size: int) -> bytes:
    """Exactly `size` bytes from byte `start` on. StorageError if the object ends before that."""
    assert start >= 0 and size >= 0, (start, size)
    if size == 0:
        return b""
    data = _at(address).read_range(start, size)
    count(read=len(data))
    if len(data) != size:
        raise StorageError(
            f"{address} is shorter than promised: bytes {start} to {start + size} were asked for, {len(data)} came."
        )
    return data


def read_many(addresses: Iterable[str]) -> list[bytes]:
    """`read` of each, in parallel; the results in the order of the addresses."""
    return in_parallel(read, addresses)


def exists(address: str) -> bool:
    """Whether an object lies exactly here (a folder is none)."""
    return _at(address).exists()


def stored(address: str) -> Stored | None:
    """Size and time of an object; None where nothing lies. No bytes are read."""
    return _at(address).stored()


def stored_many(addresses: Iterable[str]) -> list[Stored | None]:
    """Size and time of each object, in parallel and in order; None where nothing lies. No bytes are read."""
    return in_parallel(lambda address: _at(address).stored(), addresses)


def listing(address: str) -> list[Stored]:
    """All objects below a folder or prefix, sorted by address, none if none; NotThere if the bucket is missing."""
    return [stored for stored in _at(address).below() if not _is_ours(stored)]


def leftovers(address: str) -> list[Stored]:
    """Temporary files, probes and locks below a prefix; old ones are what lost writers left and may be deleted."""
    return [stored for stored in _at(address).below() if _is_ours(stored)]


def unfinished(address: str) -> list[Unfinished]:
    """Multipart uploads below a prefix that were neither completed nor aborted; a folder has none."""
    return _at(address).unfinished()


def local_copy(address: str, folder: Path) -> Path:
    """Download all objects below a prefix into `folder`, keeping the tree; gives `folder`. NotThere if none."""
    objects = listing(address)
    if not objects:
        raise NotThere(f"Nothing lies below {address}; expected the files of a folder there.")

    def fetch(stored: Stored) -> None:
        below = PurePosixPath(stored.address.removeprefix(address).lstrip("/"))
        if ".." in below.parts:
            raise StorageError(f"{stored.address} would be written outside {folder}; rename that object.")
        target = Path(folder, below)
        with writing(f"file://{target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            _at(stored.address).download(target)
            count(read=target.stat().st_size)

    in_parallel(fetch, objects)
    return folder


def _is_ours(stored: Stored) -> bool:
    return stored.address.rpartition("/")[2].startswith(OURS)


def in_parallel(work: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """`work` on each item by a pool of threads, results in order; the first error is raised."""
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="storage") as pool:
        return list(pool.map(work, items))


# ---- writing --------------------------------------------------------------------------------------------------------


def create(address: str, data: bytes) -> bool:
    """Write an object that must not exist yet: True if we wrote it, False if something already lies here.

    Of any number of writers at once exactly one gets True, and nobody ever sees a part of the object. (If the store's
    answer to our own write was lost and the write repeated, even its writer may get False: compare what lies there.)
    On a store without conditional writes it looks first and writes then, which is only sound under `writer_lock`.
    """
    if honours_conditional_writes(_parent(address)):
        ours = _at(address).create(data)
        count(written=len(data) if ours else 0)
        return ours
    if exists(address):
        return False
    replace(address, data)
    return True


def write_once(address: str, data: bytes) -> bool:
    """Write an object whose name stands for its content, unless it is there: whether it had to be written.

    Of any size: a large one goes up in parts. Writers who race write equal bytes, so it does not matter who wins.
    """
    if exists(address):
        return False
    replace(address, data)
    return True


def replace(address: str, data: bytes) -> None:
    """Write an object over whatever lies here, in one step: readers see the old bytes or the new ones."""
    _at(address).replace(data)
    count(written=len(data))


def upload(folder: Path, address: str) -> None:
    """`replace` every file of a folder below `address`, keeping the tree. NotThere if the folder is missing."""
    if not folder.is_dir():
        raise NotThere(f"There is no folder {folder} to upload to {address}.")

    def send(file: Path) -> None:
        with reading(f"file://{file}"):
            _at(join(address, file.relative_to(folder).as_posix())).upload(file)
            count(written=file.stat().st_size)

    in_parallel(send, sorted(file for file in folder.rglob("*") if file.is_file()))


def delete(address: str) -> None:
    """Remove an object; a missing one is fine."""
    _at(address).delete()


def abort(upload: Unfinished) -> None:
    """Give up a multipart upload, so that its parts take no room; one that has ended meanwhile is fine."""
    _at(upload.address).abort(upload.upload)


_honoured: dict[tuple[str, ...], bool] = {}


def honours_conditional_writes(address: str) -> bool:
    """Whether writers below this folder or prefix can race safely; asked once per bucket or device and process.

    The probe creates an object of a unique name twice and deletes it: only a store that refuses the second is trusted.
    """
    where = _at(address).root()
    if where not in _honoured:
        _honoured[where] = _probe(_at(join(address, f"{OURS}probe-{uuid.uuid4().hex}")))
        if not _honoured[where]:
            log.warning("%s does not honour conditional writes: it takes a single writer, under a lock.", address)
    return _honoured[where]


def _probe(place: Place) -> bool:
    try:
        place.create(b"probe")
    except NotConditional:
        return False
    try:
        return not place.create(b"probe")
    except NotConditional:
        return False
    finally:
        try:
            place.delete()
        except StorageError as error:
            log.warning("The probe %s stays behind: %s", place.address, error)


@contextmanager
def writer_lock(address: str) -> Iterator[None]:
    """Hold the right to write below a prefix of a store without conditional writes; elsewhere nothing is needed.

    The lock is an object with its owner, since when, and an expiry that a thread keeps moving on. StorageError, naming
    who holds it, if another writer does, and at the end if another one took it over meanwhile.
    """
    if honours_conditional_writes(address):
        yield
        return
    lock = WriterLock(_at(join(address, f"{OURS}writer.json")))
    with lock.held():
        log.warning("%s takes a single writer; it is %s.", address, lock.owner)
        yield


# ---- for pyarrow and Ray --------------------------------------------------------------------------------------------


def arrow(address: str) -> "tuple[pyarrow.fs.FileSystem, str]":
    """The pyarrow filesystem with our endpoint, credentials and region, and the path of `address` inside it."""
    return _at(address).arrow()
