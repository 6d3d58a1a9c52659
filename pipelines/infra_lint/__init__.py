"""Checks of what is given to Kubernetes that its schemas cannot make; `unmuffle infra lint`."""

from pathlib import Path

from pipelines.infra_lint.finding import Finding
from pipelines.infra_lint.ours import generated
from pipelines.infra_lint.render import Manifest, render
from pipelines.infra_lint.rules import RULES

INFRA = Path("infra")


def lint(folder: Path) -> tuple[int, list[Finding]]:
    """How many objects there are below every overlay of a folder, and what is wrong with them.

    The RayJobs that an overlay's settings make are looked at beside its own objects.
    """
    count, findings = 0, []
    for overlay in sorted((folder / "overlays").iterdir()):
        objects = render(overlay)
        objects += generated(objects)
        count += len(objects)
        findings += [one.within(overlay.name) for one in check(objects)]
    return count, findings


def check(objects: list[Manifest]) -> list[Finding]:
    """What the rules find in one bundle of objects."""
    return [finding for rule in RULES.values() for finding in rule(objects)]
