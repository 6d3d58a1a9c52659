"""Where a stage runs, and with how much: circumstance, never part of a stage's identity."""

import os
import sys
import time
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from components import stage
from components.cluster_profile import ClusterProfile
from components.specs import AnySpec
from components.stage import Result
from simulation.cores import cores
from simulation.schema import Schema
from training.profile import ComputeProfile

IMAGE = "unmuffle-python@sha256:" + "0" * 64
"""Stands for the image in components until the pipeline is compiled for a real one."""

MARK = "»» "
"""What a task prints before a line that a person should see; everything else goes to the log."""

FEW_CORES = 2
"""Up to so many, a process that validates beside the training would only take its time."""

NARRATED = "UNMUFFLE_NARRATED"
"""Set while the local runner listens for marked lines."""

HERE = "promote"
"""The stage that runs where it is asked for on a cluster too: it changes the service, which Ray's pods may not."""


class Compute(Schema):
    """How much each stage may use."""

    workers: int = Field(ge=1)
    """Concurrent workers of simulation and evaluation."""
    training: ComputeProfile
    """Workers of one training run and what each may use."""
    recipes: dict[str, ComputeProfile] = Field(default_factory=dict)
    """The same for recipes, by name, that need something else."""
    cluster: ClusterProfile | None = None
    """Stages run as RayJobs there; None: where they are asked for."""

    def training_of(self, recipe: str) -> ComputeProfile:
        """What a run of this recipe may use."""
        return self.recipes.get(recipe, self.training)

    @classmethod
    def current(cls) -> "Compute":
        """The profile in UNMUFFLE_COMPUTE (JSON), else one that fits this machine."""
        text = os.environ.get("UNMUFFLE_COMPUTE")
        if text:
            return cls.parse(text, "UNMUFFLE_COMPUTE")
        listener: Literal["inside", "apart"] = "apart" if cores() > FEW_CORES else "inside"
        training = ComputeProfile(workers=1, cpus_per_worker=cores(), validation=listener)
        return cls(workers=cores(), training=training)

    def export(self) -> None:
        """Make this the profile of this process and of those it starts."""
        os.environ["UNMUFFLE_COMPUTE"] = self.model_dump_json()


def launch(spec: AnySpec, store: str) -> Result:
    """The result of this spec: from the store if it is there, else by running the stage here or as a RayJob."""
    done = stage.result_of(store, spec)
    if done is not None:
        say(f"{spec.stage}: answered from its result ({done.key[:16]})")
        return done
    say(f"{spec.stage}: begins ({spec.key()[:16]})")
    compute = Compute.current()
    if compute.cluster is not None and spec.stage != HERE:
        from components.launcher import Launcher

        return Launcher.current(compute).launch(spec, store)
    return stage.run(spec.stage, stage.write_spec(store, spec))


def say(line: str) -> None:
    """A line for the person who started the run: marked inside a pipeline, plain on stderr outside."""
    if os.environ.get(NARRATED):
        print(f"{MARK}{line}", flush=True)
    else:
        print(line, file=sys.stderr, flush=True)


def said_now_and_then(what: str, every_s: float = 10.0) -> Callable[[str], None]:
    """A callback that says a line about `what`, at most every few seconds."""
    last = -every_s

    def report(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            say(f"{what}: {line}")

    return report


def progress(what: str) -> Callable[[int, int], None]:
    """A callback (done, total) that says now and then how far `what` is, with the time left, and when it is done."""
    began = time.monotonic()
    now_and_then = said_now_and_then(what)

    def report(done: int, total: int) -> None:
        if done == total:
            say(f"{what}: {total} of {total}, {time.monotonic() - began:.0f} s")
        elif done:
            left_s = (time.monotonic() - began) / done * (total - done)
            now_and_then(f"{done} of {total}, about {left_s:.0f} s left")

    return report
