"""Who hears what is told of a request."""

import asyncio
import json
import logging
from typing import Any

import pytest

from serving import telemetry
from serving.telemetry import Telemetry


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers 200."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def asked(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The logger, whose level is nobody's, after a request."""
    log = logging.Logger("unmuffle.requests", logging.WARNING)
    monkeypatch.setattr(telemetry, "log", log)

    async def nothing(*_: Any) -> None:
        pass

    scope = {"type": "http", "method": "GET", "headers": [(b"x-trace-id", b"request-0001")]}
    asyncio.run(Telemetry(answer)(scope, nothing, nothing))
    return log


def test_a_replica_writes_its_lines_to_its_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of JSON for each request, although nobody set up logging there; once, however often the routes are built."""
    monkeypatch.setattr(telemetry.serve, "get_replica_context", lambda: None)
    log = asked(monkeypatch)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["trace"] == "request-0001" and json.loads(line)["status"] == 200
    Telemetry(answer)
    assert len(log.handlers) == 1


def test_elsewhere_logging_stays_as_it_was_set_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that is no replica is not made to write."""
    assert not asked(monkeypatch).handlers and not capsys.readouterr().err
