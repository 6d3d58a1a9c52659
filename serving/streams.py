"""`WS /v1/stream`: PCM in, enhanced PCM out while somebody speaks, through a causal network.

The client's first message is text: a `StreamStart`, or a `StreamResume` when its connection was lost. The service
answers with a `StreamStarted`. Binary messages are PCM both ways, in any sizes. From time to time the client
acknowledges, by a `StreamAck`, how many samples it has received: output that was not acknowledged is kept for
`resume_s` after a connection is lost, and while more than `window_s` of it is there, no input is processed. Input that
runs more than `window_s` ahead of what is processed is refused. `StreamEnd` brings out the rest, and a `StreamEnded`.
What is wrong is said by a `StreamError`, and the connection is closed with code 1008.

A chunk misses its deadline when its output goes out later after its arrival than the chunk lasts.
"""

import asyncio
import logging
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from serving.messages import (
    FROM_CLIENT,
    Limits,
    StreamAck,
    StreamEnd,
    StreamError,
    StreamResume,
    StreamStart,
    StreamStarted,
)
from serving.replica import Service, This
from serving.stream_places import Place
from serving.stream_session import Session
from serving.telemetry import figures
from serving.wire import Refused, status_of
from simulation.errors import BadSetting, UnmuffleError
from simulation.schema import explain

log = logging.getLogger(__name__)

ROUTES = APIRouter()
POLICY_VIOLATION = 1008
FIRST_MESSAGE_S = 10.0
"""How long a client may take to say what it wants: a connection that says nothing holds a place."""


@ROUTES.websocket("/v1/stream")
async def stream(websocket: WebSocket, service: This) -> None:
    """See the top of this file."""
    await websocket.accept()
    with suppress(WebSocketDisconnect, asyncio.CancelledError, RuntimeError):  # cut off, or taken over
        try:
            place = await _place(websocket, service)
            await _talk(websocket, service, place)
        except UnmuffleError as error:
            await _refuse(websocket, error)
        except (WebSocketDisconnect, RuntimeError):  # what Starlette says of a connection that is closed
            raise
        except Exception as error:
            log.error("a stream failed", exc_info=error)
            await _refuse(websocket, Refused(500, "internal_error", "The service failed on this; its log says why."))


async def _place(websocket: WebSocket, service: Service) -> Place:
    """What the first message asks for."""
    limits = service.loaded.config.limits
    try:
        async with asyncio.timeout(FIRST_MESSAGE_S):
            message = await websocket.receive()
    except TimeoutError:
        raise Refused(408, "bad_message", f"Nothing was asked for within {FIRST_MESSAGE_S:g} s.") from None
    first = _parsed(message)
    if not isinstance(first, StreamStart | StreamResume):
        raise Refused(400, "bad_message", "The first message must be of type start or resume.")
    service.doorkeeper.caller(websocket, "stream", first.key)
    if isinstance(first, StreamResume):
        return await service.streams.take_over(first, limits)
    loaded = service.loaded
    try:
        through = loaded.engine.stream(first.sample_rate, first.channels)
    except BadSetting as error:
        raise Refused(422, "not_causal", str(error)) from None
    return service.streams.open(Session(through, first, loaded.version, limits.window_s), limits)


async def _talk(websocket: WebSocket, service: Service, place: Place) -> None:
    """Until the stream ends, fails, or its client is cut off; then its place is kept for a while."""
    limits = service.loaded.config.limits
    me = place.talk = asyncio.current_task()
    try:
        await _Talk(websocket, service, place.session, limits).run()
    except WebSocketDisconnect:
        raise
    except Exception:
        service.streams.close(place)
        raise
    finally:
        if place.talk is me:
            service.streams.leave(place)


class _Talk:
    """One connection: what comes in is put down at once, what is processed is processed in order."""

    def __init__(self, websocket: WebSocket, service: Service, session: Session, limits: Limits) -> None:
        self._websocket, self._service, self._session, self._limits = websocket, service, session, limits
        self._inbox: asyncio.Queue[tuple[bytes | None, float]] = asyncio.Queue()
        self._waiting_s = 0.0
        """Seconds of audio in the inbox."""
        self._acknowledged = asyncio.Event()

    async def run(self) -> None:
        session = self._session
        await self._say(
            StreamStarted(
                session=session.id,
                position=session.position,
                window=session.window,
                latency_samples=session.latency_samples,
                version=session.version.name,
                weights_sha256=session.version.weights_sha256,
            )
        )
        for piece in session.pending():
            await self._websocket.send_bytes(piece)
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._process())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in reversed(done):  # of two, the one that comes from processing says more
            if isinstance(outcome, Exception):
                raise outcome
        await self._websocket.close()

    async def _listen(self) -> None:
        """Put down what comes in. Never returns."""
        session, ended = self._session, False
        while True:
            message = await self._websocket.receive()
            pcm = message.get("bytes")
            if pcm == b"":  # no sound, no time: nothing would bound how many wait
                continue
            if pcm is not None and not ended:
                session.check(pcm)
                self._waiting_s += session.seconds(pcm)
                if self._waiting_s > self._limits.window_s:
                    raise Refused(
                        429,
                        "overrun",
                        f"{self._waiting_s:.1f} s of input wait to be processed; expected {self._limits.window_s:g} s"
                        " at most. Wait for output, and acknowledge it.",
                    )
                self._inbox.put_nowait((pcm, time.monotonic()))
                continue
            asked = StreamEnd() if pcm is not None else _parsed(message)
            if isinstance(asked, StreamAck):
                session.acknowledge(asked.received)
                self._acknowledged.set()
            elif isinstance(asked, StreamEnd):
                if ended:
                    raise Refused(400, "bad_message", "The stream has ended; found more of it behind its end.")
                ended = True
                self._inbox.put_nowait((None, 0.0))
            else:
                raise Refused(400, "bad_message", f"This stream has begun; found another {asked.type}.")

    async def _process(self) -> None:
        """Until the end of the stream. Chunks that wait pass the network together, so that a stream catches up."""
        session, ended = self._session, False
        while not ended:
            waiting = [await self._inbox.get()]
            while session.unacknowledged > session.window:
                self._acknowledged.clear()
                await self._acknowledged.wait()
            while not self._inbox.empty():
                waiting.append(self._inbox.get_nowait())
            chunks = [(pcm, arrived) for pcm, arrived in waiting if pcm is not None]
            ended = len(chunks) < len(waiting)
            if chunks:
                await self._pass(chunks)
        ready = await self._service.in_stream_thread(session.end)
        await self._websocket.send_bytes(ready)
        await self._say(session.summary())

    async def _pass(self, chunks: list[tuple[bytes, float]]) -> None:
        """Chunks in, and when each arrived; what is ready out."""
        session = self._session
        if (session.position / session.start.sample_rate) > self._limits.max_stream_s:
            raise Refused(413, "too_long", f"A stream may last {self._limits.max_stream_s:g} s; start a new one.")
        ready = await self._service.in_stream_thread(session.feed, b"".join(pcm for pcm, _ in chunks))
        await self._websocket.send_bytes(ready)
        now = time.monotonic()
        for pcm, arrived in chunks:
            seconds = session.seconds(pcm)
            self._waiting_s -= seconds
            late = now - arrived > seconds
            session.chunks += 1
            session.misses += late
            figures().chunk(session.version.name, late)

    async def _say(self, message: Any) -> None:
        await self._websocket.send_text(message.model_dump_json())


def _parsed(message: MutableMapping[str, Any]) -> StreamStart | StreamResume | StreamAck | StreamEnd:
    """A text message of the client. Raises `Refused`, or `WebSocketDisconnect` where there is no client any more."""
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1006)
    text = message.get("text")
    if text is None:
        raise Refused(400, "bad_message", "Found PCM; expected a text message of type start or resume first.")
    try:
        return FROM_CLIENT.validate_json(text)
    except ValidationError as error:
        raise Refused(400, "bad_message", f"The message is not one of this protocol: {explain(error)}") from None


async def _refuse(websocket: WebSocket, error: UnmuffleError) -> None:
    _, code = status_of(error)
    retry = error.retry_after_s if isinstance(error, Refused) else None
    await websocket.send_text(StreamError(error=str(error), code=code, retry_after_s=retry).model_dump_json())
    await websocket.close(POLICY_VIOLATION)
