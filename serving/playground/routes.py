"""Routes of the page: its files, and the scores of the version that answers."""

import asyncio
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from serving.playground.scores import Scores, kept
from serving.replica import This
from simulation.home import Home

ROUTES = APIRouter()
HERE = Path(__file__).parent
MEDIA_TYPES = {
    "page.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "sound.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "capture.js": "text/javascript; charset=utf-8",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Nothing from elsewhere is ever loaded, and nobody else's page may hold this one in a frame."""


@ROUTES.get("/", include_in_schema=False)
async def page() -> Response:
    """The playground."""
    return _file("page.html")


@ROUTES.get("/playground/{name}", include_in_schema=False)
async def part(name: str) -> Response:
    """Style and scripts of the page; no other file has a name here."""
    return _file(name)


@ROUTES.get("/v1/scores")
async def scores(request: Request, service: This) -> Scores:
    """The scorecard, in short, by which the version that answers was promoted; 404 where it was not."""
    service.doorkeeper.caller(request, "read")
    version = service.loaded.version
    found = await asyncio.to_thread(kept, Home.current().store, version.use, version.weights_sha256)
    if found is None:
        raise HTTPException(404, f"{version.name} was never promoted by a gate, so it has no scorecard here")
    return found


def _file(name: str) -> Response:
    if name not in MEDIA_TYPES:
        raise HTTPException(404, "Not Found")
    return Response(_content(name), media_type=MEDIA_TYPES[name], headers=HEADERS)


@cache
def _content(name: str) -> bytes:
    return (HERE / name).read_bytes()
