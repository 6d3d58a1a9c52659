"""The end of a run on a cluster is told to everybody who wants to know, and its MLflow run is ended."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components import notify, stage
from components.notify import Begun, notified
from components.rayjob import LAUNCHED_BY
from simulation import storage

BEGUN = Begun(key="k", use="denoise-16k", scenario="sample", reason="drift")


class FakeTracking:
    """Remembers which runs were ended, and how."""

    ended: list[tuple[str, bool]]

    def __init__(self) -> None:
        type(self).ended = []

    def run(self, key: str, name: str) -> str:
        return f"run of {key}"

    def finish(self, run_id: str, ok: bool) -> None:
        self.ended.append((run_id, ok))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store in which run-1 has begun."""
    monkeypatch.setenv(LAUNCHED_BY, "run-1")
    monkeypatch.setattr(notify, "Tracking", FakeTracking)
    address = storage.normal(str(tmp_path))
    BEGUN.leave(address, "run-1")
    return address


@contextmanager
def listening(status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """An HTTP server that remembers what was posted."""
    posted: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with _served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}/", posted


@contextmanager
def post_office() -> Iterator[tuple[int, list[str]]]:
    """An SMTP server that takes everything."""
    letters: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                word = line.split()[0].upper()
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    text = b""
                    while (more := self.rfile.readline()) != b".\r\n":
                        text += more
                    letters.append(text.decode())
                self.wfile.write(b"250 fine\r\n")
                if word == b"QUIT":
                    return

    with _served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as server:
        yield server.server_address[1], letters


@contextmanager
def _served(server: Any) -> Iterator[Any]:
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def audience(monkeypatch: pytest.MonkeyPatch, **whom: Any) -> None:
    """These are told."""
    monkeypatch.setenv("UNMUFFLE_NOTIFY", json.dumps(whom))


def test_webhook_slack_and_mail_get_the_news(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran, why, how it ended; of a failure what the stage said."""
    storage.replace(stage.error_address(store, "k"), b"No space is left in the store.")
    with listening() as (hook, hooked), listening() as (slack, slacked), post_office() as (port, letters):
        mail = {"host": "127.0.0.1", "port": port, "sender": "a@example.org", "to": ["b@example.org"]}
        audience(monkeypatch, webhook=hook, slack=slack, smtp=mail)
        notified(store, "FAILED", "task train failed")
    assert hooked[0]["state"] == "FAILED"
    assert hooked[0]["message"] == "No space is left in the store."
    line = "unmuffle: retrain sample for denoise-16k (drift) failed, run run-1: No space is left in the store."
    assert slacked == [{"text": line}]
    assert "Subject: unmuffle: retrain sample" in letters[0]
    assert FakeTracking.ended == [("run of k", False)]


def test_who_cannot_be_reached_keeps_nobody_from_hearing(
    store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither does it fail the task; the log names no address, which would be a secret."""
    with listening(500) as (hook, _), listening() as (slack, slacked):
        nowhere = {"host": "127.0.0.1", "port": 9, "sender": "a@example.org", "to": ["b@example.org"]}
        audience(monkeypatch, webhook=hook, slack=slack, smtp=nowhere)
        notified(store, "SUCCEEDED", "")
    assert len(slacked) == 1
    assert "the webhook was not told" in caplog.text
    assert hook not in caplog.text
    assert FakeTracking.ended == [("run of k", True)]


def test_a_run_that_never_began_is_told_of_too(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first task may be the one that failed."""
    monkeypatch.setenv(LAUNCHED_BY, "run-2")
    with listening() as (slack, slacked):
        audience(monkeypatch, slack=slack)
        notified(store, "FAILED", "begin failed")
    assert slacked == [{"text": "unmuffle: a retraining failed, run run-2: begin failed"}]
