"""Keys and types of objects: Kubernetes' own kinds as its client describes them, the others as we use them.

KubeRay, Kueue, Prometheus and External Secrets bring schemas of their own; what is written here is the part of them
that our objects may use. It is narrower than theirs: a new key is added here with the object that needs it.
"""

from collections.abc import Iterator
from typing import Any

from components.kube import described
from pipelines.infra_lint.finding import Manifest

POD = "V1PodTemplateSpec"

CORE = {
    "Namespace": "V1Namespace",
    "ServiceAccount": "V1ServiceAccount",
    "Role": "V1Role",
    "RoleBinding": "V1RoleBinding",
    "ConfigMap": "V1ConfigMap",
    "Service": "V1Service",
    "Deployment": "V1Deployment",
    "CronJob": "V1CronJob",
    "PodDisruptionBudget": "V1PodDisruptionBudget",
    "ResourceQuota": "V1ResourceQuota",
    "LimitRange": "V1LimitRange",
    "NetworkPolicy": "V1NetworkPolicy",
}
"""Kinds of Kubernetes itself, and their names in its client."""

GROUP = {
    "groupName": "str",
    "replicas": "int",
    "minReplicas": "int",
    "maxReplicas": "int",
    "rayStartParams": "dict(str, str)",
    "labels": "dict(str, str)",
    "template": POD,
}
CLUSTER = {
    "rayVersion": "str",
    "authOptions": {"mode": "str", "secretName": "str", "enableK8sTokenAuth": "bool"},
    "enableInTreeAutoscaling": "bool",
    "autoscalerOptions": {"version": "str", "idleTimeoutSeconds": "int"},
    "gcsFaultToleranceOptions": "object",
    "headGroupSpec": GROUP,
    "workerGroupSpecs": [GROUP],
}
CUSTOM: dict[str, Any] = {
    "RayJob": {
        "suspend": "bool",
        "entrypoint": "str",
        "entrypointNumCpus": "float",
        "submissionMode": "str",
        "shutdownAfterJobFinishes": "bool",
        "ttlSecondsAfterFinished": "int",
        "activeDeadlineSeconds": "int",
        "preRunningDeadlineSeconds": "int",
        "backoffLimit": "int",
        "submitterConfig": {"backoffLimit": "int"},
        "submitterPodTemplate": POD,
        "clusterSelector": "dict(str, str)",
        "deletionStrategy": "object",
        "rayClusterSpec": CLUSTER,
    },
    "RayService": {
        "suspend": "bool",
        "serveConfigV2": "str",
        "upgradeStrategy": {"type": "str"},
        "excludeHeadPodFromServeSvc": "bool",
        "rayClusterDeletionDelaySeconds": "int",
        "rayClusterConfig": CLUSTER,
    },
    "PodMonitor": {
        "namespaceSelector": {"matchNames": ["str"], "any": "bool"},
        "selector": "V1LabelSelector",
        "podMetricsEndpoints": [{"port": "str", "interval": "str", "path": "str"}],
    },
    "PrometheusRule": {
        "groups": [
            {
                "name": "str",
                "rules": [
                    {
                        "alert": "str",
                        "expr": "str",
                        "for": "str",
                        "labels": "dict(str, str)",
                        "annotations": "dict(str, str)",
                    }
                ],
            }
        ]
    },
    "ExternalSecret": {
        "refreshInterval": "str",
        "secretStoreRef": {"kind": "str", "name": "str"},
        "target": {"name": "str"},
        "dataFrom": [{"extract": {"key": "str"}}],
    },
    "ResourceFlavor": {"nodeLabels": "dict(str, str)"},
    "ClusterQueue": {
        "namespaceSelector": "V1LabelSelector",
        "preemption": {"withinClusterQueue": "str"},
        "resourceGroups": [
            {
                "coveredResources": ["str"],
                "flavors": [{"name": "str", "resources": [{"name": "str", "nominalQuota": "str"}]}],
            }
        ],
    },
    "LocalQueue": {"clusterQueue": "str"},
    "WorkloadPriorityClass": {},
}
OUTSIDE_SPEC = {"WorkloadPriorityClass": {"value": "int"}}
METADATA = "V1ObjectMeta"
SCALARS: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
}


def wrong_shapes(manifest: Manifest) -> Iterator[str]:
    """Unknown keys and wrong types, each with its place."""
    kind = manifest.get("kind", "")
    if kind in CORE:
        yield from _wrong(manifest, CORE[kind], kind)
    elif kind in CUSTOM:
        shape = {"apiVersion": "str", "kind": "str", "metadata": METADATA, "spec": CUSTOM[kind]}
        yield from _wrong(manifest, shape | OUTSIDE_SPEC.get(kind, {}), kind)
    else:
        yield f"kind {kind!r} is not known here"


def _wrong(value: Any, shape: Any, where: str) -> Iterator[str]:
    if isinstance(shape, dict):
        yield from _wrong_keys(value, shape, where)
    elif isinstance(shape, list):
        yield from _each(value, shape[0], where)
    elif shape in SCALARS:
        if not isinstance(value, SCALARS[shape]) or (isinstance(value, bool) and shape != "bool"):
            yield f"{where} is {value!r}, expected {shape}"
    elif shape.startswith("list["):
        yield from _each(value, shape[5:-1], where)
    elif shape.startswith("dict("):
        inner = shape[5:-1].split(", ", 1)[1]
        if not isinstance(value, dict):
            yield f"{where} is {value!r}, expected keys and values"
            return
        for key, one in value.items():
            yield from _wrong(one, inner, f"{where}.{key}")
    elif (model := described(shape)) is not None:
        names = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
        yield from _wrong_keys(value, names, where)


def _wrong_keys(value: Any, shape: dict[str, Any], where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is {value!r}, expected keys and values"
        return
    for key, one in value.items():
        if key not in shape:
            yield f"{where}.{key}: there is no such key"
        else:
            yield from _wrong(one, shape[key], f"{where}.{key}")


def _each(value: Any, shape: Any, where: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{where} is {value!r}, expected a list"
        return
    for number, one in enumerate(value):
        yield from _wrong(one, shape, f"{where}[{number}]")
