"""Runs a stage as a RayJob and waits for its result: the form of `compute.launch` for a cluster.

Whoever launches may die at any moment. The job's name follows from what is asked, so the next launcher meets the job
that is there and goes on watching; the result is `result.json` in the store, never a line of a log. Whatever ends the
watch takes the job away: success, failure, a signal, the end of the run in Kubeflow. What a killed launcher leaves is
adopted by the next one, or removed by `unmuffle reap`.
"""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from components import post_mortem, rayjob, stage
from components.cluster_profile import ClusterProfile
from components.compute import MARK, Compute, say
from components.kube import RAY_JOBS, WORKFLOWS, WORKLOADS, Kube
from components.rayjob import Status, status_of
from components.specs import AnySpec
from components.stage import Result
from simulation import storage
from simulation.errors import (
    KubernetesRefused,
    KubernetesUnreachable,
    NotThere,
    StageFailed,
    Terminated,
)

SUBMITTER = "batch.kubernetes.io/job-name={name}"
"""The pod whose output is the driver's: KubeRay's submitter Job bears the name of the RayJob."""
BELONGS_TO = "kueue.x-k8s.io/job-uid={uid}"
"""Kueue's label on the Workload of a job."""
APPLICATION = "AppFailed"
"""KubeRay's word for an entrypoint that ended with an error: the stage has left its message in the store."""
TIMED = re.compile(r"^(\d{4}-\d\d-\d\dT\S+) ?(.*)$")
"""A line of a pod's log, as the API gives it on request: when, what."""
REMOVING_S = 60.0
"""How long a launcher that is told to end tries to reach the API server: a pod has half a minute and more."""


@dataclass(frozen=True)
class Clock:
    """Time, for tests to replace."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass
class Launcher:
    """Launches stages in one namespace."""

    kube: Kube
    compute: Compute
    clock: Clock = field(default_factory=Clock)
    tell: Callable[[str], None] = say
    show: Callable[[str], None] = print

    @classmethod
    def current(cls, compute: Compute) -> "Launcher":
        """With the credentials of this process."""
        assert compute.cluster is not None
        return cls(Kube.connect(compute.cluster.namespace), compute)

    def launch(self, spec: AnySpec, store: str) -> Result:
        """The result of this spec, from a RayJob that was there or is created.

        Raises StageFailed with KubeRay's reason, or the message that the stage left; Terminated where the run was
        ended; KubernetesUnreachable where the API server is away for longer than the profile allows: the job then goes
        on, and the next launcher finds it.
        """
        address = stage.write_spec(store, spec)
        with _ended_by_signals():
            launched = 0
            while True:
                attempt = 1 + self._failed(spec, store)
                if (done := stage.result_of(store, spec)) is not None:
                    return done
                launched += 1
                watch = _Watch(self, spec, store, attempt)
                status = watch.through(rayjob.manifest(spec, address, store, self.compute, attempt))
                if status.phase == "succeeded":
                    return self._result(spec, store, watch.name)
                if not status.worth_another or launched >= self._profile.launches:
                    raise StageFailed(self._why(spec, store, watch.name, status))
                self.tell(f"{spec.stage}: {watch.name} {status.line}; launching once more")

    @property
    def _profile(self) -> ClusterProfile:
        assert self.compute.cluster is not None
        return self.compute.cluster

    def _failed(self, spec: AnySpec, store: str) -> int:
        """Launches of this spec that ended without a result and were written down, by whichever launcher."""
        attempt = 0
        while storage.exists(post_mortem.address(spec, store, rayjob.name_of(spec, attempt + 1))):
            attempt += 1
        return attempt

    def _result(self, spec: AnySpec, store: str, name: str) -> Result:
        done = stage.result_of(store, spec)
        if done is None:
            raise StageFailed(
                f"The RayJob {name} says that it succeeded and left no result. Its log and events are in "
                f"{post_mortem.folder(spec, store, name)}; look whether it wrote to the store {store}."
            )
        return done

    def _why(self, spec: AnySpec, store: str, name: str, status: Status) -> str:
        kept = f"Log, events and manifest are in {post_mortem.folder(spec, store, name)}."
        said = ""
        if status.reason == APPLICATION and spec.parent:
            with suppress(NotThere):
                said = storage.read(stage.error_address(store, spec.parent)).decode() + " "
        return f"{said}The RayJob {name} of stage {spec.stage} {status.line}. {kept}"


class _Watch:
    """One RayJob, from its creation or adoption to its removal."""

    def __init__(self, launcher: Launcher, spec: AnySpec, store: str, attempt: int) -> None:
        self._kube, self._clock, self._tell, self._show = launcher.kube, launcher.clock, launcher.tell, launcher.show
        self._profile = launcher._profile
        self._spec, self._store = spec, store
        self.name = rayjob.name_of(spec, attempt)
        self._heard = ""
        """Time of the last line of the log that was passed on."""
        self._answered = self._clock.now()
        """When the API server was last heard of."""

    def through(self, manifest: dict[str, Any]) -> Status:
        """Create or adopt the job, wait for its end, keep what tells of a failure, and remove it."""
        try:
            job = self._created_or_adopted(manifest)
        except (KubernetesUnreachable, KubernetesRefused):
            raise  # nothing of ours is there, or nobody can be told to remove it
        except BaseException:
            self._remove()
            raise
        try:
            status = self._end_of(job)
            if status.phase == "failed":
                post_mortem.write(self._kube, self._spec, self._store, self.name, status)
        except KubernetesUnreachable:
            raise  # it runs on; the next launcher adopts it
        except BaseException:
            self._remove()
            raise
        self._remove()
        return status

    def _created_or_adopted(self, manifest: dict[str, Any]) -> dict[str, Any]:
        digest = manifest["metadata"]["annotations"][rayjob.DIGEST]
        while True:
            job = self._reached(lambda: self._kube.create(RAY_JOBS, manifest))
            if job is not None:
                self._tell(f"{self._spec.stage}: RayJob {self.name} created in {self._profile.namespace}")
                return dict(job)
            job = self._reached(lambda: self._kube.get(RAY_JOBS, self.name))
            if job is None:
                continue  # it went between the two calls
            if job["metadata"].get("deletionTimestamp"):
                self._clock.sleep(self._profile.poll_s)  # somebody removed it; its name is free in a moment
                continue
            found = job["metadata"].get("annotations", {}).get(rayjob.DIGEST, "none")
            if found != digest:
                raise KubernetesRefused(
                    f"A RayJob {self.name} is there for another spec (digest {found[:16]}, expected {digest[:16]}). "
                    f"Nothing of ours makes such a one: kubectl -n {self._profile.namespace} delete rayjob {self.name}"
                )
            self._tell(f"{self._spec.stage}: RayJob {self.name} is there already; watching it")
            return dict(job)

    def _end_of(self, job: dict[str, Any] | None) -> Status:
        """Poll until nothing more happens to the job."""
        waited_since, said = self._clock.now(), ""
        while True:
            if job is None or job["metadata"].get("deletionTimestamp"):
                return self._gone()
            status = status_of(job)
            if status.line != said:
                said = status.line
                self._tell(f"{self._spec.stage}: {self.name} {said}{self._queue_line(job, status)}")
            self._follow_log(status)
            if status.over:
                return status
            if status.phase != "queued":
                waited_since = self._clock.now()
            elif self._clock.now() - waited_since > self._profile.queue_s:
                return Status("failed", f"was not admitted within {self._profile.queue_s} s", "QueueTimeout")
            self._stop_if_run_ended()
            self._clock.sleep(self._profile.poll_s)
            job = self._reached(lambda: self._kube.get(RAY_JOBS, self.name))

    def _gone(self) -> Status:
        """The job was removed: by another launcher of the same run after its end, or by somebody."""
        if stage.result_of(self._store, self._spec) is not None:
            return Status("succeeded", "succeeded")
        with suppress(NotThere):
            return post_mortem.status(self._spec, self._store, self.name)
        return Status("failed", "was deleted while it ran", "Deleted")

    def _reached(self, call: Callable[[], Any]) -> Any:
        """The answer of the API server, waiting for it as long as the profile allows."""
        while True:
            try:
                answer = call()
            except KubernetesUnreachable as error:
                away_s = self._clock.now() - self._answered
                if away_s > self._profile.outage_s:
                    raise KubernetesUnreachable(
                        f"{error} It has been away for {away_s:.0f} s. The RayJob {self.name} goes on without us; run "
                        "the same again to go on watching it."
                    ) from None
                self._clock.sleep(self._profile.poll_s)
                continue
            self._answered = self._clock.now()
            return answer

    def _stop_if_run_ended(self) -> None:
        """Terminated where somebody ended the run in Kubeflow, which tells its pods nothing in time."""
        run = rayjob.kfp_run()
        selector, where = f"{rayjob.RUN_OF_WORKFLOW}={run}", self._profile.kfp_namespace
        if run and run_ended(self._optional(lambda: self._kube.listing(WORKFLOWS, selector, where))):
            raise Terminated(f"The run {run} was ended in Kubeflow; its RayJob {self.name} is removed.")

    def _queue_line(self, job: dict[str, Any], status: Status) -> str:
        """What Kueue says about a job that waits."""
        if not self._profile.queue or status.phase != "queued":
            return ""
        uid = job["metadata"].get("uid", "")
        workloads = self._optional(lambda: self._kube.listing(WORKLOADS, BELONGS_TO.format(uid=uid)))
        conditions = [one for load in workloads or () for one in (load.get("status") or {}).get("conditions", ())]
        return "".join(f"; {one.get('message', '')}" for one in conditions if one.get("type") == "QuotaReserved")

    def _follow_log(self, status: Status) -> None:
        """Pass on what the driver wrote since the last look; where that cannot be read now, the next look does."""
        if status.phase == "queued":
            return
        for pod in self._optional(lambda: self._kube.pods(SUBMITTER.format(name=self.name))) or ():
            text = self._optional(lambda pod=pod: self._kube.log(pod["metadata"]["name"], self._since_s()))  # type: ignore[misc]
            for line in (text or "").splitlines():
                match = TIMED.match(line)
                if match and match[1] > self._heard:
                    self._heard = match[1]
                    self._pass_on(match[2])

    def _pass_on(self, line: str) -> None:
        _, mark, said = line.partition(MARK)
        self._tell(said) if mark else self._show(line)

    def _since_s(self) -> int | None:
        """Seconds back to the last line that was passed on, and some more: clocks differ."""
        if not self._heard:
            return None
        last = datetime.fromisoformat(self._heard[:19]).replace(tzinfo=UTC)
        return max(1, int((datetime.now(UTC) - last).total_seconds()) + 60)

    def _optional(self, call: Callable[[], Any]) -> Any:
        """The answer; None where there is none now. For what is good to know and not worth failing for."""
        with suppress(KubernetesUnreachable, KubernetesRefused):
            return call()
        return None

    def _remove(self) -> None:
        """Delete the job, though signals come; an API server that stays away leaves it to the reaper."""
        with _signals_ignored():
            until = self._clock.now() + REMOVING_S
            while self._clock.now() <= until:
                try:
                    self._kube.delete(RAY_JOBS, self.name)
                    return
                except KubernetesUnreachable:
                    self._clock.sleep(1.0)
                except KubernetesRefused as error:
                    self._tell(f"{self._spec.stage}: {self.name} was not removed: {error}")
                    return
            self._tell(f"{self._spec.stage}: {self.name} could not be removed; `unmuffle reap` will")


def run_ended(workflows: list[dict[str, Any]] | None) -> bool:
    """Whether a run of KFP was terminated: its Workflow is given no time any more. False where nothing is known."""
    return any((one.get("spec") or {}).get("activeDeadlineSeconds") == 0 for one in workflows or ())


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGINT raise Terminated in the main thread; in others Python allows no handlers."""

    def end(number: int, frame: Any) -> None:
        raise Terminated(f"Ended by {signal.Signals(number).name}; the RayJob that was watched is removed.")

    with _handlers(end):
        yield


@contextmanager
def _signals_ignored() -> Iterator[None]:
    with _handlers(signal.SIG_IGN):
        yield


@contextmanager
def _handlers(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
