"""Long files, asynchronously: `POST /v1/jobs` names an object of the store, and its enhanced copy appears beside.

A request names an address below the configured store and nothing else: no other path, and no URL, is ever opened on a
caller's word. The input is copied to disk, enhanced from disk to disk, and uploaded; memory does not grow with its
length. A job's identity is what it does (input as it lies there, options, weights), so asking again finds it: running,
done, or lost with its replica, and then it begins anew. Records lie in the store, where every replica reads them: the
replica that has a job keeps its record fresh, also while the job waits or its result is uploaded.
"""

import hashlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Literal

from pydantic import Field

from serving.engine import Engine
from serving.long_files import check_options, enhance_file
from serving.messages import Limits, ServedVersion
from serving.options import Options
from serving.wire import Refused
from simulation import storage
from simulation.errors import BadSetting, NotThere, StorageError, UnmuffleError
from simulation.home import Home
from simulation.schema import Schema
from simulation.storage import Stored

log = logging.getLogger(__name__)

COPY_BYTES = 1 << 24
"""Of the input that are in memory at a time while it is copied to disk."""
TELL_S = 2.0
"""How often a running job's record is written."""
LOST_S = 60.0
"""A job whose record is older than this, and says that it waits or runs, has lost its replica."""
LOST = "The replica that had this job is gone. Ask for the same again, and it begins anew."

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
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in ("done", "failed", "cancelled")

    @property
    def age_s(self) -> float:
        """Since somebody said how it stands."""
        return time.time() - self.updated


class Cancelled(Exception):
    """Raised in a job that is to end."""


class Jobs:
    """The jobs of one replica: one at a time. Its methods read and write the store, and may be called by any thread."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, "jobs")
        self._lock = RLock()
        """Around what is here, and around records: an ended job's is never written over by an older one."""
        self._here: dict[str, Job] = {}
        self._cancelled: set[str] = set()
        self._empty = Event()

    def begin(self, ask: Ask, engine: Engine, version: ServedVersion, limits: Limits) -> Job:
        """The job that does this: found, or begun. Raises `Refused`, `NotThere`."""
        check_options(engine, ask.options)
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
        with self._lock:
            known = self.look(id)
            if known is not None and known.state in ("queued", "running", "done"):
                return known
            if len(self._here) >= limits.max_jobs:
                raise Refused(429, "too_many", f"{len(self._here)} jobs wait here, which is the most.", 30)
            return self._begun(id, ask, found, engine, version)

    def _begun(self, id: str, ask: Ask, found: Stored, engine: Engine, version: ServedVersion) -> Job:
        job = Job(
            id=id,
            ask=ask,
            version=version.name,
            weights_sha256=version.weights_sha256,
            state="queued",
            updated=time.time(),
        )
        storage.delete(_mark(id))
        _tell(job)
        if not self._here:
            self._empty = Event()
            Thread(target=self._keep_fresh, args=(self._empty,), name="records of jobs", daemon=True).start()
        self._here[id] = job
        self._worker.submit(self._run, job, found, engine)
        return job

    def look(self, id: str) -> Job | None:
        """A job of this replica or, by its record, of another; None where there is none."""
        if (here := self._here.get(id)) is not None:
            return here
        try:
            job = Job.parse(storage.read(_record(id)), _record(id))
        except (NotThere, BadSetting):
            return None
        lost = not job.ended and job.age_s >= LOST_S
        return job.model_copy(update={"state": "failed", "error": LOST}) if lost else job

    def cancel(self, id: str) -> None:
        """Let a job end soon, whichever replica has it; one that has ended is forgotten, and its result with it."""
        with self._lock:
            known = self.look(id)
            if id in self._here:
                self._end(id)
            elif known is not None and not known.ended:
                storage.replace(_mark(id), b"{}")
            else:
                for left in storage.listing(_folder(id)):
                    storage.delete(left.address)

    def _end(self, id: str) -> None:
        """One that waits is at its end, one that runs learns of it at its next piece."""
        self._cancelled.add(id)
        if self._here[id].state == "queued":
            self._finish(id, state="cancelled")

    def _keep_fresh(self, empty: Event) -> None:
        """Write the records of what runs and waits here, and look whether another replica was told to cancel it."""
        while not empty.wait(TELL_S):
            for id in list(self._here):
                try:
                    cancelled = storage.exists(_mark(id))
                    with self._lock:
                        self._refresh(id, cancelled)
                except UnmuffleError as error:
                    log.warning("how job %s stands could not be written down: %s", id, error)

    def _refresh(self, id: str, cancelled: bool) -> None:
        job = self._here.get(id)
        if job is not None and cancelled:
            self._end(id)
        elif job is not None and (job.state == "running" or job.age_s > LOST_S / 4):
            self._here[id] = job = job.model_copy(update={"updated": time.time()})
            _tell(job)

    def _run(self, job: Job, found: Stored, engine: Engine) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="unmuffle-job-") as folder:
                self._finish(job.id, **self._done(job, found, engine, Path(folder)))
        except Cancelled:
            self._finish(job.id, state="cancelled")
        except UnmuffleError as error:
            self._finish(job.id, state="failed", error=str(error))
        except Exception:  # nobody waits for this thread, so an error that is not written down is lost
            log.exception("job %s failed", job.id)
            self._finish(job.id, state="failed", error="The service failed on this file; its log says why.")

    def _done(self, job: Job, found: Stored, engine: Engine, folder: Path) -> dict[str, object]:
        """Do it; what is to be said of it then."""

        def progress(done_s: float) -> None:
            with self._lock:
                if job.id in self._cancelled or job.id not in self._here:
                    raise Cancelled
                self._here[job.id] = self._here[job.id].model_copy(update={"state": "running", "done_s": done_s})

        progress(0.0)
        source, out = folder / "input", folder / "out"
        out.mkdir()
        _copy(found, source, lambda: progress(0.0))
        seconds, _ = enhance_file(engine, job.ask.options, source, out / "enhanced.flac", progress)
        size = (out / "enhanced.flac").stat().st_size
        source.unlink()
        storage.upload(out, _folder(job.id))
        result = storage.join(_folder(job.id), "enhanced.flac")
        return {"state": "done", "done_s": seconds, "result": result, "result_bytes": size}

    def _finish(self, id: str, **changes: object) -> None:
        """Say what became of a job, and leave it; nothing where it was cancelled while it waited."""
        with self._lock:
            if id not in self._here:
                return
            try:
                _tell(self._here[id].model_copy(update=changes | {"updated": time.time()}))
            except UnmuffleError as error:  # the record stays as it was, and grows old
                log.error("what became of job %s cannot be written down: %s", id, error)
            del self._here[id]
            self._cancelled.discard(id)
            if not self._here:
                self._empty.set()


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


def _mark(id: str) -> str:
    """What lies there once the job is to end."""
    return storage.join(_folder(id), "cancel.json")


def _tell(job: Job) -> None:
    storage.replace(_record(job.id), job.canonical())


def _copy(found: Stored, target: Path, each: Callable[[], None]) -> None:
    """An object to disk, piece by piece. StorageError where there is no room for it, or where it changes meanwhile."""
    free = shutil.disk_usage(target.parent).free
    if free < 2 * found.size:
        raise StorageError(
            f"{found.address} has {found.size / 1e6:.0f} MB, and {target.parent.parent} of the service {free / 1e6:.0f}"
            " MB free; expected twice the file. Make room there, or let TMPDIR name a larger disk, and ask again."
        )
    with target.open("wb") as file:
        for start in range(0, found.size, COPY_BYTES):
            file.write(storage.read_range(found.address, start, min(COPY_BYTES, found.size - start)))
            each()
    if storage.stored(found.address) != found:
        raise StorageError(f"{found.address} was changed while it was read. Ask again for what lies there now.")
