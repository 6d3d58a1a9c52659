"""The launcher against a scripted Kubernetes API, through the real client: every end of a RayJob, and no job left."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components import rayjob, stage
from components.cluster_profile import ClusterProfile
from components.compute import Compute, launch
from components.kube import NEEDED, Kube
from components.launcher import Clock, Launcher
from components.specs import Input, TrainSpec
from simulation import storage
from simulation.errors import KubernetesRefused, KubernetesUnreachable, StageFailed, Terminated
from tests.components.fake_kube import (
    FakeKube,
    complete,
    failed,
    gone,
    initializing,
    kubeconfig,
    running,
    serving,
    stage_done,
)
from training.profile import ComputeProfile

SPEC = TrainSpec(recipe={"name": "tiny"}, corpus=Input(address="file:///corpus", sha256="0" * 64), parent="a run")
NAME = rayjob.name_of(SPEC)
PROFILE = ClusterProfile(image="registry.example/unmuffle@sha256:" + "1" * 64)


class FakeClock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def clock(self) -> Clock:
        return Clock(now=lambda: self.now_s, sleep=self.sleep)


@dataclass
class Cluster:
    """A fake API server, a launcher that speaks to it, and a store."""

    kube: FakeKube
    launcher: Launcher
    store: str
    said: list[str]
    time: FakeClock

    def launch(self, *steps: Any, spec: TrainSpec = SPEC) -> stage.Result:
        """Launch against these statuses of the job."""
        self.kube.scripts[""] = list(steps)
        return self.launcher.launch(spec, self.store)


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKube]:
    """The server, and KUBECONFIG that leads to it."""
    with serving(FakeKube()) as server:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(server, tmp_path / "kubeconfig")))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield server


def compute_with(**changes: Any) -> Compute:
    """A compute profile with this cluster."""
    return Compute(workers=4, training=ComputeProfile(), cluster=PROFILE.model_copy(update=changes))


@pytest.fixture
def cluster(kube: FakeKube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Whatever the job's entrypoint names is done at once, in this process."""
    monkeypatch.setitem(stage.FUNCTIONS, "train", "tests.components.tiny_stage")
    said: list[str] = []
    fake = FakeClock()
    launcher = Launcher(Kube.connect("unmuffle"), compute_with(), fake.clock(), said.append, said.append)
    return Cluster(kube, launcher, storage.normal(str(tmp_path / "store")), said, fake)


def kept(cluster: Cluster, name: str = NAME) -> dict[str, Any]:
    """The post-mortem of a job: file name to content."""
    base = storage.join(stage.folder(cluster.store, "train", SPEC.key()), "post-mortem", name)
    return {one.address.rsplit("/", 1)[1]: storage.read(one.address) for one in storage.listing(base)}


def test_a_stage_runs_as_a_rayjob_and_answers_with_its_result(cluster: Cluster) -> None:
    """The entrypoint is `unmuffle stage` on the spec that was written; the job is gone afterwards."""
    result = cluster.launch({}, initializing(), running(), stage_done)
    assert result.outputs == {"weights": "of tiny"}
    assert cluster.kube.jobs == []
    assert cluster.kube.created[0]["spec"]["entrypoint"].startswith("unmuffle stage train --spec file:///")
    assert kept(cluster) == {}


def test_launching_goes_where_the_compute_profile_says(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps call one function; with a cluster in UNMUFFLE_COMPUTE it makes a RayJob, and the next call needs none."""
    monkeypatch.setenv("UNMUFFLE_COMPUTE", compute_with(poll_s=0.01).model_dump_json())
    cluster.kube.scripts[""] = [stage_done]
    first = launch(SPEC, cluster.store)
    monkeypatch.delenv("UNMUFFLE_COMPUTE")
    assert launch(SPEC, cluster.store) == first
    assert len(cluster.kube.created) == 1


def test_a_retry_of_kuberay_is_waited_for(cluster: Cluster) -> None:
    """Retrying is no end: a new Ray cluster is on its way, and one RayJob is enough."""
    result = cluster.launch(running(), {"jobDeploymentStatus": "Retrying"}, initializing(), running(), stage_done)
    assert (result.attempt, len(cluster.kube.created)) == (1, 1)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (complete("STOPPED"), "was STOPPED"),
        (failed("DeadlineExceeded", "ran for a day"), "DeadlineExceeded: ran for a day"),
        ({"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed", "message": "no"}, "is not valid"),
    ],
    ids=["stopped", "failed", "not valid"],
)
def test_whatever_else_ends_a_job_fails_with_the_reason(cluster: Cluster, end: dict[str, Any], words: str) -> None:
    """Complete is not success, and ValidationFailed is final though the operator does not call it so."""
    cluster.kube.log = "2026-11-21T10:00:00.000000001Z the driver's last words\n"
    cluster.kube.put("pods", "submitter", metadata={"labels": {"batch.kubernetes.io/job-name": NAME}})
    with pytest.raises(StageFailed, match=words):
        cluster.launch(running(), end)
    assert cluster.kube.jobs == []
    bundle = kept(cluster)
    assert set(bundle) == {"events.json", "job.json", "pods.json", "submitter.log", "summary.json"}
    assert b"last words" in bundle["submitter.log"]
    assert json.loads(bundle["job.json"])["status"] == end


def test_what_the_stage_said_is_the_answer(cluster: Cluster) -> None:
    """An error that a person can mend is not hidden behind AppFailed."""

    def fails(kube: FakeKube, job: dict[str, Any]) -> dict[str, Any]:
        stage.leave_error(cluster.store, SPEC.parent, "The recipe tiny asks for too much.")
        return failed("AppFailed", "job exited with code 2")

    with pytest.raises(StageFailed, match="asks for too much") as raised:
        cluster.launch(running(), fails)
    assert "post-mortem" in str(raised.value)


def test_success_without_a_result_is_no_success(cluster: Cluster) -> None:
    """The result is an object in the store, whatever Ray says of the process."""
    with pytest.raises(StageFailed, match="left no result"):
        cluster.launch(running(), complete())
    assert cluster.kube.jobs == []


def test_a_job_that_somebody_deletes_has_failed(cluster: Cluster) -> None:
    """It was there and is not: nobody should wait for it."""
    with pytest.raises(StageFailed, match="was deleted while it ran"):
        cluster.launch(running(), running(), gone)
    assert cluster.kube.jobs == []


def test_a_suspended_job_is_waited_for_until_it_is_admitted(cluster: Cluster) -> None:
    """Kueue's word about the wait is passed on; being pre-empted later on begins a new wait."""
    cluster.launcher.compute = compute_with(queue="gpus", poll_s=600)
    suspended = {"jobDeploymentStatus": "Suspended"}
    cluster.kube.put(
        "workloads",
        "w",
        metadata={"labels": {"kueue.x-k8s.io/job-uid": f"uid-of-{NAME}"}},
        status={"conditions": [{"type": "QuotaReserved", "message": "insufficient unused quota for nvidia.com/gpu"}]},
    )
    long = [suspended] * 10  # of ten minutes each, less than the timeout of two hours
    cluster.launch(*long, initializing(), running(), *long, initializing(), running(), stage_done)
    assert any("insufficient unused quota" in line for line in cluster.said)
    assert cluster.kube.created[0]["spec"]["suspend"] is True
    assert cluster.kube.created[0]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_a_job_that_is_never_admitted_is_taken_back(cluster: Cluster) -> None:
    """KubeRay's deadlines do not count what a queue takes, so ours does."""
    cluster.launcher.compute = compute_with(poll_s=600)
    with pytest.raises(StageFailed, match="was not admitted within 7200 s"):
        cluster.launch({"jobDeploymentStatus": "Suspended"})
    assert cluster.kube.jobs == []
    assert 7200 < cluster.time.now_s < 8400


def test_an_api_server_that_is_away_for_minutes_is_waited_for(cluster: Cluster) -> None:
    """Refused, overloaded and cut connections; the job runs on meanwhile and is not created twice."""

    def away(kube: FakeKube, job: dict[str, Any]) -> dict[str, Any]:
        kube.outage = [503, 0, 429, 500, 0] * 16
        return running()

    cluster.kube.outage = [503, 0, 429]
    cluster.launch(initializing(), away, running(), stage_done)
    assert len(cluster.kube.created) == 1
    assert cluster.time.now_s > 780


def test_an_api_server_that_stays_away_ends_the_wait_and_not_the_job(cluster: Cluster) -> None:
    """The message says that it goes on; whoever launches next adopts it."""

    cluster.launcher.compute = compute_with(poll_s=100)

    def away(kube: FakeKube, job: dict[str, Any]) -> dict[str, Any]:
        kube.outage = [503] * 20
        return running()

    with pytest.raises(KubernetesUnreachable, match="goes on without us"):
        cluster.launch(running(), away)
    cluster.kube.outage = []
    assert cluster.kube.jobs == [NAME]
    assert cluster.launch(running(), stage_done).outputs == {"weights": "of tiny"}
    assert (cluster.kube.jobs, len(cluster.kube.created)) == ([], 1)


def test_an_operator_that_lost_sight_of_a_job_is_answered_by_another_launch(cluster: Cluster) -> None:
    """KubeRay does not retry that; the second job has a name of its own, and the first one was kept and removed."""
    cluster.kube.scripts[f"{NAME}-a2"] = [running(), stage_done]
    result = cluster.launch(running(), failed("JobStatusCheckTimeoutExceeded"))
    assert result.outputs == {"weights": "of tiny"}
    assert [job["metadata"]["name"] for job in cluster.kube.created] == [NAME, f"{NAME}-a2"]
    assert cluster.kube.jobs == []
    assert "summary.json" in kept(cluster)


def test_launches_are_counted_whoever_made_them(cluster: Cluster) -> None:
    """Two, says the profile; a job that failed before is not launched under its old name again."""
    for name in (NAME, f"{NAME}-a2", f"{NAME}-a3", f"{NAME}-a4"):
        cluster.kube.scripts[name] = [failed("JobStatusCheckTimeoutExceeded")]
    for names in ([NAME, f"{NAME}-a2"], [f"{NAME}-a3", f"{NAME}-a4"]):
        cluster.kube.created.clear()
        with pytest.raises(StageFailed, match="JobStatusCheckTimeoutExceeded"):
            cluster.launcher.launch(SPEC, cluster.store)
        assert [job["metadata"]["name"] for job in cluster.kube.created] == names
    assert cluster.kube.jobs == []


def test_two_launchers_race_and_make_one_job(cluster: Cluster) -> None:
    """Both end with the result, whichever of them finds the job gone because the other one has tidied up."""
    cluster.kube.scripts[""] = [*[running()] * 6, stage_done]
    results: list[Any] = []

    def one() -> None:
        launcher = Launcher(Kube.connect("unmuffle"), compute_with(poll_s=0.01), tell=cluster.said.append)
        results.append(launcher.launch(SPEC, cluster.store))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [result.outputs for result in results] == [{"weights": "of tiny"}] * 2
    assert (len(cluster.kube.created), cluster.kube.jobs) == (1, [])
    assert any("is there already" in line for line in cluster.said)


def test_two_launchers_of_a_job_that_fails_tell_the_same(cluster: Cluster) -> None:
    """The one that comes too late finds the reason in the store."""
    cluster.kube.scripts[""] = [running(), running(), running(), failed("DeadlineExceeded")]
    messages: list[str] = []

    def one() -> None:
        launcher = Launcher(Kube.connect("unmuffle"), compute_with(poll_s=0.01, launches=1), tell=lambda line: None)
        with pytest.raises(StageFailed) as raised:
            launcher.launch(SPEC, cluster.store)
        messages.append(str(raised.value))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert cluster.kube.jobs == []
    assert len(messages) == 2
    assert all("DeadlineExceeded" in message for message in messages)


def test_a_name_that_is_being_freed_is_waited_for(cluster: Cluster) -> None:
    """A job with a deletion under way is not adopted: it is about to be gone."""
    cluster.kube.put("rayjobs", NAME, metadata={"deletionTimestamp": "2026-11-21T10:00:00Z"})

    def removed(kube: FakeKube, job: dict[str, Any]) -> dict[str, Any]:
        kube.objects.pop(("rayjobs", NAME))
        kube.scripts[""] = [running(), stage_done]
        return {}

    assert cluster.launch({}, {}, removed).outputs == {"weights": "of tiny"}
    assert len(cluster.kube.created) == 1


def test_a_job_of_this_name_for_another_spec_is_left_alone(cluster: Cluster) -> None:
    """It is not ours to watch, nor to delete."""
    cluster.kube.put("rayjobs", NAME, metadata={"annotations": {rayjob.DIGEST: "f" * 64}})
    with pytest.raises(KubernetesRefused, match="another spec"):
        cluster.launch(running())
    assert cluster.kube.jobs == [NAME]


def test_what_the_api_server_does_not_allow_is_said(cluster: Cluster) -> None:
    """With what to type."""
    cluster.kube.refused["create", "rayjobs"] = 403
    with pytest.raises(KubernetesRefused, match=r"create rayjobs: 403.*doctor --cluster"):
        cluster.launch(running())


def test_a_run_that_is_ended_in_kubeflow_takes_its_job_with_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubeflow tells nobody: it gives the Workflow no more time, which the launcher looks for."""
    monkeypatch.setenv(rayjob.LAUNCHED_BY, "run-1")

    def ended(kube: FakeKube, job: dict[str, Any]) -> dict[str, Any]:
        kube.put("workflows", "w", metadata={"labels": {"pipeline/runid": "run-1"}}, spec={"activeDeadlineSeconds": 0})
        return running()

    cluster.kube.put("workflows", "w", metadata={"labels": {"pipeline/runid": "run-1"}}, spec={})
    with pytest.raises(Terminated, match="ended in Kubeflow"):
        cluster.launch(running(), running(), ended)
    assert cluster.kube.jobs == []
    assert cluster.kube.created[0]["metadata"]["labels"][rayjob.RUN] == "run-1"
    assert any("/namespaces/kubeflow/workflows" in path for path in cluster.kube.paths)


def test_the_drivers_output_is_passed_on_once(cluster: Cluster) -> None:
    """Each line once, over reconnections, and what is marked for a person is said to one."""
    cluster.kube.put("pods", "submitter", metadata={"labels": {"batch.kubernetes.io/job-name": NAME}})
    lines = [f"2026-11-21T10:00:0{second}.123456789Z line {second}\n" for second in range(4)]
    lines[2] = "2026-11-21T10:00:02.123456789Z »» train tiny: step 2\n"

    def writes(count: int) -> Callable[[FakeKube, dict[str, Any]], dict[str, Any]]:
        def step(kube: FakeKube, job: dict[str, Any]) -> dict[str, Any]:
            kube.log = "".join(lines[:count])
            return running()

        return step

    cluster.launch(writes(1), writes(3), writes(3), writes(4), stage_done)
    told = [line for line in cluster.said if line.startswith(("line", "train tiny"))]
    assert told == ["line 0", "line 1", "train tiny: step 2", "line 3"]


def test_a_launcher_calls_nothing_that_its_role_does_not_name(cluster: Cluster) -> None:
    """What it called in a run with a queue, logs, a failure and a second launch is what the Role is made from."""
    cluster.launcher.compute = compute_with(queue="gpus")
    cluster.kube.put("pods", "submitter", metadata={"labels": {"batch.kubernetes.io/job-name": NAME}})
    cluster.kube.scripts[f"{NAME}-a2"] = [stage_done]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(rayjob.LAUNCHED_BY, "run-1")
        cluster.launch({"jobDeploymentStatus": "Suspended"}, running(), failed("JobStatusCheckTimeoutExceeded"))
    called: dict[tuple[str, str], set[str]] = {}
    for verb, group, resource in cluster.kube.calls:
        called.setdefault((group, resource), set()).add(verb)
    assert called == {what: set(verbs) for what, verbs in NEEDED["launcher"].items()}


CHILD = """
import sys
from components.compute import launch
from components.specs import TrainSpec
launch(TrainSpec.parse(open(sys.argv[1], "rb").read(), "spec"), sys.argv[2])
"""


@pytest.fixture
def child(cluster: Cluster, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A launcher in a process of its own, which has seen its job run."""
    (tmp_path / "spec.json").write_bytes(SPEC.canonical())
    cluster.kube.scripts[""] = [running()]
    environment = os.environ | {"UNMUFFLE_COMPUTE": compute_with(poll_s=0.05).model_dump_json()}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "spec.json"), cluster.store]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(cluster.kube.calls) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert cluster.kube.jobs == [NAME]
        yield process
        process.kill()


def test_a_killed_launcher_leaves_its_job_to_the_next_one(child: subprocess.Popen[bytes], cluster: Cluster) -> None:
    """Nothing it could have done: the job runs on, and whoever asks for the same adopts it."""
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    assert cluster.kube.jobs == [NAME]
    assert cluster.launch(running(), stage_done).outputs == {"weights": "of tiny"}
    assert (len(cluster.kube.created), cluster.kube.jobs) == (1, [])


def test_a_launcher_that_is_told_to_end_takes_its_job_along(child: subprocess.Popen[bytes], cluster: Cluster) -> None:
    """As Kubernetes tells a pod; without it GPUs would be held for nobody."""
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) != 0
    assert cluster.kube.jobs == []
