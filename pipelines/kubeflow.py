"""A Kubeflow Pipelines server: versions of our pipelines, runs of them, schedules. Everything is found by its name.

KFP has no update of a schedule and creates a second one under an equal name; so what is there is looked at first, and
asking twice changes nothing.
"""

import contextlib
import hashlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulation.errors import BadSetting, UnmuffleError

HOST, TOKEN = "UNMUFFLE_KFP_HOST", "UNMUFFLE_KFP_TOKEN"
"""Variables: address of the server, and a token for it from outside the cluster."""
PROJECTED = Path("/var/run/secrets/kubeflow/pipelines/token")
"""Where a pod finds a token of its service account for KFP (audience pipelines.kubeflow.org)."""
EXPERIMENT = "unmuffle"
SERVICE_ACCOUNT = "unmuffle-launcher"
"""Of the pods of a run: may make and remove RayJobs, and nothing else."""
GOING = ("PENDING", "RUNNING", "PAUSED", "CANCELING", "RUNTIME_STATE_UNSPECIFIED")
PAGE = 100
EQUALS = 1
"""In a filter, as KFP's own client writes it."""


class KubeflowProblem(UnmuffleError):
    """The KFP server cannot be reached, or refuses."""


@dataclass(frozen=True)
class RunState:
    """A run as the server knows it."""

    run_id: str
    name: str
    state: str

    @property
    def going(self) -> bool:
        """Whether it may still give a result."""
        return self.state in GOING


@dataclass(frozen=True)
class Schedule:
    """A recurring run."""

    recurring_id: str
    name: str
    cron: str
    enabled: bool
    digest: str
    """Of the version, the cron expression and the parameters it was made with."""


class Kubeflow:
    """One server, one namespace (multi-user) or none (single-user)."""

    def __init__(self, client: Any, namespace: str) -> None:
        self._client = client
        self._namespace = namespace or None

    @classmethod
    def connect(cls, host: str = "", namespace: str = "") -> "Kubeflow":
        """The server at --host or UNMUFFLE_KFP_HOST, with a token where there is one."""
        host = host or os.environ.get(HOST, "")
        if not host:
            raise BadSetting(f"No Kubeflow is named. Give --host http://ml-pipeline.kubeflow:8888, or set {HOST}.")
        from kfp.client import Client, ServiceAccountTokenVolumeCredentials

        credentials = ServiceAccountTokenVolumeCredentials(str(PROJECTED)) if PROJECTED.exists() else None
        with _answers("connect"):
            client = Client(
                host=host,
                namespace=namespace or "kubeflow",
                existing_token=os.environ.get(TOKEN) or None,
                credentials=credentials,
            )
            client.get_kfp_healthz()
        return cls(client, namespace)

    def version(self, pipeline: str, text: str) -> tuple[str, str]:
        """Ids of the pipeline and of the version with this YAML, uploaded if they are not there; named by content."""
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        with _answers("upload"), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pipeline.yaml"
            path.write_text(text)
            pipeline_id = self._client.get_pipeline_id(pipeline)
            if pipeline_id is None:
                uploaded = self._client.upload_pipeline(str(path), pipeline, namespace=self._namespace)
                pipeline_id = uploaded.pipeline_id
            found = self._client.list_pipeline_versions(pipeline_id, page_size=PAGE, filter=_named(name))
            for one in found.pipeline_versions or ():
                return pipeline_id, one.pipeline_version_id
            version = self._client.upload_pipeline_version(str(path), name, pipeline_id=pipeline_id)
            return pipeline_id, version.pipeline_version_id

    def submit(self, pipeline: str, text: str, name: str, parameters: dict[str, Any]) -> RunState:
        """Start a run of this name; where one is going already, that one."""
        for one in self.runs(name):
            if one.going:
                return one
        pipeline_id, version_id = self.version(pipeline, text)
        with _answers("submit"):
            run = self._client.run_pipeline(
                self._experiment(),
                name,
                params=parameters,
                pipeline_id=pipeline_id,
                version_id=version_id,
                service_account=SERVICE_ACCOUNT,
            )
        return RunState(run.run_id, name, run.state or "PENDING")

    def runs(self, name: str = "") -> list[RunState]:
        """Runs of this name, or all in our experiment; the newest first."""
        with _answers("list"):
            found = self._client.list_runs(
                page_size=PAGE,
                sort_by="created_at desc",
                experiment_id=self._experiment(),
                filter=_named(name) if name else None,
            )
        return [RunState(one.run_id, one.display_name, one.state or "PENDING") for one in found.runs or ()]

    def run(self, run_id: str) -> RunState:
        """One run."""
        with _answers("get"):
            found = self._client.get_run(run_id)
        return RunState(found.run_id, found.display_name, found.state or "PENDING")

    def schedules(self, name: str = "") -> list[Schedule]:
        """Recurring runs of this name, or all in our experiment."""
        with _answers("list"):
            found = self._client.list_recurring_runs(
                page_size=PAGE, experiment_id=self._experiment(), filter=_named(name) if name else None
            )
        return [_schedule(one) for one in found.recurring_runs or ()]

    def schedule(
        self, pipeline: str, text: str, name: str, cron: str, parameters: dict[str, Any], recreate: bool = False
    ) -> Schedule:
        """Run the pipeline by the clock, one at a time, without catching up; an equal schedule is left as it is.

        Another version, cron or parameter makes a new one, and the old one goes after that. `recreate` does so too:
        after an upgrade of KFP, because a schedule keeps the launcher that it was compiled for.
        """
        cron = six_fields(cron)
        pipeline_id, version_id = self.version(pipeline, text)
        digest = hashlib.sha256(json.dumps([version_id, cron, parameters], sort_keys=True).encode()).hexdigest()[:16]
        before = self.schedules(name)
        kept = next((one for one in before if one.digest == digest and one.enabled and not recreate), None)
        if kept is None:
            with _answers("schedule"):
                made = self._client.create_recurring_run(
                    self._experiment(),
                    name,
                    description=f"unmuffle {digest}",
                    cron_expression=cron,
                    max_concurrency=1,
                    no_catchup=True,
                    params=parameters,
                    pipeline_id=pipeline_id,
                    version_id=version_id,
                    service_account=SERVICE_ACCOUNT,
                )
            kept = Schedule(made.recurring_run_id, name, cron, True, digest)
        for one in before:
            if one.recurring_id != kept.recurring_id:
                self._remove(one)
        return kept

    def unschedule(self, name: str) -> int:
        """Remove the schedules of this name; how many there were."""
        found = self.schedules(name)
        for one in found:
            self._remove(one)
        return len(found)

    def _remove(self, schedule: Schedule) -> None:
        with _answers("remove a schedule"):
            self._client.disable_recurring_run(schedule.recurring_id)
            self._client.delete_recurring_run(schedule.recurring_id)

    def _experiment(self) -> str:
        with _answers("open the experiment"):
            return str(self._client.create_experiment(EXPERIMENT, namespace=self._namespace).experiment_id)


def six_fields(cron: str) -> str:
    """KFP's cron has seconds first; five fields, as everybody writes them, are given a zero."""
    fields = cron.split()
    if len(fields) not in (5, 6):
        raise BadSetting(
            f"{cron!r} has {len(fields)} fields; expected minute, hour, day, month, weekday: '0 3 * * 1' is Mondays at"
            " three, in the time zone of KFP's controller."
        )
    return " ".join(["0", *fields] if len(fields) == 5 else fields)


def _schedule(one: Any) -> Schedule:
    cron = one.trigger.cron_schedule.cron if one.trigger and one.trigger.cron_schedule else ""
    digest = (one.description or "").removeprefix("unmuffle ")
    return Schedule(one.recurring_run_id, one.display_name, cron, one.status == "ENABLED", digest)


def _named(name: str) -> str:
    predicate = {"operation": EQUALS, "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


@contextlib.contextmanager
def _answers(what: str) -> Iterator[None]:
    """KFP's client prints links and raises whatever its HTTP library does; here that is one of our errors."""
    import kfp_server_api
    from urllib3.exceptions import HTTPError

    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    except kfp_server_api.ApiException as error:
        body = str(error.body or error.reason)[:500]
        raise KubeflowProblem(f"Kubeflow refuses to {what}: {error.status} {body}") from None
    except (HTTPError, OSError, TimeoutError) as error:
        raise KubeflowProblem(f"Kubeflow did not answer ({what}): {error}. Look at --host or {HOST}.") from None
