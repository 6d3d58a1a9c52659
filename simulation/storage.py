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

import errno
import json
import logging
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.config
import botocore.exceptions

from simulation.errors import BadSetting, NotAllowed, NotThere, StorageError, StoreUnreachable, UnmuffleError

if TYPE_CHECKING:
    import pyarrow.fs

log = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")

OURS = ".unmuffle-"
"""Prefix of the names that are no objects of anybody's: temporary files, probes, locks."""

LOCK_EXPIRY_S = 120.0
"""A writer lock that was not refreshed for so long is free to take."""
LOCK_REFRESH_S = 30.0
"""How often its holder refreshes it."""
LOCK_SETTLE_S = 2.0
"""How long a new holder waits before it looks whether somebody wrote a lock over its own."""

ATTEMPTS = 5
"""How often a request to S3 is tried in all, unless AWS_MAX_ATTEMPTS says otherwise."""
PARALLEL = 16
"""Threads of `read_many`, `local_copy` and `upload`."""


@dataclass(frozen=True)
class Stored:
    """One object in a listing."""

    address: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since the epoch."""


# ---- addresses ------------------------------------------------------------------------------------------------------


def normal(path_or_address: str) -> str:
    """A path made an absolute `file://` address; an `s3://` address without its trailing slash.

    Raises BadSetting for any other scheme, an empty text, or an s3 address without a bucket.
    """
    text = str(path_or_address)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", text)
    if not text.strip() or "\0" in text:
        raise BadSetting(f"{text!r} is no address. Expected a path, file:///absolute/path or s3://bucket/key.")
    if scheme is None:
        return "file://" + os.path.abspath(os.path.expanduser(text))
    if text.startswith("file:///"):
        return "file://" + os.path.abspath("/" + text.removeprefix("file://").lstrip("/"))
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


def _at(address: str) -> "_InFolder | _InBucket":
    """The place behind a full address."""
    if address.startswith("file:///"):
        return _InFolder(address, Path(address.removeprefix("file://")))
    if address.startswith("s3://"):
        bucket, _, key = address.removeprefix("s3://").partition("/")
        if bucket:
            return _InBucket(address, bucket, key)
    raise BadSetting(f"Found the address {address!r}. Expected file:///absolute/path or s3://bucket/key.")


# ---- reading --------------------------------------------------------------------------------------------------------


def read(address: str) -> bytes:
    """All bytes of an object. Raises NotThere, NotAllowed or StoreUnreachable."""
    return _at(address).read()


def read_range(address: str, start: int, size: int) -> bytes:
    """Exactly `size` bytes from byte `start` on. StorageError if the object ends before that."""
    assert start >= 0 and size >= 0, (start, size)
    if size == 0:
        return b""
    data = _at(address).read_range(start, size)
    if len(data) != size:
        raise StorageError(
            f"{address} is shorter than promised: bytes {start} to {start + size} were asked for, {len(data)} came."
        )
    return data


def read_many(addresses: Iterable[str]) -> list[bytes]:
    """`read` of each, in parallel; the results in the order of the addresses."""
    return _in_parallel(read, addresses)


def exists(address: str) -> bool:
    """Whether an object lies exactly here (a folder is none)."""
    return _at(address).exists()


def listing(address: str) -> list[Stored]:
    """All objects below a folder or prefix, sorted by address, none if none; NotThere if the bucket is missing."""
    return [stored for stored in _at(address).below() if not _is_ours(stored)]


def leftovers(address: str) -> list[Stored]:
    """Temporary files, probes and locks below a prefix; old ones are what lost writers left and may be deleted."""
    return [stored for stored in _at(address).below() if _is_ours(stored)]


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
        with _folder_answers(normal(str(target))):
            target.parent.mkdir(parents=True, exist_ok=True)
            _at(stored.address).download(target)

    _in_parallel(fetch, objects)
    return folder


def _is_ours(stored: Stored) -> bool:
    return stored.address.rpartition("/")[2].startswith(OURS)


def _in_parallel(work: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
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
        return _at(address).create(data)
    if exists(address):
        return False
    replace(address, data)
    return True


def replace(address: str, data: bytes) -> None:
    """Write an object over whatever lies here, in one step: readers see the old bytes or the new ones."""
    _at(address).replace(data)


def upload(folder: Path, address: str) -> None:
    """`replace` every file of a folder below `address`, keeping the tree. NotThere if the folder is missing."""
    if not folder.is_dir():
        raise NotThere(f"There is no folder {folder} to upload to {address}.")

    def send(file: Path) -> None:
        _at(join(address, file.relative_to(folder).as_posix())).upload(file)

    _in_parallel(send, sorted(file for file in folder.rglob("*") if file.is_file()))


def delete(address: str) -> None:
    """Remove an object; a missing one is fine."""
    _at(address).delete()


_honoured: dict[tuple[str, ...], bool] = {}


def honours_conditional_writes(address: str) -> bool:
    """Whether writers below this folder or prefix can race safely; asked once per bucket or device and process.

    The probe creates an object of a unique name twice and deletes it: only a store that refuses the second is trusted.
    """
    where = _at(address).root()
    if where not in _honoured:
        _honoured[where] = _probe(join(address, f"{OURS}probe-{uuid.uuid4().hex}"))
        if not _honoured[where]:
            log.warning("%s does not honour conditional writes: it takes a single writer, under a lock.", address)
    return _honoured[where]


def _probe(address: str) -> bool:
    place = _at(address)
    try:
        return place.create(b"probe") and not place.create(b"probe")
    except _NotConditional:
        return False
    finally:
        try:
            place.delete()
        except StorageError as error:
            log.warning("The probe %s stays behind: %s", address, error)


class _NotConditional(StorageError):
    """The store said itself that it has no conditional writes."""


# ---- a single writer ------------------------------------------------------------------------------------------------


@contextmanager
def writer_lock(address: str) -> Iterator[None]:
    """Hold the right to write below a prefix of a store without conditional writes; elsewhere nothing is needed.

    The lock is an object with its owner, since when, and an expiry that a thread keeps moving on. StorageError if
    another writer holds it, and at the end if another one took it from us meanwhile.
    """
    if honours_conditional_writes(address):
        yield
        return
    lock = _WriterLock(join(address, f"{OURS}writer.json"))
    lock.take()
    log.warning("%s takes a single writer; this one is %s.", address, lock.owner)
    try:
        with lock.refreshed():
            yield
        lock.check()
    finally:
        lock.release()


class _WriterLock:
    """The lock object. Without conditional writes it cannot be exact: it waits, and looks again whose it is."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.owner = f"{socket.gethostname()} process {os.getpid()}"
        self.token = uuid.uuid4().hex
        self.since_s = time.time()

    def take(self) -> None:
        self.check()
        self.write()
        time.sleep(LOCK_SETTLE_S)
        self.check()

    def check(self) -> None:
        """StorageError if the lock there is alive and not ours."""
        found = self.found()
        if found and found["token"] != self.token and found["expires_s"] > time.time():
            since, expires = _clock(found["since_s"]), _clock(found["expires_s"])
            raise StorageError(
                f"{self.address} is held by {found['owner']} since {since}, and this store takes a single writer. "
                f"Wait for it to end; if it died, the lock is free after {expires}."
            )

    def found(self) -> dict[str, Any] | None:
        try:
            return json.loads(read(self.address))
        except NotThere:
            return None
        except ValueError:
            raise StorageError(f"{self.address} is no writer lock of ours; delete it if nobody writes.") from None

    def write(self) -> None:
        lock = {"owner": self.owner, "token": self.token, "since_s": self.since_s}
        replace(self.address, json.dumps(lock | {"expires_s": time.time() + LOCK_EXPIRY_S}).encode())

    @contextmanager
    def refreshed(self) -> Iterator[None]:
        """Move the expiry on in a thread, for as long as the lock is ours."""
        done = threading.Event()

        def refresh() -> None:
            while not done.wait(LOCK_REFRESH_S):
                try:
                    self.check()
                    self.write()
                except StorageError as error:
                    log.error("The writer lock was not refreshed: %s", error)

        thread = threading.Thread(target=refresh, name="writer lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def release(self) -> None:
        with suppress(StorageError):
            found = self.found()
            if found and found["token"] == self.token:
                delete(self.address)


def _clock(epoch_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch_s))


# ---- for pyarrow and Ray --------------------------------------------------------------------------------------------


def arrow(address: str) -> "tuple[pyarrow.fs.FileSystem, str]":
    """The pyarrow filesystem with our endpoint, credentials and region, and the path of `address` inside it."""
    return _at(address).arrow()


# ---- a folder -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _InFolder:
    """A path of the local (or a mounted) file system."""

    address: str
    path: Path

    def root(self) -> tuple[str, ...]:
        with _folder_answers(self.address):
            self.path.mkdir(parents=True, exist_ok=True)
            return ("file", str(self.path.stat().st_dev))

    def read(self) -> bytes:
        with _folder_answers(self.address):
            return self.path.read_bytes()

    def read_range(self, start: int, size: int) -> bytes:
        with _folder_answers(self.address), self.path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def exists(self) -> bool:
        with suppress(NotThere), _folder_answers(self.address):
            self.path.stat()
            return self.path.is_file()
        return False

    def below(self) -> list[Stored]:
        with _folder_answers(self.address):
            return sorted(_files_below(self.path), key=lambda stored: stored.address)

    def create(self, data: bytes) -> bool:
        with _folder_answers(self.address), self._temporary() as temporary:
            _write_through(temporary, data)
            try:
                os.link(temporary, self.path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                    raise _NotConditional(f"{self.address}: this file system has no hard links.") from error
                raise
            _write_folder_through(self.path.parent)
        return True

    def replace(self, data: bytes) -> None:
        with _folder_answers(self.address), self._temporary() as temporary:
            _write_through(temporary, data)
            self._put(temporary)

    def upload(self, file: Path) -> None:
        with _folder_answers(self.address), self._temporary() as temporary:
            shutil.copyfile(file, temporary)
            with temporary.open("rb") as copy:
                os.fsync(copy.fileno())
            self._put(temporary)

    def download(self, target: Path) -> None:
        with _folder_answers(self.address):
            shutil.copyfile(self.path, target)

    def delete(self) -> None:
        with suppress(NotThere), _folder_answers(self.address):
            self.path.unlink()

    def arrow(self) -> "tuple[pyarrow.fs.FileSystem, str]":
        import pyarrow.fs

        return pyarrow.fs.LocalFileSystem(), str(self.path)

    def _put(self, temporary: Path) -> None:
        temporary.replace(self.path)
        _write_folder_through(self.path.parent)

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
    """Every file below a folder, through links to folders too, each folder once; a missing folder has none."""
    seen: set[str] = set()
    for path, folders, files in os.walk(folder, onerror=_not_missing, followlinks=True):
        if (real := os.path.realpath(path)) in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in files:
            with suppress(FileNotFoundError):  # deleted since, or a link to nothing
                status = os.stat(os.path.join(path, name))
                yield Stored("file://" + os.path.join(path, name), status.st_size, status.st_mtime)


def _not_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _write_through(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write_folder_through(folder: Path) -> None:
    """Make the names in a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _folder_answers(address: str) -> Iterator[None]:
    """Turn the operating system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise _folder_error(error, address) from error


def _folder_error(error: OSError, address: str) -> StorageError:
    reason = error.strerror or str(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError | FileExistsError):
        return NotThere(f"Nothing lies at {address} ({reason}). Look at the path, or build what should be there.")
    if isinstance(error, IsADirectoryError):
        return NotThere(f"{address} is a folder; a single object was expected.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotAllowed(
            f"{address} refuses: {reason}. Change its owner or mode (chmod, chown), or choose another store."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"No space is left for {address} ({reason}). Free some, or choose another store (UNMUFFLE_STORE)."
        )
    return StorageError(f"{address} failed: {reason}.")


# ---- a bucket -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _InBucket:
    """A key of an S3 bucket."""

    address: str
    bucket: str
    key: str

    def root(self) -> tuple[str, ...]:
        with _bucket_answers(self):
            return ("s3", _client().meta.endpoint_url, self.bucket)

    def read(self) -> bytes:
        return self._get()

    def read_range(self, start: int, size: int) -> bytes:
        return self._get(Range=f"bytes={start}-{start + size - 1}")

    def exists(self) -> bool:
        with suppress(NotThere), _bucket_answers(self):
            _client().head_object(Bucket=self.bucket, Key=self.key)
            return True
        return False

    def below(self) -> list[Stored]:
        prefix = self.key and self.key.rstrip("/") + "/"
        with _bucket_answers(self):
            pages = _client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            found = [self._stored(entry) for page in pages for entry in page.get("Contents", [])]
        return sorted(found, key=lambda stored: stored.address)

    def _stored(self, entry: dict[str, Any]) -> Stored:
        return Stored(f"s3://{self.bucket}/{entry['Key']}", entry["Size"], entry["LastModified"].timestamp())

    def create(self, data: bytes) -> bool:
        """A single PUT; 412 means something is there, 409 that another write was under way, which we look at again."""
        for _ in range(ATTEMPTS):
            with _bucket_answers(self):
                try:
                    _client().put_object(Bucket=self.bucket, Key=self.key, Body=data, IfNoneMatch="*")
                    return True
                except botocore.exceptions.ClientError as error:
                    status = _status(error)
                    if status == 501:
                        raise _NotConditional(f"{self.address}: this server has no conditional writes.") from error
                    if status not in (409, 412):
                        raise
            if status == 412 or self.exists():
                return False
        raise StoreUnreachable(
            f"{self.address}: the store reported a conflict {ATTEMPTS} times, but nothing lies there."
        )

    def replace(self, data: bytes) -> None:
        with _bucket_answers(self):
            _client().put_object(Bucket=self.bucket, Key=self.key, Body=data)

    def upload(self, file: Path) -> None:
        with _bucket_answers(self):
            _client().upload_file(str(file), self.bucket, self.key)

    def download(self, target: Path) -> None:
        with _bucket_answers(self):
            _client().download_file(self.bucket, self.key, str(target))

    def delete(self) -> None:
        with suppress(NotThere), _bucket_answers(self):
            _client().delete_object(Bucket=self.bucket, Key=self.key)

    def arrow(self) -> "tuple[pyarrow.fs.FileSystem, str]":
        import pyarrow.fs

        with _bucket_answers(self):
            return pyarrow.fs.S3FileSystem(**_arrow_options()), f"{self.bucket}/{self.key}".rstrip("/")

    def _get(self, **options: str) -> bytes:
        with _bucket_answers(self):
            for _ in range(ATTEMPTS - 1):  # boto3 repeats requests, not bodies that break off
                with suppress(*BROKEN_BODY):
                    return self._body(options)
            return self._body(options)

    def _body(self, options: dict[str, str]) -> bytes:
        return _client().get_object(Bucket=self.bucket, Key=self.key, **options)["Body"].read()


BROKEN_BODY = (
    botocore.exceptions.IncompleteReadError,
    botocore.exceptions.ResponseStreamingError,
    botocore.exceptions.ReadTimeoutError,
)


def _client() -> Any:
    """The S3 client of this process for the present environment; clients are thread safe but must not cross a fork."""
    settings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    return _new_client(os.getpid(), settings)


@lru_cache(maxsize=8)
def _new_client(process: int, settings: tuple[tuple[str, str], ...]) -> Any:
    attempts = int(dict(settings).get("AWS_MAX_ATTEMPTS", ATTEMPTS))
    config = botocore.config.Config(
        retries={"mode": "adaptive", "total_max_attempts": attempts},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=2 * PARALLEL,
    )
    return boto3.session.Session().client("s3", config=config)


def _arrow_options() -> dict[str, Any]:
    """What pyarrow needs to reach the same server as our client, as the same user."""
    client = _client()
    options: dict[str, Any] = {
        "region": client.meta.region_name if client.meta.region_name != "aws-global" else "us-east-1"
    }
    endpoint = urlsplit(client.meta.endpoint_url)
    if not (endpoint.hostname or "").endswith(".amazonaws.com"):
        options |= {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme}
    if "AWS_ACCESS_KEY_ID" in os.environ:  # otherwise pyarrow follows profiles and roles itself, and renews them
        options |= {
            "access_key": os.environ["AWS_ACCESS_KEY_ID"],
            "secret_key": os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
            "session_token": os.environ.get("AWS_SESSION_TOKEN"),
        }
    return options


@contextmanager
def _bucket_answers(place: _InBucket) -> Iterator[None]:
    """Turn botocore's errors into ours."""
    try:
        yield
    except botocore.exceptions.ClientError as error:
        raise _refusal(error, place) from error
    except (botocore.exceptions.BotoCoreError, boto3.exceptions.Boto3Error, ValueError) as error:
        raise _no_answer(error, place) from error


CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)"


def _status(error: botocore.exceptions.ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _refusal(error: botocore.exceptions.ClientError, place: _InBucket) -> StorageError:
    """Our error for an answer that says no."""
    status, code = _status(error), error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", "")
    if code == "NoSuchBucket":
        return NotThere(
            f"There is no bucket {place.bucket!r} at {_endpoint()}. "
            "Create it, or look at its name and at AWS_ENDPOINT_URL."
        )
    if status == 404:
        return NotThere(f"Nothing lies at {place.address}.")
    if status in (401, 403):
        return NotAllowed(
            f"{_endpoint()} refuses access to {place.address} ({code or status}). "
            f"Set {CREDENTIALS} to a user who may read and write the bucket {place.bucket!r}."
        )
    if status >= 500 or status == 429 or code == "SlowDown":
        return StoreUnreachable(
            f"{_endpoint()} failed on {place.address} again and again ({status} {code}). Try later."
        )
    return StorageError(f"{_endpoint()} refused {place.address}: {status} {code} {message}".rstrip() + ".")


def _no_answer(error: Exception, place: _InBucket) -> UnmuffleError:
    """Our error where no answer came, or where boto3 could not even ask."""
    problems = botocore.exceptions
    if isinstance(error, problems.NoCredentialsError | problems.PartialCredentialsError | problems.ProfileNotFound):
        return NotAllowed(f"No credentials for {place.address} ({error}). Set {CREDENTIALS}.")
    if isinstance(error, problems.ParamValidationError | ValueError):
        return BadSetting(f"{place.address} cannot be asked for: {error} Look at the name and at AWS_ENDPOINT_URL.")
    return StoreUnreachable(
        f"No usable answer for {place.address}: {error} Look at AWS_ENDPOINT_URL and at the network."
    )


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "Amazon S3"
