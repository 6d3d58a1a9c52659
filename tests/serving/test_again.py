import asyncio
from collections.abc import Callable

import pytest

from serving import again
from serving.again import ATTEMPTS, Again, middlewares

POST = {"type": "http", "method": "POST", "path": "/v1/enhance", "headers": []}
BODY = ({"type": "http.request", "body": b"one ", "more_body": True}, {"type": "http.request", "body": b"two"})


class Replicas:
    """An application that hears a request to its end; those that die answer nothing, or only begin to."""

    def __init__(self, *fates: str) -> None:
        self.fates = list(fates)
        self.heard: list[bytes] = []

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        assert scope["headers"] == []  # Serve's own middleware adds to them
        scope["headers"].append((b"x-request-id", b"of this attempt"))
        body, more = b"", True
        while more and (message := await receive())["type"] == "http.request":
            body, more = body + message["body"], message.get("more_body", False)
        self.heard.append(body)
        match self.fates.pop(0):
            case "dies":
                return
            case "begins":
                await send({"type": "http.response.start", "status": 200, "headers": []})
            case status:
                await send({"type": "http.response.start", "status": int(status), "headers": []})
                await send({"type": "http.response.body", "body": body})


def asked(replicas: Replicas, scope: dict = POST, messages: tuple[dict, ...] = BODY) -> list[dict]:
    """What a client of the proxy is sent."""
    sent: list[dict] = []
    incoming = iter(messages)

    async def receive() -> dict:
        return next(incoming, {"type": "http.disconnect"})

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(Again(replicas)(scope | {"headers": []}, receive, send))
    return sent


@pytest.fixture(autouse=True)
def without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits."""
    monkeypatch.setattr(again, "PAUSE_S", 0.0)


@pytest.mark.parametrize("fates", [("200",), ("dies", "200"), ("begins", "200"), ("dies", "begins", "200")])
def test_what_a_dead_replica_left_is_asked_of_another_one(fates: tuple[str, ...]) -> None:
    """With the whole body each time; the client hears one answer, from its beginning."""
    replicas = Replicas(*fates)
    sent = asked(replicas)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1]["body"] == b"one two" and replicas.heard == [b"one two"] * len(fates)


@pytest.mark.parametrize("status", ["200", "429", "500", "503"])
def test_an_answer_stands_whatever_it_is(status: str) -> None:
    """A replica that lives is asked once, and so is a proxy that says that there is no room."""
    replicas = Replicas(status)
    assert asked(replicas)[0]["status"] == int(status)
    assert len(replicas.heard) == 1


def test_a_request_that_kills_what_it_meets_ends() -> None:
    """After a few replicas nobody is asked any more."""
    replicas = Replicas(*["dies"] * (ATTEMPTS + 1))
    assert asked(replicas) == [] and len(replicas.heard) == ATTEMPTS


@pytest.mark.parametrize("scope", [POST | {"method": "DELETE"}, POST | {"type": "websocket"}])
def test_what_must_not_be_done_twice_is_asked_once(scope: dict) -> None:
    """Deleting, and a conversation."""
    replicas = Replicas("dies", "200")
    assert asked(replicas, scope) == [] and len(replicas.heard) == 1


@pytest.mark.parametrize("setting", ["KEPT_BYTES", "KEPT_BYTES_IN_ALL"])
def test_a_body_that_is_too_large_to_be_kept_is_asked_once(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """Memory of the proxy is bounded: of one body, and of all together."""
    monkeypatch.setattr(again, setting, 5)
    replicas = Replicas("dies", "200")
    assert asked(replicas) == [] and replicas.heard == [b"one two"]


def test_nobody_is_asked_for_a_client_that_has_left() -> None:
    """Its connection broke while the body was coming in."""
    replicas = Replicas("dies", "200")
    assert asked(replicas, messages=BODY[:1]) == [] and len(replicas.heard) == 1


def test_bodies_that_are_answered_give_their_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there were."""
    monkeypatch.setattr(again, "KEPT_BYTES_IN_ALL", 7)
    proxy, sent = Again(Replicas(*["200"] * 3)), []

    async def three() -> None:
        async def send(message: dict) -> None:
            sent.append(message)

        for _ in range(3):
            incoming = iter(BODY)

            async def receive(incoming=incoming) -> dict:
                return next(incoming)

            await proxy(POST | {"headers": []}, receive, send)

    asyncio.run(three())
    assert len(sent) == 6 and proxy._kept == 0


def test_serve_is_told_of_it() -> None:
    """By the environment of the clusters that we start."""
    from simulation.cluster import DEFAULTS

    assert DEFAULTS["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] == f"{again.__name__}:{middlewares.__name__}"
    assert [each.cls for each in middlewares()] == [Again]
