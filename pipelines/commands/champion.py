"""Commands that use the champion: enhance files, serve."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import PORT, UseOption
from pipelines.commands.telling import say


def enhance(
    inputs: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the enhanced files.")],
    model: Annotated[str, typer.Option(help="champion, dm/3, or the address of a version's folder.")] = "champion",
    use: UseOption = "denoise-16k",
    contrast: Annotated[
        bool,
        typer.Option("--contrast", help="Raise the contrast of the speech bands afterwards (PESQ up, SI-SDR down)."),
    ] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(help="How a diffusion network samples, as steps=10 or seed=3; as often as needed."),
    ] = None,
    service: Annotated[str, typer.Option(help="Let a running service do it: its address. UNMUFFLE_KEY: its key.")] = "",
) -> None:
    """Enhance files: any length, rate and channel count in, the same out."""
    from pipelines.judge import enhance_by, enhance_with

    if service:
        result = enhance_by(service, inputs, out)
        say(str(result))
        raise typer.Exit(result.exit_code)
    result = enhance_with(model, use, inputs, out, contrast, option or ())
    say(str(result))
    raise typer.Exit(result.exit_code)


def serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = PORT,
    use: UseOption = "denoise-16k",
    also: Annotated[
        list[str] | None,
        typer.Option(help="Another use, whose champion answers at /USE/v1/enhance; as often as needed."),
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Processes that answer, at least.")] = 1,
    most_replicas: Annotated[int, typer.Option(min=1, help="At most: beyond --replicas they follow the load.")] = 1,
) -> None:
    """Answer POST /v1/enhance with the champion until Ctrl-C; follows promotions and rollbacks."""
    from serving.messages import Limits
    from serving.service import serve as serve_until_stopped
    from simulation.home import Home

    limits = Limits(replicas=replicas, most_replicas=most_replicas)
    serve_until_stopped(
        Home.current(),
        port,
        use,
        limits,
        ready=lambda record: say(f"{record.version} answers at {record.address}"),
        also=also or (),
    )
