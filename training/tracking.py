"""The one door to MLflow: runs, their numbers, and the registry of versions.

Runs are found by the tag `logical_run_key`, so a stage that is tried again continues the run it began; every call names
its run, and nothing is read from or written to the environment but MLflow's own connection settings. A write that meets
an MLflow that does not answer waits in the journal (see `training/journal.py`) and is replayed, in order, before the
next write that succeeds: an outage never ends a training run. Questions, and everything about versions and aliases,
cannot wait: they raise `TrackingProblem`.

MLflow takes seconds to import, so it is imported at the first contact. By default it is a sqlite file under the home,
with its artifacts in a folder beside it; MLFLOW_TRACKING_URI names any other server.
"""

import base64
import fcntl
import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from simulation import storage
from simulation.errors import CheckpointIncompatible, NoChampion, NotThere, StorageError, TrackingProblem, UnknownName
from simulation.home import Home
from training.journal import Entry, Journal
from training.registry import CHAMPION, DEFAULT_USE, USES, Version, known_use, parse_reference

logger = logging.getLogger(__name__)

EXPERIMENT = "unmuffle"
RUN_KEY = "logical_run_key"
PARENT_RUN = "mlflow.parentRunId"
PENDING = "pending:"
"""A run id with this prefix was given out while MLflow was away; its key follows, and the run appears on replay."""

METRICS_A_BATCH = 1000
PARAMS_A_BATCH = 100
PARAM_LENGTH = 6000
TAGS_A_BATCH = 100
DATASET_DIGEST_LENGTH = 36
_OUTAGE = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}


class Unreachable(TrackingProblem):
    """MLflow does not answer; the same call may succeed later."""


class Tracking:
    """Runs and versions on one MLflow; without arguments the one of the current home."""

    def __init__(self, uri: str | None = None, journal: str | None = None) -> None:
        home = Home.current()
        self.uri = uri or home.tracking_uri
        server = hashlib.sha256(self.uri.encode()).hexdigest()[:8]
        self._journal = Journal(storage.join(journal or storage.join(home.store, "journal"), server))
        self._journal_is_empty = False
        self._last_steps: dict[tuple[str, str], int] = {}

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

    def finish(self, run_id: str, ok: bool) -> None:
        """End the run as finished or failed."""
        self._write({"do": "finish", "run_id": run_id, "ok": ok})

    @contextmanager
    def system_metrics(self, run_id: str, every_s: float = 10.0) -> Iterator[None]:
        """Sample CPU, memory, disk, network and GPU into the run while the block lasts; an outage just stops it."""
        if run_id.startswith(PENDING):
            yield
            return
        _set_up_mlflow()
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, every_s, resume_logging=True, tracking_uri=self.uri)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def replay(self) -> None:
        """Carry out what waits in the journal, oldest first; raises `TrackingProblem` if MLflow is still away."""
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
        try:
            self._replay_if_readable()
            return self._apply(entry)
        except Unreachable as problem:
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

    # Registry

    def register(
        self, use: str, network: str, address: str, digest: str, run_id: str, tags: Mapping[str, str]
    ) -> Version:
        """Register the checkpoint folder at `address` as a version of `use`, made by `run_id`.

        `digest` is the sha256 of its weights; `tags` holds `stage_key`, `recipe`, `corpus_digest`. A stage key that is
        registered already gives back its version, so that a repeated stage registers once.
        """
        sample_rate = known_use(use).sample_rate
        self.replay()
        known = self.versions(use)
        for version in known:
            if version.tags.get("stage_key") == tags["stage_key"]:
                return version
        number = 1 + max((int(v.tags["number"]) for v in known if v.network == network), default=0)
        facts = {"network": network, "number": str(number), "address": address, "weights_sha256": digest}
        with self._answers():
            self._ensure_model(use, sample_rate)
            run_id = self._real_id(run_id)
            # A server refuses file:// sources outside the run's own artifacts, so the true address stands in a tag.
            created = self._client.create_model_version(
                use, f"runs:/{run_id}/version", run_id, tags={**tags, **facts}, await_creation_for=0
            )
        version = self._numbered(_version(created))
        facts["number"] = version.tags["number"]
        self.artifact(run_id, json.dumps({"use": use, **facts}, indent=2).encode(), "version/version.json")
        return version

    def _numbered(self, version: Version) -> Version:
        """The version under a number of its own: of two that were registered at once, the later one gives way."""
        while True:
            family = [other for other in self.versions(version.use) if other.network == version.network]
            earlier = {other.tags["number"] for other in family if int(other.version) < int(version.version)}
            if version.tags["number"] not in earlier:
                return version
            number = str(1 + max(int(other.tags["number"]) for other in family))
            self.tag_version(version, {"number": number})
            version = replace(version, tags={**version.tags, "number": number})

    def versions(self, use: str) -> list[Version]:
        """All versions of a use, oldest first; what somebody else registered under its name is none of ours."""
        known_use(use)
        with self._answers():
            found = self._client.search_model_versions(f"name='{use}'")
        ours = [_version(each) for each in found if "number" in each.tags]
        return sorted(ours, key=lambda version: int(version.version))

    def version(self, use: str, number: str) -> Version:
        """The version with this registry number."""
        known = {version.version: version for version in self.versions(use)}
        if str(number) not in known:
            raise UnknownName(f"version of {use}", str(number), known)
        return known[str(number)]

    def tag_version(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags on a registered version."""
        with self._answers():
            for name, value in tags.items():
                self._client.set_model_version_tag(version.use, version.version, name, value)

    def aliases(self, use: str) -> dict[str, str]:
        """alias -> registry number of the version it points at."""
        known_use(use)
        with self._answers():
            models = self._client.search_registered_models(f"name='{use}'")
        return {name: str(number) for model in models for name, number in model.aliases.items()}

    def alias(self, use: str, alias: str) -> Version | None:
        """The version an alias points at, or None."""
        number = self.aliases(use).get(alias)
        return None if number is None else self.version(use, number)

    def set_alias(self, use: str, alias: str, version: str) -> None:
        """Point an alias at a version, in one call: the old and the new answer have nothing between them."""
        with self._answers():
            self._client.set_registered_model_alias(use, alias, version)

    def delete_alias(self, use: str, alias: str) -> None:
        """Take an alias away; one that does not exist is fine."""
        if alias in self.aliases(use):
            with self._answers():
                self._client.delete_registered_model_alias(use, alias)

    def resolve(self, model: str, use: str = DEFAULT_USE) -> Version:
        """What a person means by `champion`, `<use>/champion`, `dm/3`, or the address of a checkpoint folder."""
        known_use(use)
        reference = parse_reference(model, use)
        if reference is None:
            return self._unregistered(model, use)
        if reference.alias:
            return self._by_alias(reference.use, reference.alias)
        for version in self.versions(reference.use):
            if (version.network, version.tags["number"]) == (reference.network, reference.number):
                return version
        raise UnknownName(f"model for {reference.use}", model, self._model_names(reference.use))

    def _by_alias(self, use: str, alias: str) -> Version:
        version = self.alias(use, alias)
        if version is not None:
            return version
        if alias != CHAMPION:
            raise UnknownName(f"model for {use}", alias, self._model_names(use))
        raise NoChampion(
            f"Nothing has been promoted for {use} yet. Train and gate a first version with `unmuffle run`, or name a "
            f"model instead of the champion: `unmuffle models` lists those that exist."
        )

    def _unregistered(self, model: str, use: str) -> Version:
        looks_like_address = "://" in model or model.startswith((".", "/", "~")) or Path(model).is_dir()
        if not looks_like_address:
            raise UnknownName("model", model, self._model_names(use))
        address = storage.normal(model)
        try:
            record = json.loads(storage.read(storage.join(address, "config.json")))
            network, digest = record["model"]["kind"], record["weights_sha256"]
        except NotThere:
            what = "checkpoint folder (one with config.json in it)"
            raise UnknownName(what, model, self._model_names(use)) from None
        except (ValueError, KeyError, TypeError):
            raise CheckpointIncompatible(
                f"{address}/config.json is not the record of a version. Expected a folder that `unmuffle train` wrote; "
                f"`unmuffle models` lists the registered ones."
            ) from None
        return Version(use, version="", network=network, address=address, weights_sha256=digest, run_id="")

    def _model_names(self, use: str) -> list[str]:
        return [*self.aliases(use), *(version.name for version in self.versions(use))]

    def _ensure_model(self, use: str, sample_rate: int) -> None:
        if not self._client.search_registered_models(f"name='{use}'"):
            tags = {"sample_rate": str(sample_rate)}
            self._client.create_registered_model(use, tags, USES[use].description)

    # The connection

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Turn MLflow's own errors into ours: `Unreachable` when it may answer later, else `TrackingProblem`."""
        _set_up_mlflow()
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, OSError) as error:  # what requests raises is an OSError
            raise self._unreachable(error) from error
        except MlflowException as error:
            if error.error_code in _OUTAGE:
                raise self._unreachable(error) from error
            raise TrackingProblem(
                f"MLflow at {self._shown} refuses: {self._said(error)} If that is not the server you mean, set "
                f"MLFLOW_TRACKING_URI."
            ) from error

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"MLflow at {self._shown} does not answer: {self._said(_root(error))} Expected a tracking server or a "
            f"database there: check MLFLOW_TRACKING_URI and that the server runs, or unset MLFLOW_TRACKING_URI to use "
            f"a sqlite file under UNMUFFLE_HOME; `unmuffle doctor` tries the connection."
        )

    @property
    def _shown(self) -> str:
        """The address without user and password."""
        return re.sub("(?<=//)[^/]*@", "", self.uri)

    def _said(self, error: BaseException) -> str:
        """The first line of a message, without the password; some of MLflow's go on for a page."""
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        return line.replace(self.uri, self._shown)[:300].rstrip(".") + "."

    @cached_property
    def _client(self) -> Any:
        from mlflow import MlflowClient

        logging.getLogger("alembic").setLevel(logging.WARNING)  # hundreds of lines when the sqlite file is made
        with _only_opener(self._database) if self._database else nullcontext():
            return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @cached_property
    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        artifacts = (self._database.parent / "artifacts").as_uri() if self._database else None
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            try:
                return str(self._client.create_experiment(EXPERIMENT, artifact_location=artifacts))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self._client.get_experiment_by_name(EXPERIMENT)
        return str(found.experiment_id)

    @property
    def _database(self) -> Path | None:
        """The sqlite file, if it is one."""
        return Path(self.uri.removeprefix("sqlite:///")).absolute() if self.uri.startswith("sqlite:///") else None


def _set_up_mlflow() -> None:
    """What MLflow reads from the environment while it is imported and at each request; called before either."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # its own defaults let an outage block for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


@contextmanager
def _only_opener(database: Path) -> Iterator[None]:
    """Hold a lock beside the sqlite file while it is opened: MLflow creates its tables then, and two must not."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with open(database.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _version(found: Any) -> Version:
    tags = dict(found.tags)
    return Version(
        use=found.name,
        version=str(found.version),
        network=tags["network"],
        address=tags["address"],
        weights_sha256=tags["weights_sha256"],
        run_id=found.run_id or "",
        tags=tags,
    )


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


def _root(error: BaseException) -> BaseException:
    """The innermost reason: "connection refused" rather than the three libraries that pass it on."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error


def _now_ms() -> int:
    return int(time.time() * 1000)
