"""A stub of KFP's API server, built from the calls that KFP's own client makes.

It shows which requests are sent, not that a real server takes them.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/apis/v2beta1/"


@dataclass
class FakeKfp:
    """What the server holds, and what it was sent."""

    pipelines: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    recurringruns: list[dict[str, Any]] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    """YAML, in the order it came."""
    calls: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    refuse: int = 0
    """Status that everything is answered with, but health."""
    address: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
        """Status and JSON."""
        what = path.removeprefix(API)
        self.calls.append((method, what))
        if what == "healthz":
            return 200, {"multi_user": False}
        if self.refuse:
            return self.refuse, {"message": "refused"}
        if what in ("pipelines/upload", "pipelines/upload_version"):
            return 200, self._upload(what, query, body)
        collection, _, rest = what.partition("/")
        if collection == "pipelines" and rest.endswith("/versions"):
            return 200, {"pipeline_versions": self._named(self.versions, query)}
        kept: list[dict[str, Any]] = getattr(self, collection)
        if method == "POST" and not rest:
            return 200, self._made(collection, kept, json.loads(body))
        one = next((each for each in kept if each.get("id") == rest.partition(":")[0]), None)
        if rest and one is None:
            return 404, {"message": f"no {what}"}
        if method == "DELETE":
            kept.remove(one)  # type: ignore[arg-type]
            return 200, {}
        if rest.endswith(":disable"):
            one["status"] = "DISABLED"  # type: ignore[index]
            return 200, {}
        if rest:
            return 200, one
        plural = {"recurringruns": "recurringRuns"}.get(collection, collection)
        return 200, {plural: self._named(kept, query)}

    def _upload(self, what: str, query: dict[str, list[str]], body: bytes) -> dict[str, Any]:
        self.uploads.append(body.decode())
        if what.endswith("version"):
            made = {"display_name": query["name"][0], "pipeline_id": query["pipelineid"][0]}
            made["pipeline_version_id"] = f"version-{len(self.versions) + 1}"
            self.versions.append(made)
            return made
        made = {"display_name": query["name"][0], "pipeline_id": f"pipeline-{len(self.pipelines) + 1}"}
        self.pipelines.append(made)
        return made

    def _made(self, collection: str, kept: list[dict[str, Any]], sent: dict[str, Any]) -> dict[str, Any]:
        key = {"experiments": "experiment_id", "runs": "run_id", "recurringruns": "recurring_run_id"}[collection]
        identity = f"{key.removesuffix('_id')}-{len(kept) + 1}-{len(self.calls)}"
        made = sent | {key: identity, "id": identity}
        if collection == "runs":
            made["state"] = "PENDING"
        if collection == "recurringruns":
            made["status"] = "ENABLED" if sent["mode"] == "ENABLE" else "DISABLED"
        kept.append(made)
        return made

    def _named(self, kept: list[dict[str, Any]], query: dict[str, list[str]]) -> list[dict[str, Any]]:
        if "filter" not in query:
            return list(kept)
        (predicate,) = json.loads(query["filter"][0])["predicates"]
        assert predicate["key"] == "display_name"
        return [one for one in kept if one["display_name"] == predicate["stringValue"]]


@contextmanager
def serving(kfp: FakeKfp) -> Iterator[FakeKfp]:
    """The server, answering at `kfp.address`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            with kfp.lock:
                if token := self.headers.get("authorization"):
                    kfp.tokens.add(token)
                status, answer = kfp.answer(self.command, url.path, parse_qs(url.query), body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = handle_one

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    kfp.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield kfp
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
