"""An overlay as the objects it stands for: the part of kustomize that ours use, without kustomize.

Resources, images, and patches in the form of RFC 6902 with a target by kind and name. Anything else in a
kustomization is refused, so that nothing is checked that kustomize would build differently.
"""

import copy
import fnmatch
from pathlib import Path
from typing import Any

import yaml

from pipelines.infra_lint.finding import Manifest
from simulation.errors import BadSetting

KNOWN = {"apiVersion", "kind", "resources", "patches", "images"}


class _Unique(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping: YAML readers keep the last one without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML's own, after a look at the keys."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.value != "<<"]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise BadSetting(f"{node.start_mark}: {', '.join(map(str, twice))} stands there twice.")
        return super().construct_mapping(node, deep)


def documents(text: str, where: str = "") -> list[Any]:
    """The YAML documents of a text; BadSetting for what is no YAML, or has a key twice."""
    try:
        return [one for one in yaml.load_all(text, _Unique) if one is not None]
    except yaml.YAMLError as error:
        raise BadSetting(f"{where} is not YAML: {error}") from None


def render(folder: Path) -> list[Manifest]:
    """The objects of a kustomization."""
    where = folder / "kustomization.yaml"
    if not where.exists():
        raise BadSetting(f"{folder} has no kustomization.yaml; expected a folder that kustomize builds.")
    (kustomization,) = documents(where.read_text(), str(where))
    if unknown := set(kustomization) - KNOWN:
        raise BadSetting(f"{where}: {', '.join(sorted(unknown))} is not understood here; known: {sorted(KNOWN)}.")
    objects: list[Manifest] = []
    for name in kustomization.get("resources", ()):
        path = folder / name
        objects += render(path) if path.is_dir() else documents(path.read_text(), str(path))
    objects = copy.deepcopy(objects)
    for patch in kustomization.get("patches", ()):
        _patch(objects, patch, str(where))
    for image in kustomization.get("images", ()):
        for one in objects:
            _rename(one, image)
    return objects


def _patch(objects: list[Manifest], patch: Manifest, where: str) -> None:
    target = patch["target"]
    met = [one for one in objects if _meets(one, target)]
    if not met:
        raise BadSetting(f"{where}: a patch is for {target}, and there is no such object.")
    (operations,) = documents(patch["patch"], where)
    for one in met:
        for operation in operations:
            _apply(one, operation, where)


def _meets(manifest: Manifest, target: Manifest) -> bool:
    name = manifest["metadata"]["name"]
    return manifest["kind"] == target["kind"] and fnmatch.fnmatch(name, target.get("name", "*"))


def _apply(manifest: Any, operation: Manifest, where: str) -> None:
    *parents, last = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
    place = manifest
    try:
        for step in parents:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if isinstance(place, list):
            place[int(last)] = copy.deepcopy(operation["value"])
        elif operation["op"] == "remove":
            del place[last]
        elif operation["op"] == "replace" and last not in place:
            raise KeyError(last)
        else:
            place[last] = copy.deepcopy(operation["value"])
    except (KeyError, IndexError, ValueError):
        raise BadSetting(f"{where}: there is nothing at {operation['path']} to {operation['op']}.") from None


def _rename(value: Any, image: Manifest) -> None:
    """In every container; kustomize knows where those are in Kubernetes' own kinds alone."""
    if isinstance(value, dict):
        found = value.get("image")
        if isinstance(found, str) and found.partition("@")[0] == image["name"]:
            value["image"] = found.replace(image["name"], image["newName"], 1)
        for inner in value.values():
            _rename(inner, image)
    elif isinstance(value, list):
        for inner in value:
            _rename(inner, image)
