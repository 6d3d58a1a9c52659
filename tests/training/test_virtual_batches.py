"""Training on a plan: the batches of the corpus that was never rendered."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from simulation import audio, storage
from simulation.build import build, render_shard
from simulation.corpus import Corpus, open_splits
from simulation.degradations import AddNoise, Reverberate
from simulation.draw import Plan
from simulation.errors import ManifestMismatch, UnmuffleError
from simulation.render import Library
from simulation.scenario import Case, Scenario, Size
from simulation.shards import commit
from simulation.virtual import VirtualCorpus, commit_plan, open_corpora
from training.batches import Batch, Batches
from training.pairs import labels_of, set_aside
from training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Forty rows of the shipped recordings; in one of them the noise is silent, so that it cannot be rendered."""
    noise = tmp_path_factory.mktemp("noise")
    for number, split in enumerate(("train", "valid", "test")):
        half = np.concatenate([np.zeros(160_000), np.full(9, 0.1 + 0.1 * number)]).astype(np.float32)
        path = noise / split / split / "0.flac"
        path.parent.mkdir(parents=True)
        path.write_bytes(audio.encode_flac(half, 16_000))
    still, room = AddNoise(offset=0.0), Reverberate()
    return Scenario(
        name="gappy",
        noise=storage.normal(str(noise)),
        cases=(Case(name="room", share=39, degradations=(room,)), Case(name="still", degradations=(still,))),
        rows_per_shard=20,
        size=Size(train_hours=100 / 3600, valid_rows=1, test_rows=1),
    )


@pytest.fixture(scope="module")
def virtual(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> VirtualCorpus:
    """The training split of its plan."""
    plan = commit_plan(scenario, str(tmp_path_factory.mktemp("store")))
    corpus = open_corpora(plan.address, plan.digest)["train"]
    assert isinstance(corpus, VirtualCorpus)
    return corpus


def in_this_process(plan: Plan, root: str, missing: list, workers: int) -> Iterator[tuple]:
    """In place of the build's own rendering, which needs Ray."""
    library = Library(plan.sources, plan.scenario, plan.seed)
    for split, number in missing:
        yield split, number, commit(f"{root}/{split}", *render_shard(plan, split, number, library))


@pytest.fixture(scope="module")
def rendered(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The same split, rendered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulation.build._rendered", in_this_process)
        built = build(scenario, str(tmp_path_factory.mktemp("rendered")))
    return open_splits(built.address, built.digest)["train"]


def equal(one: Batch, other: Batch) -> bool:
    """To the last bit."""
    return one.ids == other.ids and torch.equal(one.noisy, other.noisy) and torch.equal(one.clean, other.clean)


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_of_a_plan_are_those_of_the_rendered_corpus(
    virtual: VirtualCorpus, rendered: Corpus, small_recipe: MakeRecipe, workers: int
) -> None:
    """Bit for bit over three epochs, with a row in quarantine, for any number of processes; validation likewise."""
    recipe = small_recipe(steps=1 + 3 * virtual.rows // 5)
    there, here = Batches(rendered, recipe), Batches(virtual, recipe, workers)
    assert rendered.rows == virtual.rows > len(rendered.entries)
    assert rendered.stretch == virtual.stretch == 20
    with closing(there.stream(0)) as theirs, closing(here.stream(0)) as ours:
        count = sum(equal(one, other) for one, other in zip(theirs, ours, strict=True))
    assert count == recipe.steps
    assert there.bad.keys() == here.bad.keys() != set()
    assert all(map(equal, there.whole(4), here.whole(4)))


def test_an_evaluation_sees_the_rows_of_the_rendered_corpus(virtual: VirtualCorpus, rendered: Corpus) -> None:
    """Labels with what was measured, what is set aside, and the audio of every row by its place."""
    assert labels_of(virtual) == labels_of(rendered)
    assert set_aside(virtual) == set_aside(rendered) != ()
    last = len(virtual) - 1
    assert np.array_equal(virtual.read(last).noisy, rendered.read(last).noisy)


def test_no_process_is_left(virtual: VirtualCorpus, small_recipe: MakeRecipe) -> None:
    """Neither where the stream is read to its end, nor where it is broken off."""
    before = set(psutil.Process().children(recursive=True))
    for wanted in (1, 6):
        with closing(Batches(virtual, small_recipe(steps=6)).stream(0)) as stream:
            for _ in range(wanted):
                next(stream)
    left = {child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())}
    assert left <= before


def test_an_error_of_a_process_is_an_answer(scenario: Scenario, tmp_path: Path, small_recipe: MakeRecipe) -> None:
    """A recording that changed since it was planned stops the run with what was found and what to do."""
    copy = storage.local_copy(scenario.noise, tmp_path / "noise")
    plan = commit_plan(scenario.model_copy(update={"noise": storage.normal(str(copy))}), str(tmp_path / "store"))
    for path in copy.rglob("*.flac"):
        path.write_bytes(audio.encode_flac(np.full(99, 0.5, np.float32), 16_000))
    batches = Batches(open_corpora(plan.address)["train"], small_recipe(steps=20))
    with closing(batches.stream(0)) as stream, pytest.raises(ManifestMismatch, match="Put the file back"):
        list(stream)


def test_a_process_that_is_killed_is_an_answer(virtual: VirtualCorpus, small_recipe: MakeRecipe) -> None:
    """Nobody waits for it for ever."""
    before = set(psutil.Process().children())
    with closing(Batches(virtual, small_recipe(steps=500), 1).stream(0)) as stream:
        next(stream)
        (worker,) = [
            child for child in set(psutil.Process().children()) - before if "spawn_main" in " ".join(child.cmdline())
        ]
        worker.kill()
        with pytest.raises(UnmuffleError, match="was killed"):
            list(stream)


ALONE = """
import sys
sys.modules["ray"] = sys.modules["mlflow"] = sys.modules["kfp"] = None  # importing them fails
from contextlib import closing
from simulation.virtual import open_corpora
from training.batches import Batches
from training.loop import Run, Seat, train
from training.recipe import Recipe

if __name__ == "__main__":
    root, recipe, said = sys.argv[1], Recipe.parse(sys.argv[2], "recipe"), []
    corpora = open_corpora(root)
    valid = list(Batches(corpora["valid"], recipe).whole(1))
    def tell(progress):
        print(progress.step, flush=True)
    train(Run(recipe), Batches(corpora["train"], recipe), valid, Seat(), lambda run: None, tell)
"""


def test_the_loop_trains_on_a_plan_without_ray_and_its_processes_die_with_it(
    virtual: VirtualCorpus, tmp_path: Path, small_recipe: MakeRecipe
) -> None:
    """Ray, MLflow and kfp cannot be imported; the run is killed in its midst, and what rendered for it ends."""
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    root = virtual.address.rpartition("/")[0]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), root, small_recipe(steps=100_000).model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as run:
        assert run.stdout is not None and int(run.stdout.readline()) == 1
        workers = [child for child in psutil.Process(run.pid).children() if "spawn_main" in " ".join(child.cmdline())]
        assert len(workers) == 2
        os.kill(run.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
