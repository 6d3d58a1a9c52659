"""A stage as a RayJob of KubeRay: its name, its manifest, and how its status is read. Pure: nothing is asked here.

Fields and traps: KubeRay 1.7, `ray.io/v1`. The name is derived from what is asked, so whoever asks again meets the job.
"""

import hashlib
import math
import os
import shlex
from dataclasses import dataclass
from typing import Any, Literal

from components.cluster_profile import ClusterProfile, Pods
from components.compute import Compute
from components.specs import AnySpec, DistilSpec, TrainSpec, TuneSpec
from simulation.schema import canonical_json
from training.profile import ComputeProfile

RAY_VERSION = "2.60.0"
"""Of the image; KubeRay chooses probes and authentication by it."""
LONGEST_NAME = 47
"""Of a RayJob: KubeRay appends to it."""
GRACE_S, DRAIN_S = 120, 90
"""A pod's time after SIGTERM, and the part of it in which Ray may move work away: by default both are 30 s."""
LAUNCHED_BY = "UNMUFFLE_KFP_RUN"
"""Set by the compiled pipeline to KFP's id of the run."""

PART_OF = {"app.kubernetes.io/part-of": "unmuffle"}
STAGE, RUN, ATTEMPT = "unmuffle/stage", "unmuffle/kfp-run", "unmuffle/attempt"
DIGEST, ADDRESS = "unmuffle/spec-sha256", "unmuffle/spec-address"
STORED = "unmuffle/store"

RUN_OF_WORKFLOW = "pipeline/runid"
"""KFP's label on a Workflow: its id of the run."""

RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 100,
    "fsGroup": 100,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

INFRASTRUCTURE = {"JobStatusCheckTimeoutExceeded"}
"""Reasons to launch once more: the operator lost sight of the job, and KubeRay does not retry that itself."""


def kfp_run() -> str:
    """KFP's id of the run that this process belongs to; empty outside."""
    return os.environ.get(LAUNCHED_BY, "")


def name_of(spec: AnySpec, attempt: int = 1) -> str:
    """`<stage>-<10 hex>`, with `-a2`, `-a3` ... for later launches; the same run asking for the same has the same."""
    identity = {"run": spec.parent, "stage": spec.stage, "spec": spec.digest()}
    stem = f"{spec.stage}-{hashlib.sha256(canonical_json(identity)).hexdigest()[:10]}"
    return stem if attempt == 1 else f"{stem}-a{attempt}"


def manifest(spec: AnySpec, address: str, store: str, compute: Compute, attempt: int = 1) -> dict[str, Any]:
    """The RayJob that runs `unmuffle stage` on this spec; every pod may be evicted, none has rights of its own."""
    profile = compute.cluster
    assert profile is not None
    kueue = {"kueue.x-k8s.io/queue-name": profile.queue} if profile.queue else {}
    if profile.queue and profile.priority:
        kueue["kueue.x-k8s.io/priority-class"] = profile.priority
    labels = PART_OF | {STAGE: spec.stage, RUN: kfp_run(), ATTEMPT: str(attempt)} | kueue
    annotations = {DIGEST: spec.digest(), ADDRESS: address, STORED: store}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": name_of(spec, attempt),
            "namespace": profile.namespace,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {
            **({"suspend": True} if profile.queue else {}),
            "entrypoint": f"unmuffle stage {spec.stage} --spec {shlex.quote(address)}",
            "entrypointNumCpus": 1,  # the driver runs on a worker: the head has no CPUs to give
            "submissionMode": "K8sJobMode",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 300,
            "activeDeadlineSeconds": profile.deadline_s,
            "preRunningDeadlineSeconds": profile.start_s,
            "backoffLimit": profile.retries,
            "submitterConfig": {"backoffLimit": 2},
            "submitterPodTemplate": _submitter(profile),
            "rayClusterSpec": _cluster(spec, compute, profile),
        },
    }


@dataclass(frozen=True)
class Group:
    """Workers of a job: how many pods, and what each asks for."""

    pods: int
    cpus: int
    memory_gb: int
    gpus: int
    place: Pods


def workers_of(spec: AnySpec, compute: Compute, profile: ClusterProfile) -> Group:
    """Fixed in number, so that a queue admits all of them or none. A CPU more than is claimed: the driver's."""
    if isinstance(spec, TrainSpec | TuneSpec | DistilSpec):
        return _training(compute.training_of(str(spec.recipe.get("name", ""))), profile)
    pods = math.ceil((compute.workers + 1) / profile.cpu.cpus)
    return Group(pods, profile.cpu.cpus, profile.cpu.memory_gb, 0, profile.cpu)


def _training(training: ComputeProfile, profile: ClusterProfile) -> Group:
    place = profile.gpu if training.gpus_per_worker else profile.cpu
    memory = training.memory_per_worker_gb
    beside = 1 + (training.validation_cpus if training.validation == "apart" else 0)
    cpus = max(place.cpus, training.cpus_per_worker + beside)
    memory_gb = place.memory_gb if memory is None else math.ceil(memory) + 2  # Ray's own processes
    return Group(training.most_workers, cpus, memory_gb, training.gpus_per_worker, place)


def _cluster(spec: AnySpec, compute: Compute, profile: ClusterProfile) -> dict[str, Any]:
    workers = workers_of(spec, compute, profile)
    image = profile.gpu_image if workers.gpus and profile.gpu_image else profile.image
    head = Group(1, profile.head.cpus, profile.head.memory_gb, 0, profile.head)
    safe = {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}}
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": {"metadata": safe, "spec": _pod("ray-head", image, head, compute, profile, HEAD_PORTS)},
        },
        "workerGroupSpecs": [
            {
                "groupName": "gpu" if workers.gpus else "cpu",
                "replicas": workers.pods,
                "minReplicas": workers.pods,
                "maxReplicas": workers.pods,
                "rayStartParams": {},
                "template": {"spec": _pod("ray-worker", image, workers, compute, profile, METRICS_PORT)},
            }
        ],
    }


METRICS_PORT = [{"containerPort": 8080, "name": "metrics"}]
HEAD_PORTS = [
    {"containerPort": 6379, "name": "gcs-server"},
    {"containerPort": 8265, "name": "dashboard"},
    *METRICS_PORT,
]


def _pod(
    name: str, image: str, group: Group, compute: Compute, profile: ClusterProfile, ports: list[dict[str, Any]]
) -> dict[str, Any]:
    gpus = {"nvidia.com/gpu": str(group.gpus)} if group.gpus else {}
    memory = {"memory": f"{group.memory_gb}Gi"}
    here = compute.model_copy(update={"cluster": None})  # inside, stages run where they are
    container = {
        "name": name,
        "image": image,
        "securityContext": RESTRICTED_CONTAINER,
        "ports": ports,
        "env": [
            {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": str(DRAIN_S)},
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
            {"name": "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "value": "1"},
            {"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"},
            {"name": "UNMUFFLE_HOME", "value": "/tmp/unmuffle"},
            {"name": "UNMUFFLE_COMPUTE", "value": here.model_dump_json()},
        ],
        "envFrom": _environment(profile),
        "resources": {"requests": {"cpu": str(group.cpus)} | memory | gpus, "limits": memory | gpus},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    volumes = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{max(1, group.memory_gb // 3)}Gi"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    tolerations = [one.manifest() for one in group.place.tolerations]
    place = {"nodeSelector": group.place.node_selector, "tolerations": tolerations}
    return {
        "serviceAccountName": profile.service_account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": RESTRICTED_POD,
        **{key: value for key, value in place.items() if value},
        "containers": [container],
        "volumes": volumes,
    }


def _environment(profile: ClusterProfile) -> list[dict[str, Any]]:
    return [
        {"configMapRef": {"name": profile.settings}},
        {"secretRef": {"name": profile.secret, "optional": True}},
    ]


def _submitter(profile: ClusterProfile) -> dict[str, Any]:
    container = {
        "name": "ray-job-submitter",
        "image": profile.image,
        "securityContext": RESTRICTED_CONTAINER,
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}},
    }
    return {
        "metadata": {"labels": PART_OF},
        "spec": {
            "serviceAccountName": profile.service_account,
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "securityContext": RESTRICTED_POD,
            "containers": [container],
        },
    }


# ---- status ---------------------------------------------------------------------------------------------------------

Phase = Literal["queued", "starting", "running", "succeeded", "failed"]


@dataclass(frozen=True)
class Status:
    """How far a RayJob is."""

    phase: Phase
    line: str
    """For a person."""
    reason: str = ""
    """KubeRay's word for it."""

    @property
    def over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.phase in ("succeeded", "failed")

    @property
    def worth_another(self) -> bool:
        """Whether it failed for a reason that may pass and that KubeRay does not retry."""
        return self.phase == "failed" and self.reason in INFRASTRUCTURE


def status_of(job: dict[str, Any]) -> Status:
    """Read as KubeRay means it.

    Success is Complete and SUCCEEDED: a job that somebody stopped is Complete too. ValidationFailed is final although
    the operator does not call it terminal. An observed Failed is final, as one that is retried is never shown as it.
    """
    status = job.get("status") or {}
    deployment, ended = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    reason, message = status.get("reason", ""), status.get("message", "")
    why = ": ".join(part for part in (reason, message) if part)
    if deployment == "Complete" and ended == "SUCCEEDED":
        return Status("succeeded", "succeeded")
    if deployment in ("Complete", "Failed", "ValidationFailed"):
        what = {"Complete": f"was {ended or 'ended'}", "Failed": "failed", "ValidationFailed": "is not valid"}
        return Status("failed", f"{what[deployment]} ({why or 'no reason given'})", reason or ended or deployment)
    if deployment in ("", "Suspending", "Suspended", "Waiting"):
        return Status("queued", f"waits ({deployment or 'not seen by KubeRay yet'})")
    if deployment in ("Initializing", "Retrying"):
        return Status("starting", f"{deployment}{': ' + why if why else ''}")
    return Status("running", f"{deployment} {ended}".strip())
