"""Long files, asynchronously: `POST /v1/jobs` names an object of the store, and its enhanced copy appears beside.

A request names an address below the configured store and nothing else: no other path, and no URL, is ever opened on a
caller's word. The input is copied to disk, enhanced from disk to disk, and uploaded; memory does not grow with its
length. A job's identity is what it does (input as it lies there, options, weights), so asking again finds it: running,
done, or lost with its replica, and then it begins anew. Records lie in the store, where every replica reads them.
"""

import hashlib
import logging
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from pydantic import Field

from serving.engine import Engine
from serving.long_files import enhance_file
from serving.messages import Limits, ServedVersion
from serving.options import Options
from serving.wire import Refused
from simulation import storage
from simulation.errors import BadSetting, NotThere, UnmuffleError
from simulation.home import Home
from simulation.schema import Schema

log = logging.getLogger(__name__)

COPY_BYTES = 1 << 24
"""Of the input that are in memory at a time while it is copied to disk."""
TELL_S = 2.0
"""How often a running job's record is written."""
LOST_S = 60.0
"""A running job whose record is older than this has lost its replica."""

State = Literal["queued", "running", "done", "failed", "cancelled"]


class Ask(Schema):
    """Body of `POST /v1/jobs`."""

    address: str = Field(max_length=2000)
    """Of an object below the configured store: its full address, or its place below the store."""
    options: Options = Options()


class Job(Schema):
    """A job as it stands: the record in the store, and the answer of `GET /v1/jobs/ID`."""

    id: str
    ask: Ask
    version: str
    weights_sha256: str
    state: State
    updated: float
    """Seconds since the epoch."""
    done_s: float = 0.0
    """Of the audio."""
    result: str = ""
    """Address of the enhanced file, once there is one."""
    result_bytes: int = 0
    error: str = ""

    @property
    def open(self) -> bool:
        """Whether somebody is at it."""
        return self.state in ("queued", "running") and time.time() - self.updated < LOST_S


class Cancelled(Exception):
    """Raised in a job that is to end."""


class Jobs:
    """The jobs of one replica: one at a time."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, "jobs")
        self._here: dict[str, Job] = {}
        self._cancelled: set[str] = set()

    def begin(self, ask: Ask, engine: Engine, version: ServedVersion, limits: Limits) -> Job:
        """The job that does this: found, or begun. Raises `Refused`, `NotThere`."""
        address = inside_store(ask.address)
        found = storage.stored(address)
        if found is None:
            raise NotThere(f"Nothing lies at {address}; expected an audio file of the store.")
        if found.size > limits.max_job_mb * 1e6:
            raise Refused(
                413, "too_large", f"{address} has {found.size / 1e6:.0f} MB; a job takes {limits.max_job_mb:g} MB."
            )
        ask = ask.model_copy(update={"address": address})
        identity = f"{ask.digest()} {found.size} {found.modified} {version.weights_sha256}"
        id = hashlib.sha256(identity.encode()).hexdigest()[:24]
        known = self.look(id)
        if known is not None and (known.open or known.state == "done"):
            return known
        if len(self._here) >= limits.max_jobs:
            raise Refused(429, "too_many", f"{len(self._here)} jobs wait here, which is the most.", 30)
        job = Job(
            id=id,
            ask=ask,
            version=version.name,
            weights_sha256=version.weights_sha256,
            state="queued",
            updated=time.time(),
        )
        self._cancelled.discard(id)
        self._tell(job)
        self._here[id] = job
        self._worker.submit(self._run, job, engine)
        return job

    def look(self, id: str) -> Job | None:
        """A job of this replica or, by its record, of another; None where there is none."""
        if id in self._here:
            return self._here[id]
        try:
            return Job.parse(storage.read(_record(id)), _record(id))
        except (NotThere, BadSetting):
            return None

    def cancel(self, id: str) -> None:
        """Let a job of this replica end soon."""
        self._cancelled.add(id)

    def _run(self, job: Job, engine: Engine) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="unmuffle-job-") as folder:
                self._finish(self._done(job, engine, Path(folder)))
        except Cancelled:
            self._finish(job, state="cancelled")
        except UnmuffleError as error:
            self._finish(job, state="failed", error=str(error))
        except Exception:
            log.exception("job %s failed", job.id)
            self._finish(job, state="failed", error="The service failed on this file; its log says why.")

    def _done(self, job: Job, engine: Engine, folder: Path) -> Job:
        told = 0.0

        def progress(done_s: float) -> None:
            nonlocal told
            if job.id in self._cancelled:
                raise Cancelled
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                self._here[job.id] = self._told(job, state="running", done_s=done_s)

        progress(0.0)
        source, out = folder / "input", folder / "out"
        out.mkdir()
        _copy(job.ask.address, source, lambda: progress(0.0))
        seconds, _ = enhance_file(engine, job.ask.options, source, out / "enhanced.flac", progress)
        size = (out / "enhanced.flac").stat().st_size
        source.unlink()
        storage.upload(out, _folder(job.id))
        result = storage.join(_folder(job.id), "enhanced.flac")
        return self._told(job, state="done", done_s=seconds, result=result, result_bytes=size)

    def _told(self, job: Job, **changes: object) -> Job:
        new = job.model_copy(update=changes | {"updated": time.time()})
        self._tell(new)
        return new

    def _finish(self, job: Job, **changes: object) -> None:
        try:
            self._told(job, **changes)
        except UnmuffleError as error:  # the record stays as it was, and grows old
            log.error("what became of job %s cannot be written down: %s", job.id, error)
        finally:
            self._here.pop(job.id, None)

    @staticmethod
    def _tell(job: Job) -> None:
        storage.replace(_record(job.id), job.canonical())


def inside_store(named: str) -> str:
    """The full address of an object of the configured store; `Refused` for every other."""
    store = Home.current().store
    try:
        within = "://" in named or named.startswith("/")
        address = storage.normal(named if within else storage.join(store, named))
    except (BadSetting, ValueError):
        address = ""
    parts = address.removeprefix("file://").removeprefix("s3://").split("/")
    if not _below(address, store) or any(part in (".", "..") for part in parts):
        raise Refused(
            403, "not_allowed", f"{named[:200]!r} is not inside the store of this service. Expected an object below it."
        )
    return address


def _below(address: str, store: str) -> bool:
    """Also through links: what a link of a folder store points to must lie in the store as well."""
    if not address.startswith(store.rstrip("/") + "/"):
        return False
    if not address.startswith("file://"):
        return True
    real, root = (Path(each.removeprefix("file://")).resolve() for each in (address, store))
    return real.is_relative_to(root)


def _folder(id: str) -> str:
    return storage.join(Home.current().store, "jobs", id)


def _record(id: str) -> str:
    return storage.join(_folder(id), "job.json")


def _copy(address: str, target: Path, each: Callable[[], None]) -> None:
    """An object to disk, piece by piece."""
    found = storage.stored(address)
    if found is None:
        raise NotThere(f"Nothing lies at {address} any more.")
    with target.open("wb") as file:
        for start in range(0, found.size, COPY_BYTES):
            file.write(storage.read_range(address, start, min(COPY_BYTES, found.size - start)))
            each()
