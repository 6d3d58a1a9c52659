"""The routes of long files: begin a job, see how it stands, fetch its result.

A result is fetched in ranges (`Range: bytes=...`), so that a download that was cut off goes on where it was, or read
from the store at the address that the job tells.
"""

import asyncio
import re
from typing import Annotated

from fastapi import APIRouter, Header, Path
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.jobs import Ask, Job
from serving.replica import Service, This
from serving.wire import Refused
from simulation import storage

ROUTES = APIRouter()
JobId = Annotated[str, Path(pattern="^[0-9a-f]{24}$")]


@ROUTES.post("/v1/jobs")
async def begin(request: Request, ask: Ask, service: This) -> Response:
    """202 and the job; the same ask finds the same job."""
    loaded = service.loaded
    caller = service.doorkeeper.caller(request, "jobs")
    with service.admission.request(caller, loaded.config.limits):
        job = await asyncio.to_thread(service.jobs.begin, ask, loaded.engine, loaded.version, loaded.config.limits)
    return JSONResponse(job.model_dump(mode="json"), 202, headers={"Location": f"/v1/jobs/{job.id}"})


@ROUTES.get("/v1/jobs/{id}")
async def look(request: Request, id: JobId, service: This) -> Job:
    """How a job stands."""
    service.doorkeeper.caller(request, "jobs")
    return await _known(service, id)


@ROUTES.delete("/v1/jobs/{id}")
async def cancel(request: Request, id: JobId, service: This) -> Job:
    """Let it end or, where it has ended, forget it with its result; how it stood."""
    service.doorkeeper.caller(request, "jobs")
    job = await _known(service, id)
    await asyncio.to_thread(service.jobs.cancel, id)
    return job


@ROUTES.get("/v1/jobs/{id}/result")
async def result(request: Request, id: JobId, service: This, range: Annotated[str, Header()] = "") -> Response:
    """The enhanced file, or a range of it: at most `max_body_mb` an answer."""
    caller, limits = service.doorkeeper.caller(request, "jobs"), service.loaded.config.limits
    job = await _known(service, id)
    if job.ended and job.state != "done":
        raise Refused(409, "not_done", f"This job is {job.state}. {job.error or 'Ask for it again: POST /v1/jobs'}")
    if job.state != "done":
        raise Refused(409, "not_done", f"This job is {job.state} ({job.done_s:.0f} s are done). Ask again later.", 5)
    most = int(limits.max_body_mb * 1e6)
    start, stop = _range(range, job.result_bytes)
    if not range and job.result_bytes > most:
        expected = f"Ask for it by Range: bytes=0-{most - 1} and on, or read {job.result}"
        raise Refused(413, "too_large", f"The file has {job.result_bytes} bytes. {expected}")
    stop = min(stop, start + most)
    with service.admission.request(caller, limits), service.admission.memory((stop - start) / 1e6, limits):
        data = await asyncio.to_thread(storage.read_range, job.result, start, stop - start)
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{job.id}"', "X-Unmuffle-Version": job.version}
    if not range:
        return Response(data, media_type="audio/flac", headers=headers)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{job.result_bytes}"
    return Response(data, 206, headers, "audio/flac")


async def _known(service: Service, id: str) -> Job:
    job = await asyncio.to_thread(service.jobs.look, id)
    if job is None:
        raise Refused(404, "unknown_job", f"There is no job {id} in the store of this service.")
    return job


def _range(header: str, size: int) -> tuple[int, int]:
    """First byte and the one behind the last; all of them without a header. `Refused` for what is not there."""
    if not header:
        return 0, size
    found = re.fullmatch(r"bytes=(\d{1,15})-(\d{0,15})", header.strip())
    start, stop = (int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)) if found else (size, size)
    if start >= stop:
        raise Refused(416, "bad_range", f"Found the range {header[:80]!r} of {size} bytes; expected bytes=FIRST-LAST.")
    return start, stop
