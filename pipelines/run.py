"""The whole pipeline on this machine, through KFP's local runner.

KFP and the tasks it starts speak a lot; what they say goes to a log file under the home, and only the lines that the
stages mark for a person are shown.
"""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from components import stage
from components.compute import MARK, NARRATED
from components.distil import check_pair, pair_of
from components.evaluate import pinned
from components.simulate import chosen
from components.specs import is_address
from components.train import named_recipe
from pipelines.request import Request
from serving.policy import policy_for
from simulation import storage
from simulation.cluster import cluster
from simulation.errors import BadSetting, NotThere, UnmuffleError
from simulation.folder import writing
from simulation.home import Home
from training.registry import known_use
from training.tracking import Tracking

LOG = "pipeline.log"


def run_here(
    request: Request,
    home: Home,
    store: str,
    show: Callable[[str], None],
    told: Callable[[str], None] = lambda address: None,
    again: bool = False,
) -> str:
    """Run `retrain` for this request; returns the address of the last stage's result.

    `again` asks for one more try than were finished so far. Every line that a stage marks is passed to `show`, and the
    address to `told` at once: the cluster ends later where other commands use it. Raises UnmuffleError with the message
    of the stage that failed.
    """
    request = checked(request)
    if again:
        request = _next(request, store)
    key = request.key()
    logs = home.path / "runs" / key
    with writing(str(logs)):
        logs.mkdir(parents=True, exist_ok=True)
    storage.delete(stage.error_address(store, key))
    show(f"run: {key}; what every task says is in {logs / LOG}")
    tracking = Tracking()
    parent = tracking.run(key, f"retrain {request.scenario}")
    tracking.params(parent, request.model_dump(mode="json"))
    ok = False
    show("run: starting Ray")
    with cluster(home):
        try:
            show("run: starting the pipeline")
            result = _narrated_run(request, store, logs, show)
            storage.replace(_finished(store, key), result.encode())
            ok = True
        finally:
            tracking.finish(parent, ok)
        told(result)
    return result


def _narrated_run(request: Request, store: str, logs: Path, show: Callable[[str], None]) -> str:
    parameters = request.model_dump() | {"recipes": list(request.recipes), "store": store, "run_key": request.key()}
    with _narrated(logs / LOG, show):
        try:
            return _through_kfp(parameters, logs)
        except RuntimeError as error:  # kfp raises nothing finer for a task that failed
            raise UnmuffleError(_reason(store, request.key(), logs / LOG, error)) from None


def checked(request: Request) -> Request:
    """The request with full addresses, so that its key is its own; names that do not exist are refused here."""
    known_use(request.use)
    policy_for(request.use, request.policy)
    chosen(request.scenario, hours=request.hours, seed=request.seed)
    if not request.recipes:
        raise BadSetting("No recipe is named. Give --recipes dm_smoke,gru_smoke; `unmuffle recipes` lists them.")
    if request.distil:
        check_pair(request.distil, request.recipes, request.use)
        teachers, student = pair_of(request.distil)
        named = (_full(teacher) if teacher in request.recipes else teacher for teacher in teachers)
        request = request.model_copy(update={"distil": f"{','.join(named)}:{_full(student)}"})
    for name in request.recipes:
        recipe = named_recipe(name)
        if recipe.use != request.use:
            raise BadSetting(f"The recipe {name} is for {recipe.use}, not for {request.use}; give --use {recipe.use}.")
    full = {
        "scenario": _full(request.scenario),
        "recipes": tuple(map(_full, request.recipes)),
        "gate_corpus": pinned(request.gate_corpus),
        "policy": _full(request.policy),
    }
    return request.model_copy(update=full)


def _full(name: str) -> str:
    """A name as it is; the address of a document in full."""
    return storage.normal(name) if is_address(name) else name


def _next(request: Request, store: str) -> Request:
    """The first try of this request, after the plain one, that was not finished yet."""
    tries = (request.model_copy(update={"again": number}) for number in count(1))
    return next(one for one in tries if not storage.exists(_finished(store, one.key())))


def _finished(store: str, key: str) -> str:
    return storage.join(store, "runs", key, "finished")


def _through_kfp(parameters: dict[str, Any], logs: Path) -> str:
    from kfp import local

    from pipelines.enhancement import retrain

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(logs / "kfp"), raise_on_error=True)
    task = retrain(**parameters)
    return str(task.outputs["Output"])


def _reason(store: str, key: str, log_file: Path, error: RuntimeError) -> str:
    """The message the failing stage left, else where the log is."""
    with contextlib.suppress(NotThere):
        return storage.read(stage.error_address(store, key)).decode()
    return f"The pipeline stopped ({error}). What every task said is in {log_file}."


class _Narrator(io.TextIOBase):
    """A stream that writes everything to the log and shows only marked lines."""

    def __init__(self, log_file: io.TextIOBase, show: Callable[[str], None]) -> None:
        self._log = log_file
        self._show = show
        self._rest = ""

    def write(self, text: str) -> int:
        """Called by kfp with pieces of its tasks' output."""
        self._log.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            _, mark, said = line.partition(MARK)
            if mark:
                self._show(said)
        return len(text)

    def flush(self) -> None:
        """Keep the log readable while the run goes on."""
        self._log.flush()


@contextlib.contextmanager
def _narrated(log_file: Path, show: Callable[[str], None]) -> Iterator[None]:
    """Everything printed or logged in this process goes to the log file; marked lines are shown as well."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with log_file.open("w", buffering=1) as file, _environment({NARRATED: "1", "PYTHONUNBUFFERED": "1"}):
        narrator = _Narrator(file, show)
        with (
            contextlib.redirect_stdout(narrator),
            contextlib.redirect_stderr(narrator),
            warnings.catch_warnings(action="ignore"),
        ):
            try:
                yield
            finally:
                root.handlers[:] = handlers  # kfp installs its own
                root.setLevel(level)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for the tasks that kfp starts, and put back what was there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
