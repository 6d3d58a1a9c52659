"""A scripted Kubernetes API server on the loopback interface, spoken to by the real client.

Objects are kept by plural and name. A RayJob gets its statuses from a script, one at each look; a step may also do
something, such as running the stage that the job's entrypoint names. Every call is written down as (verb, group,
resource), which is what Roles are held against.
"""

import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Step = dict[str, Any] | Callable[["FakeKube", dict[str, Any]], dict[str, Any]]
"""A status, or what happens before one is shown."""

CUSTOM = re.compile(r"^/apis/(?P<group>[^/]+)/[^/]+/namespaces/[^/]+/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?$")
CORE = re.compile(r"^/api/v1/namespaces/[^/]+/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<part>[^/]+))?)?$")
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
VERBS = {"POST": "create", "DELETE": "delete", "PATCH": "patch"}


def initializing(**more: Any) -> dict[str, Any]:
    """The status of a job whose Ray cluster is being made."""
    return {"jobDeploymentStatus": "Initializing", **more}


def running() -> dict[str, Any]:
    """The status of a job that runs."""
    return {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "ray-cluster-1"}


def complete(status: str = "SUCCEEDED") -> dict[str, Any]:
    """The status of a job that came to an end: SUCCEEDED, or STOPPED by somebody."""
    return {"jobDeploymentStatus": "Complete", "jobStatus": status}


def failed(reason: str, message: str = "") -> dict[str, Any]:
    """The status of a job that failed for good."""
    return {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": reason, "message": message}


def stage_done(kube: "FakeKube", job: dict[str, Any]) -> dict[str, Any]:
    """Run what the job's entrypoint says, in this process, and show success."""
    from components import stage

    _, _, name, _, address = shlex.split(job["spec"]["entrypoint"])
    stage.run(name, address)
    return complete()


def gone(kube: "FakeKube", job: dict[str, Any]) -> dict[str, Any]:
    """Somebody deletes the job."""
    kube.objects.pop(("rayjobs", job["metadata"]["name"]), None)
    return {}


@dataclass
class FakeKube:
    """The server's state, and what it was asked."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    scripts: dict[str, list[Step]] = field(default_factory=dict)
    """Statuses of a RayJob by name; "" is for every other one. The last step stays."""
    outage: list[int] = field(default_factory=list)
    """Statuses that the next calls are answered with, whatever they ask; 0 cuts the connection."""
    refused: dict[tuple[str, str], int] = field(default_factory=dict)
    """(verb, resource) -> status."""
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    """(verb, resource) that an access review denies."""
    log: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    address: str = ""

    @property
    def jobs(self) -> list[str]:
        """Names of the RayJobs that are there."""
        return [name for plural, name in self.objects if plural == "rayjobs"]

    def put(self, plural: str, name: str, **content: Any) -> None:
        """An object that is there from the beginning."""
        self.objects[plural, name] = {"metadata": {"name": name, **content.pop("metadata", {})}, **content}

    def look(self, name: str) -> dict[str, Any] | None:
        """The RayJob as of now: its script goes on by one step."""
        job = self.objects.get(("rayjobs", name))
        if job is None:
            return None
        script = self.scripts.get(name, self.scripts.get("", []))
        if script:
            step = script.pop(0) if len(script) > 1 else script[0]
            job["status"] = step(self, job) if callable(step) else step
        return self.objects.get(("rayjobs", name))

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Status and body of the answer."""
        if path == REVIEW:
            asked = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
            return 201, body | {"status": {"allowed": (asked["verb"], resource) not in self.forbidden}}
        match = CUSTOM.match(path) or CORE.match(path)
        if match is None:
            return 404, {"message": f"no such path: {path}"}
        parts = match.groupdict()
        plural, name, part = parts["plural"], parts["name"], parts.get("part")
        verb = VERBS.get(method, "get" if name else "list")
        resource = f"{plural}/{part}" if part else plural
        self.calls.append((verb, parts.get("group") or "", resource))
        self.paths.append(path)
        if status := self.refused.get((verb, resource)):
            return status, {"message": f"{verb} {resource} is refused"}
        return getattr(self, f"_{verb}")(plural, name, part, query, body)

    def _create(self, plural: str, name: None, part: None, query: Any, body: Any) -> tuple[int, Any]:
        name = body["metadata"]["name"]
        if (plural, name) in self.objects:
            return 409, {"message": f"{name} already exists"}
        self.objects[plural, name] = body
        body["metadata"]["uid"] = f"uid-of-{name}"
        self.created.append(json.loads(json.dumps(body)))
        return 201, body

    def _get(self, plural: str, name: str, part: str | None, query: Any, body: Any) -> tuple[int, Any]:
        if part == "log":
            return 200, self.log
        found = self.look(name) if plural == "rayjobs" else self.objects.get((plural, name))
        return (200, found) if found else (404, {"message": f"{name} not found"})

    def _list(self, plural: str, name: None, part: None, query: Any, body: Any) -> tuple[int, Any]:
        wanted = dict(pair.split("=", 1) for pair in "".join(query.get("labelSelector", [])).split(",") if pair)
        found = [
            one
            for (kind, _), one in self.objects.items()
            if kind == plural and wanted.items() <= (one["metadata"].get("labels") or {}).items()
        ]
        return 200, {"kind": "List", "items": found}

    def _delete(self, plural: str, name: str, part: None, query: Any, body: Any) -> tuple[int, Any]:
        found = self.objects.pop((plural, name), None)
        return (200, {"status": "Success"}) if found else (404, {"message": f"{name} not found"})

    def _patch(self, plural: str, name: str, part: None, query: Any, body: Any) -> tuple[int, Any]:
        found = self.objects.get((plural, name))
        if found is None:
            return 404, {"message": f"{name} not found"}
        _merge(found, body)
        return 200, found


def _merge(into: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


@contextmanager
def serving(kube: FakeKube) -> Iterator[FakeKube]:
    """The server, answering at `kube.address`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            url = urlsplit(self.path)
            with kube.lock:
                status = kube.outage.pop(0) if kube.outage else None
                if status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                body: Any = {"message": "away"}
                if status is None:
                    content = json.loads(text) if text else None
                    status, body = kube.answer(self.command, url.path, parse_qs(url.query), content)
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = do_PATCH = handle_one

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    kube.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield kube
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(kube: FakeKube, path: Path) -> Path:
    """A file for KUBECONFIG that leads to this server."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        "clusters": [{"name": "fake", "cluster": {"server": kube.address}}],
        "users": [{"name": "fake", "user": {"token": "none"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path
