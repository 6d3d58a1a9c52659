"""A bucket of S3 as an object store: whole objects, one winner, and answers that are asked for again if they break off.

Requests are repeated by boto3 (adaptive: it slows down where a server asks for it). What it does not repeat is ours: a
body that ends too early or has another checksum than the server stated, and the end of a multipart upload whose answer
was lost. What servers differ in is left alone: nothing rests on If-Match (Ceph 16 wants it unquoted), on conditions of
multipart uploads (Ceph ignores them) or on DeleteObjects (Swift wants its Content-MD5).
"""

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import boto3.exceptions
import botocore.config
import botocore.exceptions
from boto3.s3.transfer import TransferConfig

from simulation.errors import BadSetting, NotAllowed, NotThere, StorageError, StoreUnreachable, UnmuffleError
from simulation.place import PARALLEL, NotConditional, Stored, Unfinished

if TYPE_CHECKING:
    import pyarrow.fs

ATTEMPTS = 5
"""How often a request is tried in all, unless AWS_MAX_ATTEMPTS says otherwise; bodies that break off, always."""
IN_PARTS = 64 << 20
"""Bytes above which an object goes up in parts, of which a lost one alone is sent again."""
MARK = "unmuffle-upload"
"""Metadata that tells an upload from others to the same place."""


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
            return ("s3", client().meta.endpoint_url, self.bucket)

    def read(self) -> bytes:
        """A GET."""
        return self._get()

    def read_range(self, start: int, size: int) -> bytes:
        """A GET with a range."""
        return self._get(Range=f"bytes={start}-{start + size - 1}")

    def exists(self) -> bool:
        """A HEAD; nothing exists in a missing bucket either."""
        with suppress(NotThere), _bucket_answers(self):
            client().head_object(Bucket=self.bucket, Key=self.key)
            return True
        return False

    def stored(self) -> Stored | None:
        """A HEAD."""
        with suppress(NotThere), _bucket_answers(self):
            head = client().head_object(Bucket=self.bucket, Key=self.key)
            return Stored(self.address, head["ContentLength"], head["LastModified"].timestamp())
        return None

    def below(self) -> list[Stored]:
        """Page after page."""
        prefix = self.key and self.key.rstrip("/") + "/"
        with _bucket_answers(self):
            pages = client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            found = [self._stored(entry) for page in pages for entry in page.get("Contents", [])]
        return sorted(found, key=lambda stored: stored.address)

    def _stored(self, entry: dict[str, Any]) -> Stored:
        return Stored(f"s3://{self.bucket}/{entry['Key']}", entry["Size"], entry["LastModified"].timestamp())

    def create(self, data: bytes) -> bool:
        """A single PUT; 412 means something is there, 409 that another write was under way, which we look at again."""
        for _ in range(ATTEMPTS):
            with _bucket_answers(self):
                try:
                    client().put_object(Bucket=self.bucket, Key=self.key, Body=data, IfNoneMatch="*")
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
        """A single PUT, or parts if there is much of it; the object appears when the last one is there."""
        with _bucket_answers(self):
            if len(data) > IN_PARTS:
                self._send(io.BytesIO(data))
            else:
                client().put_object(Bucket=self.bucket, Key=self.key, Body=data)

    def upload(self, file: Path) -> None:
        """In parts if the file is large."""
        with _bucket_answers(self), file.open("rb") as stream:
            self._send(stream)

    def _send(self, stream: IO[bytes]) -> None:
        """A multipart upload. If the answer to its end was lost, the end is refused when it is asked for again."""
        mark = uuid.uuid4().hex
        try:  # not upload_file, which would hide the server's answer in a text
            client().upload_fileobj(stream, self.bucket, self.key, ExtraArgs={"Metadata": {MARK: mark}}, Config=PARTS)
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
            if self._mark() != mark:
                raise

    def _mark(self) -> str | None:
        """That of the upload which brought the object that lies here."""
        with suppress(botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
            head = client().head_object(Bucket=self.bucket, Key=self.key)
            return str(head["Metadata"].get(MARK, "")) or None
        return None

    def unfinished(self) -> list[Unfinished]:
        """Multipart uploads, each as young as its youngest part. MinIO lists none, and drops them itself in a day."""
        prefix = self.key and self.key.rstrip("/") + "/"
        with _bucket_answers(self):
            pages = client().get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix)
            found = [self._unfinished(entry) for page in pages for entry in page.get("Uploads", [])]
        return sorted(found, key=lambda upload: upload.address)

    def _unfinished(self, entry: dict[str, Any]) -> Unfinished:
        key, upload = entry["Key"], entry["UploadId"]
        parts, times = 0, [entry["Initiated"].timestamp()]
        with suppress(NotThere), _bucket_answers(self):  # ended meanwhile
            pages = client().get_paginator("list_parts").paginate(Bucket=self.bucket, Key=key, UploadId=upload)
            for part in (part for page in pages for part in page.get("Parts", [])):
                parts += part["Size"]
                times.append(part["LastModified"].timestamp())
        return Unfinished(f"s3://{self.bucket}/{key}", parts, max(times), upload)

    def abort(self, upload: str) -> None:
        """An AbortMultipartUpload; one that has ended meanwhile stays as it is."""
        with suppress(NotThere), _bucket_answers(self):
            client().abort_multipart_upload(Bucket=self.bucket, Key=self.key, UploadId=upload)

    def download(self, target: Path) -> None:
        """To a temporary file that is renamed at the end."""
        with _bucket_answers(self):
            client().download_file(self.bucket, self.key, str(target))

    def delete(self) -> None:
        """A DELETE, which S3 answers alike whether something was there or not."""
        with suppress(NotThere), _bucket_answers(self):
            client().delete_object(Bucket=self.bucket, Key=self.key)

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
        return client().get_object(Bucket=self.bucket, Key=self.key, **options)["Body"].read()


PARTS = TransferConfig(multipart_threshold=IN_PARTS, multipart_chunksize=IN_PARTS // 4, max_concurrency=4)
BROKEN_BODY = (
    botocore.exceptions.IncompleteReadError,
    botocore.exceptions.ResponseStreamingError,
    botocore.exceptions.ReadTimeoutError,
    botocore.exceptions.FlexibleChecksumError,
)
"""Errors of a body, whose status and headers had arrived well."""


def client() -> Any:
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
    settings = client().meta
    region = settings.region_name
    options: dict[str, Any] = {"region": "us-east-1" if region == "aws-global" else region}
    endpoint = urlsplit(settings.endpoint_url)
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
