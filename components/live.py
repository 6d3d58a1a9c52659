"""How far something that takes a while is, for the person who waits: a bar on a terminal, lines elsewhere."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from components.compute import NARRATED, said_now_and_then, say
from simulation.cluster import ClusterInfo, cluster

if TYPE_CHECKING:
    from training.progress import Progress


@contextmanager
def training_watched(what: str) -> "Iterator[Callable[[Progress], None]]":
    """A callback for the progress of a training run: step, losses, speed, share spent waiting for data, time left."""
    say(f"{what}: starting workers")
    if os.environ.get(NARRATED) or not sys.stderr.isatty():
        now_and_then = said_now_and_then(what)
        yield lambda progress: now_and_then(progress.line())
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
    with Bar(*columns, TextColumn("{task.fields[facts]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None, facts="")

        def show(progress: "Progress") -> None:
            bar.update(task, completed=progress.step, total=progress.steps, facts=progress.facts())

        yield show


@contextmanager
def said_cluster(what: str) -> Iterator[ClusterInfo]:
    """`simulation.cluster.cluster`; where Ray has to be started for it, which takes seconds, it says so first."""
    if "RAY_ADDRESS" not in os.environ:
        say(f"{what}: starting Ray")
    with cluster() as info:
        yield info
