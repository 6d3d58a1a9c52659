"""Removes RayJobs that nobody waits for: of launchers that were killed, and of runs that are over.

A launcher takes its job along where it can; a killed one cannot, and Kubeflow ends runs without a word to their pods.
So this runs every few minutes, beside the deadline that each job carries. What a job leaves is kept before it goes.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from components import post_mortem
from components.kube import RAY_JOBS, WORKFLOWS, Kube
from components.launcher import run_ended
from components.rayjob import ADDRESS, RUN, RUN_OF_WORKFLOW, status_of

PART_OF = "app.kubernetes.io/part-of=unmuffle"
GRACE_S = 900.0
"""A job that ended, or whose run did, is left to its launcher for so long."""
OVER = {"Succeeded", "Failed", "Error"}
"""Phases of a Workflow that is done."""


class Reaped(NamedTuple):
    """A RayJob that was removed."""

    name: str
    reason: str


def reap(
    kube: Kube,
    kfp_namespace: str = "kubeflow",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    dry: bool = False,
) -> list[Reaped]:
    """Remove every RayJob of ours whose run is over, was terminated or is gone; and those that ended long ago.

    A job that was launched outside Kubeflow has no run to ask: it goes when it has ended. `dry` only tells.
    """
    reaped = []
    for job in kube.listing(RAY_JOBS, PART_OF) or ():
        reason = _reason(job, kube, kfp_namespace, now())
        if reason:
            reaped.append(Reaped(job["metadata"]["name"], reason))
            if not dry:
                _remove(kube, job)
    return reaped


def _reason(job: dict[str, Any], kube: Kube, kfp_namespace: str, now: datetime) -> str:
    """Why nobody waits for this job; empty where somebody may."""
    metadata = job["metadata"]
    if metadata.get("deletionTimestamp"):
        return ""
    status = status_of(job)
    if status.over and _age_s((job.get("status") or {}).get("endTime"), metadata, now) > GRACE_S:
        return f"{status.line} and nobody took it away"
    run = (metadata.get("labels") or {}).get(RUN, "")
    if not run or _age_s(None, metadata, now) < GRACE_S:
        return ""
    workflows = kube.listing(WORKFLOWS, f"{RUN_OF_WORKFLOW}={run}", kfp_namespace)
    if workflows is None:
        return ""  # no Argo here: nothing can be said of the run
    if not workflows:
        return f"its run {run} is gone"
    if run_ended(workflows):
        return f"its run {run} was terminated"
    if all((one.get("status") or {}).get("phase") in OVER for one in workflows):
        return f"its run {run} is over"
    return ""


def _age_s(ended: str | None, metadata: dict[str, Any], now: datetime) -> float:
    """Seconds since a job ended, else since it was created."""
    text = ended or metadata.get("creationTimestamp")
    return (now - datetime.fromisoformat(text)).total_seconds() if text else 0.0


def _remove(kube: Kube, job: dict[str, Any]) -> None:
    metadata = job["metadata"]
    address = (metadata.get("annotations") or {}).get(ADDRESS, "")
    if address and status_of(job).phase != "succeeded":
        post_mortem.collect(kube, f"{address.rpartition('/')[0]}/post-mortem/{metadata['name']}", metadata["name"])
    kube.delete(RAY_JOBS, metadata["name"])
