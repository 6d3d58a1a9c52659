"""Asking for a retraining: one entry point, which refuses what is under way or done.

    <store>/triggers/<key>/<n>.json       who asked, when and why; created by exactly one
                          /<n>.run.json   KFP's id of the run that was started for it

The key is that of the run: the request and the digest of its data. A run that failed or was ended may be asked for
again; so may one whose request was written down and never started, after a while.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Protocol

from pipelines.begin import data_digest, key_of
from pipelines.kubeflow import KubeflowProblem, RunState
from pipelines.request import Request
from pipelines.run import checked
from simulation import storage
from simulation.errors import NothingNew, NotThere
from simulation.schema import Schema

Reason = Literal["manual", "new-data", "drift"]
ABANDONED_S = 600.0
"""A request that nobody started for so long never will be."""
DONE = "SUCCEEDED"


class Runs(Protocol):
    """Where runs are started: Kubeflow."""

    def run(self, run_id: str) -> RunState:
        """One run."""


class Asked(Schema):
    """A retraining that somebody asked for."""

    reason: Reason
    key: str
    data_digest: str
    at_s: float
    """Seconds since the epoch."""


class Started(Schema):
    """The run that it became."""

    run_id: str


def request_training(
    request: Request,
    store: str,
    reason: Reason,
    runs: Runs,
    start: Callable[[Request, str], RunState],
    now_s: Callable[[], float] = time.time,
) -> RunState:
    """Start one run for this request and the data as they are; NothingNew where there is or was one.

    `start` is given the request and a name for the run, which is the same for whoever asks for the same.
    """
    request = checked(request)
    digest = data_digest(request)
    key = key_of(request, digest)
    number = 1
    while True:
        asked = Asked(reason=reason, key=key, data_digest=digest, at_s=now_s())
        if storage.create(_asked_at(store, key, number), asked.canonical()):
            break
        _refuse(store, key, number, runs, now_s())
        number += 1
    state = start(request, f"retrain {key} {number}")
    storage.create(_started_at(store, key, number), Started(run_id=state.run_id).canonical())
    return state


def _refuse(store: str, key: str, number: int, runs: Runs, now_s: float) -> None:
    """NothingNew unless this earlier request came to nothing."""
    where = _asked_at(store, key, number)
    asked = Asked.parse(storage.read(where), where)
    about = f"data {asked.data_digest[:12]} with these settings ({asked.reason})"
    run = _run_of(store, key, number)
    if run is None:
        if now_s - asked.at_s < ABANDONED_S:
            raise NothingNew(f"A retraining on {about} was asked for a moment ago. Look at it: unmuffle pipeline list")
        return
    with suppress(KubeflowProblem):
        state = runs.run(run)
        if state.going:
            raise NothingNew(f"A retraining on {about} is under way: run {run}. Look at it: unmuffle pipeline list")
        if state.state == DONE:
            raise NothingNew(
                f"A retraining on {about} was done: run {run}. Nothing changed since; `unmuffle run --again` or "
                "`unmuffle pipeline trigger --again N` trains the same once more."
            )


def _run_of(store: str, key: str, number: int) -> str | None:
    where = _started_at(store, key, number)
    try:
        return Started.parse(storage.read(where), where).run_id
    except NotThere:
        return None


def _asked_at(store: str, key: str, number: int) -> str:
    return storage.join(store, "triggers", key, f"{number:04d}.json")


def _started_at(store: str, key: str, number: int) -> str:
    return storage.join(store, "triggers", key, f"{number:04d}.run.json")
