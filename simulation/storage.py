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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import boto3
import boto3.exceptions
import botocore.config
import botocore.exceptions

from simulation.errors import BadSetting, NotAllowed, NotThere, StorageError, StoreUnreachable, UnmuffleError
from simulation.folder import InFolder, reading, writing
from simulation.place import OURS, NotConditional, Place, Stored
from simulation.writer_lock import WriterLock

if TYPE_CHECKING:
    import pyarrow.fs

__all__ = [
    "Stored",
    "arrow",
    "create",
    "delete",
    "exists",
    "honours_conditional_writes",
    "join",
    "leftovers",
    "listing",
    "local_copy",
    "normal",
    "read",
    "read_many",
    "read_range",
    "replace",
    "upload",
    "writer_lock",
]

log = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")

ATTEMPTS = 5
"""How often a request to S3 is tried in all, unless AWS_MAX_ATTEMPTS says otherwise."""
PARALLEL = 16
"""Threads of `read_many`, `local_copy` and `upload`."""


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


def stored_many(addresses: Iterable[str]) -> list[Stored | None]:
    """Size and time of each object, in parallel and in order; None where nothing lies. No bytes are read."""
    return _in_parallel(lambda address: _at(address).stored(), addresses)


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
        with writing(f"file://{target}"):
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
        with reading(f"file://{file}"):
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


# ---- a bucket -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InBucket:
    """A key of an S3 bucket; the methods are those of `simulation.place.Place`."""

    address: str
    bucket: str
    key: str

    def root(self) -> tuple[str, ...]:
        """The bucket and its server; nothing is asked."""
        with _bucket_answers(self):
            return ("s3", _client().meta.endpoint_url, self.bucket)

    def read(self) -> bytes:
        """A GET."""
        return self._get()

    def read_range(self, start: int, size: int) -> bytes:
        """A GET with a range."""
        return self._get(Range=f"bytes={start}-{start + size - 1}")

    def exists(self) -> bool:
        """A HEAD; nothing exists in a missing bucket either."""
        with suppress(NotThere), _bucket_answers(self):
            _client().head_object(Bucket=self.bucket, Key=self.key)
            return True
        return False

    def stored(self) -> Stored | None:
        """A HEAD."""
        with suppress(NotThere), _bucket_answers(self):
            head = _client().head_object(Bucket=self.bucket, Key=self.key)
            return Stored(self.address, head["ContentLength"], head["LastModified"].timestamp())
        return None

    def below(self) -> list[Stored]:
        """Page after page."""
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
                        raise NotConditional(f"{self.address}: this server has no conditional writes.") from error
                    if status not in (409, 412):
                        raise
            if status == 412 or self.exists():
                return False
        raise StoreUnreachable(
            f"{self.address}: the store reported a conflict {ATTEMPTS} times, but nothing lies there."
        )

    def replace(self, data: bytes) -> None:
        """A single PUT."""
        with _bucket_answers(self):
            _client().put_object(Bucket=self.bucket, Key=self.key, Body=data)

    def upload(self, file: Path) -> None:
        """In parts if the file is large; it appears when the last one is there."""
        with _bucket_answers(self), file.open("rb") as stream:  # upload_file would hide the server's answer in a text
            _client().upload_fileobj(stream, self.bucket, self.key)

    def download(self, target: Path) -> None:
        """To a temporary file that is renamed at the end."""
        with _bucket_answers(self):
            _client().download_file(self.bucket, self.key, str(target))

    def delete(self) -> None:
        """A DELETE, which S3 answers alike whether something was there or not."""
        with suppress(NotThere), _bucket_answers(self):
            _client().delete_object(Bucket=self.bucket, Key=self.key)

    def arrow(self) -> "tuple[pyarrow.fs.FileSystem, str]":
        """pyarrow's own S3 client, set up like ours."""
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


BROKEN_BODY = (botocore.exceptions.IncompleteReadError, botocore.exceptions.ResponseStreamingError)


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
        read_timeout=30,
        max_pool_connections=2 * PARALLEL,
    )
    return boto3.session.Session().client("s3", config=config)


def _arrow_options() -> dict[str, Any]:
    """What pyarrow needs to reach the same server as our client, as the same user."""
    client = _client()
    region = client.meta.region_name
    options: dict[str, Any] = {"region": "us-east-1" if region == "aws-global" else region}
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
def _bucket_answers(place: InBucket) -> Iterator[None]:
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


def _refusal(error: botocore.exceptions.ClientError, place: InBucket) -> StorageError:
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
    if status == 416:
        return StorageError(f"{place.address} is shorter than promised.")
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


def _no_answer(error: Exception, place: InBucket) -> UnmuffleError:
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
