"""Commands over a Kubeflow cluster: submit, schedule, trigger, list."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipelines.commands.asking import asking
from pipelines.commands.options import Json, StoreOption, store_at
from pipelines.commands.telling import say, tell
from pipelines.request import Request
from simulation.errors import BadSetting, NothingNew

IMAGE = "UNMUFFLE_IMAGE"
"""Variable: the image of every task, by digest."""

HostOption = Annotated[str, typer.Option("--host", help="Address of KFP's API. Default: UNMUFFLE_KFP_HOST.")]
NamespaceOption = Annotated[str, typer.Option("--namespace", help="Of a multi-user Kubeflow: the profile's.")]
ImageOption = Annotated[str, typer.Option("--image", help="REF@sha256:... of every task. Default: UNMUFFLE_IMAGE.")]


@asking()
def submit(
    request: Request,
    store: StoreOption = "",
    image: ImageOption = "",
    host: HostOption = "",
    namespace: NamespaceOption = "",
    as_json: Json = False,
) -> None:
    """Start one run of the whole pipeline on Kubeflow, whatever was run before."""
    from pipelines.compile import compiled
    from pipelines.kubeflow import Kubeflow

    text = compiled(_image(image))
    server = Kubeflow.connect(host, namespace)
    run = server.submit("retrain", text, f"retrain {request.key()}", parameters(request, store_at(store), "manual"))
    tell({"run": run.run_id, "state": run.state}, as_json, f"{run.run_id} {run.state.lower()}")


@asking("again")
def schedule(
    request: Request,
    name: Annotated[str, typer.Argument(help="Of the schedule; asking for the same name again replaces it.")],
    cron: Annotated[str, typer.Option(help="Minute, hour, day, month, weekday: '0 3 * * 1' is Mondays at three.")] = "",
    store: StoreOption = "",
    image: ImageOption = "",
    recreate: Annotated[
        bool, typer.Option("--recreate", help="Though nothing changed: after an upgrade of KFP.")
    ] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the schedule of this name.")] = False,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    as_json: Json = False,
) -> None:
    """Run the whole pipeline by the clock: one at a time, no catching up; what finds nothing new is over in minutes."""
    from pipelines.kubeflow import Kubeflow

    if delete:
        gone = Kubeflow.connect(host, namespace).unschedule(name)
        tell({"deleted": gone}, as_json, f"{gone} removed")
        return
    if not cron:
        raise BadSetting("Say when: --cron '0 3 * * 1' is Mondays at three.")
    from pipelines.compile import compiled

    text = compiled(_image(image))
    server = Kubeflow.connect(host, namespace)
    made = server.schedule("retrain", text, name, cron, parameters(request, store_at(store), "schedule"), recreate)
    tell(made.__dict__, as_json, f"{made.name}: {made.cron} ({made.recurring_id})")


@asking()
def trigger(
    request: Request,
    reason: Annotated[str, typer.Argument(help="manual, new-data or drift: kept with the run.")] = "manual",
    store: StoreOption = "",
    image: ImageOption = "",
    quiet: Annotated[bool, typer.Option("--if-new", help="Nothing new is no error: for a CronJob.")] = False,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    as_json: Json = False,
) -> None:
    """Start a run unless these data were trained on with these settings, or are being.

    For drift: only where what is asked of the service has left what its champion was trained on; the run is over the
    scenario with other shares of its cases, which come nearer to the requests.
    """
    from pipelines.compile import compiled
    from pipelines.drift import answering_drift
    from pipelines.kubeflow import Kubeflow
    from pipelines.trigger import request_training
    from training.tracking import Tracking

    text, address = compiled(_image(image)), store_at(store)
    server = Kubeflow.connect(host, namespace)
    known = _reason(reason)

    def start(checked: Request, name: str) -> Any:
        return server.submit("retrain", text, name, parameters(checked, address, known))

    try:
        if known == "drift":
            request = answering_drift(request, address, Tracking())
        run = request_training(request, address, known, server, start)
    except NothingNew as nothing:
        if not quiet:
            raise
        say(str(nothing))
        return
    tell({"run": run.run_id, "state": run.state}, as_json, f"{run.run_id} {run.state.lower()}")


def listing(host: HostOption = "", namespace: NamespaceOption = "", as_json: Json = False) -> None:
    """Schedules and the latest runs."""
    from pipelines.kubeflow import Kubeflow

    server = Kubeflow.connect(host, namespace)
    schedules, runs = server.schedules(), server.runs()[:20]
    lines = [f"schedule {one.name}: {one.cron}{'' if one.enabled else ' (off)'}" for one in schedules]
    lines += [f"run {one.run_id}: {one.name} {one.state.lower()}" for one in runs]
    data = {"schedules": [one.__dict__ for one in schedules], "runs": [one.__dict__ for one in runs]}
    tell(data, as_json, "\n".join(lines) or "Nothing is scheduled, and nothing ran.")


def compile_pipeline(
    out: Annotated[Path, typer.Option(help="File to write the YAML to.")],
    image: ImageOption = "",
    pipeline: Annotated[str, typer.Option(help="retrain, simulate-only or evaluate-only.")] = "retrain",
) -> None:
    """Write a pipeline as YAML for a Kubeflow cluster."""
    from components.compute import IMAGE as NO_IMAGE
    from pipelines.compile import compiled

    text = compiled(image or os.environ.get(IMAGE) or NO_IMAGE, pipeline)
    try:
        out.write_text(text)
    except OSError as error:
        raise BadSetting(
            f"{out} cannot be written: {error.strerror}. Give --out a file in a folder that exists."
        ) from None
    typer.echo(str(out))


def parameters(request: Request, store: str, reason: str) -> dict[str, Any]:
    """What a run of `retrain` is told."""
    return request.model_dump(mode="json") | {"store": store, "reason": reason}


def _image(image: str) -> str:
    found = image or os.environ.get(IMAGE, "")
    if not found:
        raise BadSetting(f"No image is named. Give --image REF@sha256:<64 hex characters>, or set {IMAGE}.")
    return found


def _reason(text: str) -> Literal["manual", "new-data", "drift"]:
    for known in ("manual", "new-data", "drift"):
        if text == known:
            return known
    raise BadSetting(f"{text!r} is no reason; give manual, new-data or drift.")
