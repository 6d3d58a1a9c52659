"""What a replica that died left unanswered is asked of another one: ASGI middleware of Serve's HTTP proxy.

Every question of the service may be asked twice: enhancing changes nothing, and the same job is found again. Serve's
own proxy sends nothing when a replica dies with a request (Ray 2.60), so an application that ended without an answer is
what this looks for; an answer of a replica, 500 included, stands. The beginning of an answer is held back until its
body follows. Serve finds `middlewares` by the environment variable of `simulation/cluster.py`.
"""

import asyncio
from collections.abc import Callable

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ATTEMPTS = 3
"""A request that kills each replica it meets must not go on for ever."""
PAUSE_S = 0.1
"""Before another attempt: who has died is known by then."""
KEPT_BYTES = 1 << 23
"""Of one body; a larger one is not asked again."""
KEPT_BYTES_IN_ALL = 1 << 28
METHODS = ("GET", "HEAD", "POST")


def middlewares() -> list[Middleware]:
    """What Serve's proxy puts around its routes."""
    return [Middleware(Again)]


class Again:
    """Around the proxy's application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept = 0
        """Bytes of all bodies under way."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, until it is answered."""
        if scope["type"] != "http" or scope["method"] not in METHODS:
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._room)
        try:
            for attempt in range(1, ATTEMPTS + 1):
                answer = _Answer(send)
                await self._app({**scope, "headers": list(scope["headers"])}, body.receive_from_start(), answer)
                if answer.began or body.lost:
                    break
                if attempt < ATTEMPTS:
                    await asyncio.sleep(PAUSE_S * attempt)
        finally:
            self._room(-body.kept)

    def _room(self, more: int) -> bool:
        """Take so many bytes of what may be kept, or none where there is no room."""
        if self._kept + more > KEPT_BYTES_IN_ALL:
            return False
        self._kept += more
        return True


class _Body:
    """What the client sends, so that it can be heard from its start again."""

    def __init__(self, receive: Receive, room: Callable[[int], bool]) -> None:
        self._receive, self._room = receive, room
        self._messages: list[Message] = []
        self.kept = 0
        """Bytes."""
        self.lost = False
        """Whether it cannot be asked again: it is too large, or the client has left."""

    def receive_from_start(self) -> Receive:
        """The messages so far, and then those that follow."""
        earlier = iter(tuple(self._messages))

        async def receive() -> Message:
            for message in earlier:
                return message
            message = await self._receive()
            self._keep(message)
            return message

        return receive

    def _keep(self, message: Message) -> None:
        size = len(message.get("body", b""))
        if message["type"] != "http.request" or self.kept + size > KEPT_BYTES or not self._room(size):
            self.lost = True
        if self.lost:
            self._messages.clear()
            return
        self._messages.append(message)
        self.kept += size


class _Answer:
    """Holds the beginning of an answer back until something follows."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self.began = False
        """Whether the client has heard anything."""

    async def __call__(self, message: Message) -> None:
        """Take a message of the application."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is not None:
            start, self._start = self._start, None
            self.began = True
            await self._send(start)
        await self._send(message)
