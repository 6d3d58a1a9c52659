"""A stage is a function with a spec: key, attempt, result.

    <store>/stages/<name>/<key, 16 hex>/spec.json               what to do
                                       /attempts/<n>.json       who is doing it; the highest number owns the stage
                                       /result.json             written last, on success only

An equal key with a result is answered from it. A writer claims an attempt by conditional create and checks before each
commit that no higher one exists, so a lost worker that comes back late cannot overwrite its successor.
"""

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from components.specs import SPECS, AnySpec
from simulation import storage
from simulation.errors import BadSetting, NotThere, Superseded, UnknownName, UnmuffleError
from simulation.schema import Schema, canonical_json

log = logging.getLogger(__name__)

FUNCTIONS = {
    "simulate": "components.simulate",
    "train": "components.train",
    "distil": "components.distil",
    "tune": "components.tune",
    "evaluate": "components.evaluate",
    "promote": "components.promote",
}
"""Where each stage's function `run(spec, stage)` lives; imported only when the stage runs."""


class Result(Schema):
    """What a stage leaves behind: small values and addresses, never audio."""

    stage: str
    key: str
    spec_digest: str
    attempt: int
    seconds: float
    outputs: dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One attempt at a stage, as its function sees it."""

    name: str
    key: str
    store: str
    attempt: int

    @property
    def folder(self) -> str:
        """Address of everything this stage keeps."""
        return folder(self.store, self.name, self.key)

    def check(self) -> None:
        """To be called before each commit: raises Superseded when a newer attempt owns the stage."""
        newest = _newest_attempt(self.folder)
        if newest > self.attempt:
            raise Superseded(
                f"Attempt {self.attempt} of stage {self.name} ({self.key[:16]}) was replaced by attempt {newest}; "
                "it stops here and commits nothing. Nothing needs to be typed: the newer attempt goes on."
            )


def folder(store: str, name: str, key: str) -> str:
    """Address of a stage in a store."""
    return storage.join(store, "stages", name, key[:16])


def write_spec(store: str, spec: AnySpec) -> str:
    """Put the spec where its stage will look for it; returns its address."""
    address = storage.join(folder(store, spec.stage, spec.key()), "spec.json")
    storage.replace(address, spec.canonical())
    return address


def result_of(store: str, spec: AnySpec) -> Result | None:
    """The result of an equal spec, if there is one."""
    address = storage.join(folder(store, spec.stage, spec.key()), "result.json")
    try:
        return Result.parse(storage.read(address), address)
    except NotThere:
        return None


def run(name: str, address: str) -> Result:
    """Do the stage whose spec lies at this address, or answer from its result.

    Raises UnmuffleError for whatever a person can mend; the message is also left for the pipeline run that asked.
    """
    if name not in SPECS:
        raise UnknownName("stage", name, SPECS)
    address = storage.normal(address)
    spec = SPECS[name].parse(storage.read(address), address)
    store = _store_of(address, name)
    done = result_of(store, spec)
    if done is not None:
        log.info("%s: answered from its result (%s)", name, spec.key()[:16])
        return done
    try:
        return _attempt(spec, store)
    except UnmuffleError as error:
        leave_error(store, spec.parent, str(error))
        raise


def error_address(store: str, parent: str) -> str:
    """Where a failing stage leaves its message for the pipeline run that asked."""
    return storage.join(store, "runs", parent, "error.txt")


def leave_error(store: str, parent: str, message: str) -> None:
    """Leave a message for the pipeline run, which cannot see it through KFP."""
    if parent:
        storage.replace(error_address(store, parent), message.encode())


def _attempt(spec: AnySpec, store: str) -> Result:
    stage = _claim(spec, store)
    function: Callable[[Any, Stage], dict[str, Any]] = import_module(FUNCTIONS[spec.stage]).run
    began = time.monotonic()
    outputs = function(spec, stage)
    stage.check()
    result = Result(
        stage=spec.stage,
        key=stage.key,
        spec_digest=spec.digest(),
        attempt=stage.attempt,
        seconds=round(time.monotonic() - began, 3),
        outputs=outputs,
    )
    storage.create(storage.join(stage.folder, "result.json"), result.canonical())
    finished = result_of(store, spec)
    assert finished is not None
    return finished


def _claim(spec: AnySpec, store: str) -> Stage:
    """Take the next attempt number; two that want the same one cannot both get it."""
    key = spec.key()
    base = folder(store, spec.stage, key)
    owner = canonical_json({"host": socket.gethostname(), "pid": os.getpid(), "began": time.time()})
    number = _newest_attempt(base) + 1
    while not storage.create(_attempt_address(base, number), owner):
        number += 1
    return Stage(name=spec.stage, key=key, store=store, attempt=number)


def _attempt_address(base: str, number: int) -> str:
    return storage.join(base, "attempts", f"{number:06d}.json")


def _newest_attempt(base: str) -> int:
    names = [stored.address.rsplit("/", 1)[1] for stored in storage.listing(storage.join(base, "attempts"))]
    return max((int(name.removesuffix(".json")) for name in names), default=0)


def _store_of(address: str, name: str) -> str:
    store, mark, _ = address.rpartition(f"/stages/{name}/")
    if not mark:
        raise BadSetting(f"{address} is not a spec of stage {name}: expected <store>/stages/{name}/<key>/spec.json.")
    return store
