"""Commands over what is given to Kubernetes: check it; let the service begin with the champion."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Json, UseOption
from pipelines.commands.telling import tell
from simulation.errors import BadSetting


def lint(
    folder: Annotated[Path, typer.Argument(help="Folder with base/ and overlays/.")] = Path("infra"),
    as_json: Json = False,
) -> None:
    """Check every object of every overlay: keys, names, rights, secrets, selectors, drains, metrics."""
    from pipelines.infra_lint import lint as linted

    if not (folder / "overlays").is_dir():
        raise BadSetting(f"{folder} has no overlays/; expected the folder infra/ of a checkout.")
    count, findings = linted(folder)
    lines = [str(one) for one in findings] or [f"{count} objects, nothing wrong"]
    tell([one.__dict__ for one in findings], as_json, "\n".join(lines))
    if findings:
        raise typer.Exit(1)


def serve(use: UseOption = "denoise-16k", as_json: Json = False) -> None:
    """Let the RayService of the compute profile begin, with the champion; afterwards promotions change it."""
    from components.compute import Compute
    from components.deployment import service_of
    from components.kube import RAY_SERVICES, Kube
    from training.registry import CHAMPION
    from training.tracking import Tracking

    profile = Compute.current().cluster
    if profile is None or not profile.service:
        raise BadSetting('No service is named: expected UNMUFFLE_COMPUTE with {"cluster": {"service": "unmuffle"}}.')
    champion = Tracking().resolve(CHAMPION, use)
    kube = Kube.connect(profile.service_namespace)
    if kube.patch(RAY_SERVICES, profile.service, {"spec": {"suspend": False}}) is None:
        raise BadSetting(
            f"There is no RayService {profile.service} in {profile.service_namespace}; apply infra/ first."
        )
    with service_of(profile) as service:
        service.switch(champion)
    tell({"serving": champion.name}, as_json, f"{champion.name} answers at {profile.service_address}")
