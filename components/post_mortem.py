"""What is kept of a RayJob that failed, before its cluster goes: log, events, manifest, pods, and why.

    <store>/stages/<name>/<key>/post-mortem/<RayJob>/submitter.log · events.json · job.json · pods.json
                                                    /summary.json     written last; it counts the launch

Only names of secrets are in a manifest, so none is in here.
"""

import json
from contextlib import suppress
from typing import Any

from components import stage
from components.kube import RAY_JOBS, Kube
from components.rayjob import Status, kfp_run
from components.specs import AnySpec
from simulation import storage
from simulation.errors import KubernetesRefused, KubernetesUnreachable
from simulation.schema import Schema


class Summary(Schema):
    """Why a launch gave no result."""

    name: str
    kfp_run: str
    reason: str
    line: str


def folder(spec: AnySpec, store: str, name: str) -> str:
    """Address of all that is kept of this RayJob."""
    return storage.join(stage.folder(store, spec.stage, spec.key()), "post-mortem", name)


def address(spec: AnySpec, store: str, name: str) -> str:
    """Address of its summary."""
    return storage.join(folder(spec, store, name), "summary.json")


def status(spec: AnySpec, store: str, name: str) -> Status:
    """How it ended; NotThere where nothing was kept."""
    where = address(spec, store, name)
    summary = Summary.parse(storage.read(where), where)
    return Status("failed", summary.line, summary.reason)


def write(kube: Kube, spec: AnySpec, store: str, name: str, ended: Status) -> None:
    """Keep what can be had of a job that ended so."""
    where = folder(spec, store, name)
    collect(kube, where, name)
    summary = Summary(name=name, kfp_run=kfp_run(), reason=ended.reason, line=ended.line)
    storage.create(storage.join(where, "summary.json"), summary.canonical())  # of two launchers the first is believed


def collect(kube: Kube, where: str, name: str) -> None:
    """Everything but the summary; what the API server does not give is left out."""
    with suppress(KubernetesUnreachable, KubernetesRefused):
        _collect(kube, where, name)


def _collect(kube: Kube, where: str, name: str) -> None:
    job = kube.get(RAY_JOBS, name)
    if job is None:
        return
    _put(where, "job.json", job)
    _put(where, "events.json", kube.events(name))
    submitters = kube.pods(f"batch.kubernetes.io/job-name={name}")
    for pod in submitters:
        storage.replace(storage.join(where, "submitter.log"), kube.log(pod["metadata"]["name"]).encode())
    cluster = (job.get("status") or {}).get("rayClusterName")
    _put(where, "pods.json", submitters + (kube.pods(f"ray.io/cluster={cluster}") if cluster else []))


def _put(where: str, name: str, value: Any) -> None:
    storage.replace(storage.join(where, name), json.dumps(value, indent=2, default=str).encode())
