"""The pipelines as YAML for a Kubeflow cluster; the image is named by digest when they are compiled, not before.

KFP's compiler writes the steps. What only a cluster needs is added here: how often a task's pod is tried again, and
where its settings and secrets come from. What a cluster should never be given is refused.
"""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from components.cluster_profile import BY_DIGEST
from components.compute import IMAGE
from components.rayjob import LAUNCHED_BY, RUN_OF_WORKFLOW
from simulation.errors import BadSetting

PIPELINES = ("retrain", "simulate-only", "evaluate-only")

RETRY = {
    "maxRetryCount": 2,
    "backoffDuration": "30s",
    "backoffFactor": 2.0,
    "backoffMaxDuration": "600s",
}
"""Of a task's own pod, which only launches and watches: whoever comes next adopts what is there."""
LAUNCH_S = 2 * 86_400
"""How long a task's pod may live: longer than any job that it waits for."""

SETTINGS = ("UNMUFFLE_COMPUTE", "UNMUFFLE_STORE", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
"""Keys of the ConfigMap `unmuffle-settings`, and the variables they become."""
SECRETS = {
    "unmuffle-store": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "unmuffle-mlflow": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    "unmuffle-notify": ("UNMUFFLE_NOTIFY",),
}
"""Names of Secrets, and of their keys, which become variables of the same names. All may be absent."""

SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|hooks\.slack\.com/services/\w|://[^/\s:@]+:[^/\s@]+@"
    r"|(?:password|secret|token|api_?key)[\"']?\s*[:=]\s*[\"']?[^\s\"'{}$,]{6,}",
    re.IGNORECASE,
)
"""Looks like a key, a password, or an address with one."""


def compiled(image: str = IMAGE, pipeline: str = "retrain") -> str:
    """The YAML of a pipeline with every task in `image` (REF@sha256:...; a tag could change under a schedule)."""
    if not BY_DIGEST.match(image):
        raise BadSetting(f"{image!r} does not name an image by digest; type REF@sha256:<64 hex characters>.")
    if pipeline not in PIPELINES:
        raise BadSetting(f"There is no pipeline {pipeline!r}; there are {', '.join(PIPELINES)}.")
    spec = _by_kfp(pipeline, image)
    for task in _tasks(spec):
        task["retryPolicy"] = dict(RETRY)
    text = yaml.safe_dump_all([spec, _platform(spec)], sort_keys=True)
    if wrong := faults(text):
        raise BadSetting(f"The pipeline {pipeline} must not be given to a cluster: {'; '.join(wrong)}.")
    return text


def faults(text: str) -> list[str]:
    """What is wrong with compiled YAML: installs, secrets, images that can change, tasks that are not tried again."""
    spec, *_ = list(yaml.safe_load_all(text))
    found = []
    if "pip install" in text or "pip3 install" in text:
        found.append("a task installs something when it starts")
    if SECRET.search(text):
        found.append("there is something like a secret in it")
    for label, executor in spec["deploymentSpec"]["executors"].items():
        image = executor.get("container", {}).get("image", "")
        if not BY_DIGEST.match(image):
            found.append(f"{label} runs {image or 'no image'}, which is not named by digest")
    found += ["a task has no retry policy" for task in _tasks(spec) if "retryPolicy" not in task]
    return found


def _by_kfp(pipeline: str, image: str) -> dict[str, Any]:
    from kfp import compiler

    from pipelines import scheduled

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(getattr(scheduled, pipeline.replace("-", "_")), str(path))
        text = path.read_text().replace(IMAGE, image)
    spec, *_ = yaml.safe_load_all(text)
    return dict(spec)


def _tasks(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Tasks that are pods, in the whole pipeline and those inside it."""
    components = spec["components"]
    for dag in (spec["root"], *components.values()):
        for task in dag.get("dag", {}).get("tasks", {}).values():
            if "executorLabel" in components[task["componentRef"]["name"]]:
                yield task


def _platform(spec: dict[str, Any]) -> dict[str, Any]:
    """KFP's settings for Kubernetes, for every task: `kfp.kubernetes`' KubernetesExecutorConfig."""
    config = {
        "configMapAsEnv": [
            {
                "configMapName": "unmuffle-settings",
                "keyToEnv": [{"configMapKey": name, "envVar": name} for name in SETTINGS],
                "optional": True,
            }
        ],
        "secretAsEnv": [
            {
                "secretName": secret,
                "keyToEnv": [{"secretKey": name, "envVar": name} for name in names],
                "optional": True,
            }
            for secret, names in SECRETS.items()
        ],
        "fieldPathAsEnv": [{"name": LAUNCHED_BY, "fieldPath": f"metadata.labels['{RUN_OF_WORKFLOW}']"}],
        "podMetadata": {"labels": {"app.kubernetes.io/part-of": "unmuffle", "app.kubernetes.io/component": "launcher"}},
        "activeDeadlineSeconds": str(LAUNCH_S),
    }
    executors = {label: dict(config) for label in spec["deploymentSpec"]["executors"]}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}
