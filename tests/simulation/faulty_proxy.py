"""A proxy before an S3 server that spoils a share of its answers, as networks and busy servers do.

Run as `python faulty_proxy.py SERVER SHARE SEED`; prints its own address. A spoilt request meets one of four fates: 503
before it reaches the server; a connection that is reset before; one that is reset after, so that what was asked is done
but nobody hears of it; an answer that breaks off half-way. GET /-/counts tells how often each came.
"""

import http.client
import itertools
import json
import random
import socket
import struct
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

UNAVAILABLE = b"<?xml version='1.0'?><Error><Code>ServiceUnavailable</Code><Message>Later.</Message></Error>"
NOT_HANDED_ON = ("expect", "connection")
FATES = ("503", "reset before", "reset after", "cut short")


class Proxy(ThreadingHTTPServer):
    """What to spoil, and what was."""

    daemon_threads = True

    def __init__(self, server: str, share: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.backend = urlsplit(server).netloc
        self.share, self.chance, self.lock = share, random.Random(seed), threading.Lock()
        self.fates = itertools.cycle(FATES)
        self.counts: Counter[str] = Counter()

    def handle_error(self, request: object, client_address: object) -> None:
        """Callers may be killed in the middle of a request."""

    def fate(self) -> str:
        """That of the next request."""
        with self.lock:
            fate = next(self.fates) if self.chance.random() < self.share else "answered"
            self.counts[fate] += 1
            return fate


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one go: two small packets would wait for each other
    server: Proxy

    def handle_any(self) -> None:
        """Hand a request on, or not, and its answer back, or not."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/-/counts":
            return self._answer(200, [], json.dumps(self.server.counts).encode())
        fate = self.server.fate()
        if fate == "503":
            return self._answer(503, [("Content-Type", "application/xml")], UNAVAILABLE)
        if fate == "reset before":
            return self._reset()
        status, headers, answer = self._ask(body)
        if fate == "reset after" or (fate == "cut short" and not answer):
            return self._reset()
        self._answer(status, headers, answer, len(answer) // 2 if fate == "cut short" else None)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        backend = http.client.HTTPConnection(self.server.backend, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_HANDED_ON}
            backend.request(self.command, self.path, body or None, headers)
            answer = backend.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            backend.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, keep: int | None = None) -> None:
        """All of an answer, or as much of it as is kept before the connection ends."""
        self.send_response_only(status)
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        if status != 204:  # to HEAD: of the object, though no body comes
            self.send_header("Content-Length", lengths[0] if self.command == "HEAD" and lengths else str(len(body)))
        self.end_headers()
        self.wfile.write(body[:keep])
        if keep is not None:
            self.wfile.flush()
            self.close_connection = True

    def _reset(self) -> None:
        """RST in place of an answer: what closing does to a socket that is told not to linger."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    proxy = Proxy(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
    print(f"http://127.0.0.1:{proxy.server_address[1]}", flush=True)
    proxy.serve_forever()
