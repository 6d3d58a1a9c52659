"""Runs: what is written about them, now or after an outage.

Runs are found by the tag `logical_run_key`, so a stage that is tried again continues the run it began; every call names
its run, and nothing is read from or written to the environment but MLflow's own connection settings. A write that meets
an MLflow that does not answer waits in the journal (see `training/journal.py`) and is replayed, in order, before the
next write that succeeds: an outage never ends a training run.
"""

import base64
import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simulation import storage
from simulation.errors import StorageError, TrackingProblem
from simulation.home import Home
from training.journal import Entry, Journal
from training.tracking.connection import Connection, Unreachable

logger = logging.getLogger(__name__)

RUN_KEY = "logical_run_key"
PARENT_RUN = "mlflow.parentRunId"
PENDING = "pending:"
"""A run id with this prefix was given out while MLflow was away; its key follows, and the run appears on replay."""

METRICS_A_BATCH = 1000
PARAMS_A_BATCH = 100
PARAM_LENGTH = 6000
TAGS_A_BATCH = 100
DATASET_DIGEST_LENGTH = 36
PROMPT_S = 0.2
"""A refusal within this time holds nobody up."""


class Runs(Connection):
    """Runs on one MLflow, with a journal for its outages."""

    def __init__(self, uri: str | None = None, journal: str | None = None) -> None:
        super().__init__(uri)
        server = hashlib.sha256(self.uri.encode()).hexdigest()[:8]
        self._journal = Journal(storage.join(journal or storage.join(Home.current().store, "journal"), server))
        self._journal_is_empty = False
        self._last_steps: dict[tuple[str, str], int] = {}
        self._one_at_a_time = threading.RLock()
        self._away_until = 0.0
        """Until then nothing is asked of an MLflow that kept us waiting: for as long as that took."""

    # Runs. Each method describes its write as an entry; `_apply` below carries entries out, now or on replay.

    def run(self, key: str, name: str, parent_key: str | None = None, tags: Mapping[str, str] | None = None) -> str:
        """The run of this logical key, found or created, and running again; its MLflow id."""
        launcher = {"kfp_mlflow_run_id": os.environ["MLFLOW_RUN_ID"]} if "MLFLOW_RUN_ID" in os.environ else {}
        entry = {"do": "run", "key": key, "name": name, "parent_key": parent_key, "tags": {**launcher, **(tags or {})}}
        return self._write(entry) or PENDING + key

    def params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Log settings once, nested ones with dots; another value for a known name becomes the tag `changed.<name>`."""
        self._write({"do": "params", "run_id": run_id, "params": _flat(params)})

    def metrics(self, run_id: str, values: Mapping[str, float], step: int) -> None:
        """Log numbers at a step. A step at or before the last one of the same metric is a repetition: left out."""
        numbers = {name: float(value) for name, value in values.items()}
        self._write({"do": "metrics", "run_id": run_id, "values": numbers, "step": step, "time_ms": _now_ms()})

    def dataset(self, run_id: str, address: str, digest: str, context: str) -> None:
        """Record a corpus (its address and 64-hex digest) as an input of the run; context: training, gate, ..."""
        self._write({"do": "dataset", "run_id": run_id, "address": address, "digest": digest, "context": context})

    def artifact(self, run_id: str, content: Path | bytes, name: str) -> None:
        """Keep a small file with the run under `name`, which may hold folders."""
        data = content if isinstance(content, bytes) else content.read_bytes()
        self._write({"do": "artifact", "run_id": run_id, "name": name, "base64": base64.b64encode(data).decode()})

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags; unlike params they may change."""
        self._write({"do": "tag", "run_id": run_id, "tags": dict(tags)})

    def run_tags(self, run_id: str) -> dict[str, str]:
        """What a run says of itself, its code and its data."""
        with self._answers():
            return dict(self._client.get_run(self._real_id(run_id)).data.tags)

    def finish(self, run_id: str, ok: bool) -> None:
        """End the run as finished or failed."""
        self._write({"do": "finish", "run_id": run_id, "ok": ok})

    def replay(self) -> None:
        """Carry out what waits in the journal, oldest first; raises `TrackingProblem` if MLflow is still away."""
        with self._one_at_a_time:
            if self._journal_is_empty:
                return
            for address, entry in self._journal.entries():
                try:
                    self._apply(entry)
                except Unreachable:
                    raise
                except TrackingProblem as problem:
                    self._journal.refuse(address, str(problem))
                else:
                    self._journal.forget(address)
            self._journal_is_empty = True

    def _write(self, entry: Entry) -> Any:
        with self._one_at_a_time:
            began = time.monotonic()
            if began < self._away_until:
                self._journal.keep(entry)
                return None
            try:
                self._replay_if_readable()
                return self._apply(entry)
            except Unreachable as problem:
                waited = time.monotonic() - began
                self._away_until = time.monotonic() + (waited if waited > PROMPT_S else 0.0)
                self._journal_is_empty = False
                self._journal.keep(entry)
                logger.warning("kept in the journal at %s: %s", self._journal.address, problem)
                return None

    def _replay_if_readable(self) -> None:
        try:
            self.replay()
        except StorageError as problem:
            logger.warning("the journal waits for its store: %s", problem)

    def _apply(self, entry: Entry) -> Any:
        arguments = {name: value for name, value in entry.items() if name != "do"}
        if "run_id" in arguments:
            arguments["run_id"] = self._real_id(arguments["run_id"])
        with self._answers():
            return getattr(self, f"_do_{entry['do']}")(**arguments)

    def _do_run(self, key: str, name: str, parent_key: str | None, tags: dict[str, str]) -> str:
        parent = {PARENT_RUN: self._found_or_created(parent_key, parent_key, {})} if parent_key else {}
        run_id = self._found_or_created(key, name, {**tags, **parent})
        self._client.update_run(run_id, status="RUNNING")
        self._do_tag(run_id, tags)
        return run_id

    def _do_params(self, run_id: str, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        known = self._client.get_run(run_id).data.params
        new = [Param(name, value) for name, value in params.items() if name not in known]
        for batch in _batches(new, PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=batch)
        self._do_tag(run_id, {f"changed.{name}": v for name, v in params.items() if known.get(name, v) != v})

    def _do_metrics(self, run_id: str, values: dict[str, float], step: int, time_ms: int) -> None:
        from mlflow.entities import Metric

        new = [Metric(name, value, time_ms, step) for name, value in values.items() if step > self._last(run_id, name)]
        for batch in _batches(new, METRICS_A_BATCH):
            self._client.log_batch(run_id, metrics=batch)
        self._last_steps.update({(run_id, metric.key): step for metric in new})

    def _do_dataset(self, run_id: str, address: str, digest: str, context: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        whole = json.dumps({"digest": digest})  # MLflow cuts a digest at 36 characters; the profile keeps all of it
        source = json.dumps({"uri": address})
        name = address.rstrip("/").rsplit("/", 1)[-1]
        dataset = Dataset(name, digest[:DATASET_DIGEST_LENGTH], "unmuffle corpus", source, profile=whole)
        tag = InputTag("mlflow.data.context", context)
        self._client.log_inputs(run_id, datasets=[DatasetInput(dataset, [tag])])

    def _do_artifact(self, run_id: str, name: str, **content: str) -> None:
        folder, _, file_name = name.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / file_name
            path.write_bytes(base64.b64decode(content["base64"]))
            self._client.log_artifact(run_id, str(path), folder or None)

    def _do_tag(self, run_id: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        for batch in _batches([RunTag(name, value) for name, value in tags.items()], TAGS_A_BATCH):
            self._client.log_batch(run_id, tags=batch)

    def _do_finish(self, run_id: str, ok: bool) -> None:
        self._client.set_terminated(run_id, "FINISHED" if ok else "FAILED")

    # Finding runs

    def _found_or_created(self, key: str, name: str, tags: dict[str, str]) -> str:
        found = self._find(key)
        if found is None:
            self._client.create_run(self._experiment, run_name=name, tags={RUN_KEY: key, **tags})
            found = self._find(key)  # two creators at once agree on the earlier run
        assert found is not None
        return found

    def _find(self, key: str) -> str | None:
        runs = self._client.search_runs(
            [self._experiment],
            filter_string=f"tags.{RUN_KEY} = '{key}'",
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
            max_results=1,
        )
        return runs[0].info.run_id if runs else None

    def _real_id(self, run_id: str) -> str:
        if not run_id.startswith(PENDING):
            return run_id
        with self._answers():
            found = self._find(run_id.removeprefix(PENDING))
        if found is None:
            raise TrackingProblem(
                f"MLflow at {self._shown} holds no run with the key {run_id.removeprefix(PENDING)!r}."
            )
        return found

    def _last(self, run_id: str, metric: str) -> int:
        """The last step at which the metric was logged, by whichever attempt; -1 before the first."""
        if (run_id, metric) not in self._last_steps:
            history = self._client.get_metric_history(run_id, metric)
            self._last_steps[run_id, metric] = max((point.step for point in history), default=-1)
        return self._last_steps[run_id, metric]


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"model": {"width": 8}} -> {"model.width": "8"}."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        flat |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {prefix + name: str(value)[:PARAM_LENGTH]}
        )
    return flat


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _now_ms() -> int:
    return int(time.time() * 1000)
