"""Commands over the pipeline as a whole: run it here, do one stage of it, remove what lost runs left."""

import sys
from functools import partial
from typing import Annotated

import typer

from pipelines.commands.asking import asking
from pipelines.commands.options import Json, StoreOption, store_at
from pipelines.commands.telling import say, tell
from pipelines.request import Request
from simulation.errors import BadSetting


@asking("again")
def run(
    request: Request,
    store: StoreOption = "",
    again: Annotated[bool, typer.Option("--again", help="Train new versions, with the next seed.")] = False,
    as_json: Json = False,
) -> None:
    """Run the whole pipeline here: simulate, train each recipe, evaluate, gate, promote."""
    recipes = ", ".join(request.recipes)
    say(f"run: looking up {request.scenario}, {recipes} and the gate of {request.use}")  # seconds of imports follow
    from pipelines.run import run_here
    from pipelines.summary import outcome
    from simulation.home import Home

    show = partial(print, file=sys.stderr, flush=True)  # this very stream: during the run, sys.stderr is a log file
    run_here(
        request, Home.current(), store_at(store), show, lambda address: tell(outcome(address), as_json), again=again
    )


def stage(
    name: Annotated[str, typer.Argument(help="simulate, train, distil, tune, evaluate or promote.")],
    spec: Annotated[str, typer.Option(help="Address of the stage's spec.")],
) -> None:
    """Do one stage from its spec, or answer from its result; prints the result as JSON."""
    from components.stage import run as run_stage

    typer.echo(run_stage(name, spec).model_dump_json(indent=2))


def reap(
    dry: Annotated[bool, typer.Option("--dry", help="Only say what would go.")] = False, as_json: Json = False
) -> None:
    """Remove RayJobs that nobody waits for: of killed launchers, and of runs that are over. For a CronJob."""
    from components.compute import Compute
    from components.kube import Kube
    from components.reaper import reap as reap_jobs

    cluster = Compute.current().cluster
    if cluster is None:
        raise BadSetting('No cluster is named: expected UNMUFFLE_COMPUTE with {"cluster": {"namespace": ...}}.')
    reaped = reap_jobs(Kube.connect(cluster.namespace), cluster.kfp_namespace, dry=dry)
    lines = [f"{one.name}: {one.reason}" for one in reaped]
    tell([one._asdict() for one in reaped], as_json, "\n".join(lines) or "Nothing is left behind.")
