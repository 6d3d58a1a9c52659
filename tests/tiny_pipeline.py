"""The whole pipeline at the smallest sizes that go through every stage, for tests of where things go."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from serving.policy import Policy
from simulation import storage
from simulation.degradations import AddNoise
from simulation.scenario import Case, Scenario, Size
from simulation.schema import Range, Schema
from training.cookbook import recipe as of_the_cookbook
from training.recipe import Recipe

USE = "denoise-16k"
LONGEST_S = 900.0
ANYBODY = Policy(name="anybody", revision=1, minimum_gain=-1000.0, harm_margin=1000.0, minimum_utterances=2)
"""Two steps teach nothing; so that somebody wins, the gate forgives all."""


def scenario() -> Scenario:
    """A dozen mixtures of the shipped recordings with noise."""
    noise = AddNoise(snr_db=Range(low=0.0, high=10.0))
    return Scenario(
        name="dozen",
        cases=(Case(name="noise", degradations=(noise,)),),
        rows_per_shard=4,
        size=Size(train_hours=0.004, valid_rows=2, test_rows=4),
    )


def recipe(name: str, **changes: Any) -> Recipe:
    """That of the cookbook with two steps of two pieces of half a second; `model` is changed, not replaced."""
    base = of_the_cookbook(name)
    few = {"steps": 2, "batch_size": 2, "segment_s": 0.5, "warmup_steps": 0, "log_every": 1, "keep_best": None}
    looks = {"validate_every": 2, "validation_items": 1, "checkpoint_every": 2}
    model = base.model.model_dump() | changes.pop("model", {})
    return Recipe.model_validate(base.model_dump() | few | looks | {"model": model} | changes)


def written(folder: str, **documents: Schema) -> dict[str, str]:
    """Addresses of these documents, as JSON below a folder or bucket prefix, by name."""
    addresses = {name: storage.join(folder, f"{name}.json") for name in documents}
    for name, address in addresses.items():
        storage.replace(address, documents[name].canonical())
    return addresses


def unmuffle(folder: Path, *words: str) -> Any:
    """Type a command of ours with the variables of this process; its answer for machines."""
    command = [sys.executable, "-m", "pipelines", *words, "--json"]
    with (folder / "said.log").open("a+") as said:
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=said, text=True, timeout=LONGEST_S, check=False
        )
        said.seek(0)
        assert done.returncode == 0, done.stdout[-2000:] + said.read()[-4000:]
    return json.loads(done.stdout)
