"""With how much a stage runs on Kubernetes, and where: the cluster's half of the compute profile."""

import re
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from simulation.schema import Schema

BY_DIGEST = re.compile(r"^[\w.\-/:]+@sha256:[0-9a-f]{64}$")
"""An image that cannot change behind a schedule: REF@sha256:<64 hex characters>."""


class Toleration(Schema):
    """A taint that pods do not mind, such as that of GPU or spot nodes."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"

    def manifest(self) -> dict[str, str]:
        """As a pod has it: without a value where any will do."""
        return {key: value for key, value in self.model_dump(mode="json").items() if value}


class Pods(Schema):
    """What each pod of a group asks for, and which nodes it may run on."""

    cpus: int = Field(default=4, ge=1)
    memory_gb: int = Field(default=16, ge=1)
    """In GiB, as Kubernetes counts it."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()


class ClusterProfile(Schema):
    """Stages as RayJobs of KubeRay, one short-lived Ray cluster each."""

    image: str
    """By digest, with our wheel in it; the same for heads, workers and submitters."""
    gpu_image: str = ""
    """The same wheel beside a torch for GPUs; empty: `image`."""
    namespace: str = "unmuffle"
    kfp_namespace: str = "kubeflow"
    """Where Kubeflow runs its Workflows; in a multi-user Kubeflow that of the profile."""
    service_account: str = "unmuffle-ray"
    """Of Ray's pods; it may do nothing."""
    settings: str = "unmuffle-settings"
    """ConfigMap whose keys become the environment: addresses of store and MLflow."""
    secret: str = "unmuffle-store"
    """Secret whose keys become the environment; it may be absent where nodes have an identity of their own."""
    queue: str = ""
    """Local queue of Kueue; empty: pods are scheduled as they come."""
    priority: str = ""
    """Kueue's priority class."""
    service: str = ""
    """RayService that promotions change; empty: none yet, and a candidate is verified in the promoter's own process."""
    service_namespace: str = "unmuffle-serving"
    service_address: str = "http://unmuffle-serve-svc.unmuffle-serving:8000"
    """Where that service answers."""
    head: Pods = Pods(cpus=2, memory_gb=8)
    cpu: Pods = Pods()
    """Workers of simulation, evaluation, promotion, and of training without GPUs."""
    gpu: Pods = Pods(
        cpus=8,
        memory_gb=64,
        node_selector={"nvidia.com/gpu.present": "true"},
        tolerations=(Toleration(key="nvidia.com/gpu"),),
    )
    """Workers of training with GPUs."""
    retries: int = Field(default=1, ge=0)
    """By KubeRay, each on a new Ray cluster."""
    launches: int = Field(default=2, ge=1)
    """RayJobs of one run for a stage, where one ended in a way that KubeRay does not try again."""
    deadline_s: int = Field(default=86_400, gt=0)
    """A job that runs for longer is stopped by KubeRay, whatever became of whoever launched it."""
    start_s: int = Field(default=1_800, gt=0)
    """From being admitted to running: an image that cannot be pulled, pods that fit no node."""
    queue_s: int = Field(default=7_200, gt=0)
    """How long a job may wait to be admitted."""
    outage_s: int = Field(default=900, gt=0)
    """How long the API server may be away."""
    poll_s: float = Field(default=10.0, gt=0)

    @field_validator("image", "gpu_image")
    @classmethod
    def _by_digest(cls, image: str, field: ValidationInfo) -> str:
        left_out = field.field_name == "gpu_image" and not image
        if not left_out and not BY_DIGEST.match(image):
            raise ValueError("is not by digest: give REF@sha256:<64 hex characters>; a tag can change under a schedule")
        return image
