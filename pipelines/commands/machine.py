"""Commands over this machine: what is wrong with its set-up."""

import json
from typing import Annotated

import typer

from pipelines.commands.options import PORT, Json


def doctor(
    port: Annotated[int, typer.Option(help="Port that `unmuffle serve` is to use.")] = PORT,
    cluster: Annotated[bool, typer.Option("--cluster", help="Look at Kubernetes and Kubeflow too.")] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong with this set-up, and what to type to mend it."""
    from pipelines.doctor import examine

    checks = list(examine(port, cluster))
    if as_json:
        typer.echo(json.dumps([check._asdict() for check in checks], indent=2))
    else:
        for check in checks:
            typer.echo(f"{'ok ' if check.ok else 'NO '} {check.name:10} {check.found}")
            if not check.ok:
                typer.echo(f"    {'':10} {check.mend}")
    if not all(check.ok for check in checks):
        raise typer.Exit(2)
