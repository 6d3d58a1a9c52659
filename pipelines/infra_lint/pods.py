"""Where pods come from in a bundle: every pod template, with the namespace and labels its pods will have."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.infra_lint.finding import Manifest, named

RAY_KINDS = {"RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}
WORKLOADS = {"Deployment": ("template",), "CronJob": ("jobTemplate", "spec", "template")}


@dataclass(frozen=True)
class Pods:
    """Pods of one template."""

    about: str
    namespace: str
    labels: dict[str, str]
    spec: dict[str, Any]
    ray: str = ""
    """head or worker, for pods of Ray."""

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All but those that run before."""
        return list(self.spec.get("containers", ()))


def cluster_of(manifest: Manifest) -> dict[str, Any] | None:
    """The Ray cluster inside a RayJob or RayService."""
    key = RAY_KINDS.get(manifest["kind"])
    return manifest["spec"].get(key) if key else None


def groups_of(cluster: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Head and worker groups, with `head` or the group's name."""
    if "headGroupSpec" in cluster:
        yield "head", cluster["headGroupSpec"]
    for group in cluster.get("workerGroupSpecs", ()):
        yield group.get("groupName", "?"), group


def pods_of(objects: list[Manifest]) -> Iterator[Pods]:
    """Every template of a bundle."""
    for one in objects:
        namespace = one["metadata"].get("namespace", "")
        cluster = cluster_of(one)
        for name, group in groups_of(cluster) if cluster else ():
            template = group.get("template", {})
            labels = {
                "ray.io/is-ray-node": "yes",
                "ray.io/group": "headgroup" if name == "head" else name,
                "ray.io/node-type": "head" if name == "head" else "worker",
            }
            labels |= template.get("metadata", {}).get("labels", {})
            role = "head" if name == "head" else "worker"
            yield Pods(f"{named(one)} {name}", namespace, labels, template.get("spec", {}), role)
        if "submitterPodTemplate" in one.get("spec", {}):
            yield _plain(one, one["spec"]["submitterPodTemplate"], "submitter")
        if one["kind"] in WORKLOADS:
            template = one["spec"]
            for step in WORKLOADS[one["kind"]]:
                template = template.get(step, {})
            yield _plain(one, template, "")


def _plain(manifest: Manifest, template: dict[str, Any], part: str) -> Pods:
    labels = template.get("metadata", {}).get("labels", {})
    about = f"{named(manifest)} {part}".strip()
    return Pods(about, manifest["metadata"].get("namespace", ""), labels, template.get("spec", {}))


def selected(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether a label selector meets these labels; an empty one meets all."""
    wanted = (selector or {}).get("matchLabels", {})
    return bool(wanted.items() <= labels.items())
