"""The command that follows a version to its recordings, and a recording to its versions."""

from dataclasses import asdict
from typing import Annotated

import typer

from pipelines.commands.options import Json
from pipelines.commands.telling import tell


def trace(
    what: Annotated[
        str, typer.Argument(help="dm/3, champion, X-Unmuffle-Version of an answer, an address, a run's id.")
    ],
    recording: Annotated[
        bool, typer.Option("--recording", help="WHAT is a recording: its id, sha256, speaker, noise or room.")
    ] = False,
    as_json: Json = False,
) -> None:
    """From an answer back to run, code, corpus, recordings and licences; or which versions used a recording."""
    from pipelines.trace import trace as traced
    from pipelines.trace import users_of
    from training.tracking import Tracking

    if recording:
        used = users_of(what, Tracking())
        lines = [
            f"{one.version} of {one.use}: {one.recording} ({one.split}), {one.licence}, {one.corpus}" for one in used
        ]
        tell([asdict(one) for one in used], as_json, "\n".join(lines) or "There is no version yet.")
        return
    found = traced(what, Tracking())
    tell(asdict(found), as_json, "\n".join(found.lines()))
