"""Training on Ray: one set of weights, however often it is interrupted; every row logged once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.train.v2.api.exceptions import WorkerGroupError

from simulation.build import Built
from simulation.cluster import ClusterInfo
from simulation.errors import (
    BadSetting,
    BudgetSpent,
    CheckpointIncompatible,
    CorpusDamaged,
    ManifestMismatch,
    NotThere,
    SampleRateMismatch,
    Superseded,
)
from simulation.storage import read, replace
from simulation.virtual import open_corpora
from training import halt
from training.best import FIGURE, Best
from training.checkpoint import load_version, version_files, version_record, weights_bytes
from training.fit import Fitted, _ours, claimed_cpus, claims, fit, release, validator_cpus, version_address
from training.ledger import accounts, total
from training.lineage import LINEAGE, Lineage
from training.models import GruMask
from training.profile import Budget, ComputeProfile
from training.recipe import KeepBest, Recipe
from training.worker import Errand

MakeRecipe = Callable[..., Recipe]
ONE = ComputeProfile(workers=1, cpus_per_worker=1)
KEY = "5" * 64
STEPS_LOGGED = [2, 4, 5, 6, 8, 10]


@pytest.fixture(scope="session")
def corpus(built_here: Callable[..., Built], tmp_path_factory: pytest.TempPathFactory) -> Built:
    """One small shard a split of real speech with noise, rendered in this process."""
    return built_here(str(tmp_path_factory.mktemp("corpus")), valid_rows=8, test_rows=8)


class Log(list[tuple[int, dict[str, float]]]):
    """What was logged, as (step, values)."""

    def __call__(self, values: dict[str, float], step: int) -> None:
        """Note it."""
        self.append((step, values))

    @property
    def steps(self) -> list[int]:
        """The steps, in the order in which they came."""
        return [step for step, _ in self]


@pytest.fixture(scope="session")
def settings(corpus: Built, small_recipe: MakeRecipe) -> dict[str, Any]:
    """What all runs here have in common."""
    return {
        "recipe": small_recipe(),
        "corpus": corpus.address,
        "corpus_digest": corpus.digest,
        "name": KEY,
        "profile": ONE,
    }


@pytest.fixture(scope="session")
def undisturbed(
    ray_cluster: ClusterInfo, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Fitted, Log, list[str], str]:
    """A run that nothing happened to: result, log, lines of progress, and its store."""
    log, lines, store = Log(), [], str(tmp_path_factory.mktemp("store"))
    return fit(**settings, storage=store, log=log, progress=lines.append), log, lines, store


def test_a_run_leaves_a_version(undisturbed: tuple[Fitted, Log, list[str], str], settings: dict[str, Any]) -> None:
    """At a readable address, loadable, and it says what it was made from."""
    fitted, _, _, store = undisturbed
    assert fitted.address == f"file://{store}/versions/small-{KEY[:12]}"
    record = version_record(fitted.address)
    assert record.weights_sha256 == fitted.weights_sha256
    assert record.facts["recipe_digest"] == settings["recipe"].digest()
    assert record.facts["corpus_digest"] == settings["corpus_digest"]
    assert (fitted.steps, record.facts["seed"]) == (10, 0)
    assert {"valid/loss", "valid/si_sdr_db", "valid/si_sdr_gain_db"} == set(fitted.valid)
    assert [row["step"] for row in fitted.history] == [5, 10]
    assert load_version(fitted.address)(torch.randn(1, 1600)).shape == (1, 1600)


def test_each_row_is_logged_once_at_its_step(undisturbed: tuple[Fitted, Log, list[str], str]) -> None:
    """In order, with the values of the history; and a person saw how far it was."""
    fitted, log, lines, _ = undisturbed
    assert log.steps == STEPS_LOGGED
    assert log[-1][1]["valid/loss"] == fitted.valid["valid/loss"]
    assert lines and lines[-1].line().startswith("step ")


def test_a_finished_run_is_answered_from_its_version(
    undisturbed: tuple[Fitted, Log, list[str], str], settings: dict[str, Any]
) -> None:
    """Nothing is trained, asked or logged again."""
    fitted, _, _, store = undisturbed

    def never(*arguments: object) -> None:
        raise AssertionError("trained again")

    assert fit(**settings, storage=store, before_commit=never, log=never, progress=never) == fitted
    other = settings | {"recipe": settings["recipe"].model_copy(update={"seed": 7})}
    with pytest.raises(CheckpointIncompatible, match=r"recipe.seed: 0 there, 7 here"):
        fit(**other, storage=store)


def test_a_superseded_run_stops_and_its_successor_ends_in_the_same_weights(
    undisturbed: tuple[Fitted, Log, list[str], str], settings: dict[str, Any], tmp_path: Path
) -> None:
    """Refused at its second checkpoint: no version. Another recipe may not take the name over; the same goes on."""
    asked, log = tmp_path / "asked", Log()

    def refuse_the_second() -> None:
        if asked.exists():
            raise Superseded("attempt 2 has taken over")
        asked.touch()

    with pytest.raises(Superseded, match="attempt 2"):
        fit(**settings, storage=str(tmp_path), before_commit=refuse_the_second, log=log)
    assert not (tmp_path / "versions").exists()
    assert log.steps == [2, 4, 5]

    other = settings | {"recipe": settings["recipe"].model_copy(update={"learning_rate": 0.5})}
    with pytest.raises(CheckpointIncompatible, match=r"recipe.learning_rate: 0.001 there, 0.5 here"):
        fit(**other, storage=str(tmp_path), log=log)

    fitted = fit(**settings, storage=str(tmp_path), log=log)
    assert fitted.weights_sha256 == undisturbed[0].weights_sha256
    assert log.steps == STEPS_LOGGED


def lineage_of(address: str) -> Lineage:
    """What the weights of a version have learnt from."""
    return Lineage.from_bytes(read(f"{address}/{LINEAGE}"))


def test_each_mixture_counts_once_an_epoch(undisturbed: tuple[Fitted, Log, list[str], str], corpus: Built) -> None:
    """Fifty items, out of a corpus that has fewer: the lineage beside the weights has them in the order of the run."""
    fitted, _, _, _ = undisturbed
    lineage = lineage_of(fitted.address)
    assert len(lineage.learnt) == 50 and lineage.corpus_rows == open_corpora(corpus.address)["train"].rows
    assert [each.repeated.tolist() for each in lineage.epochs()] == [[]] * len(lineage.epochs())
    assert version_record(fitted.address).facts["lineage"] == lineage.facts()


@pytest.fixture(scope="session")
def halved(
    ray_cluster: ClusterInfo,
    settings: dict[str, Any],
    small_recipe: MakeRecipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Fitted, Log, str, str]:
    """A run that spends its budget at step 3, and goes on with a larger one, validating apart: result, log, complaint,
    store."""
    store, log = str(tmp_path_factory.mktemp("halved")), Log()
    best = KeepBest(metric="valid/loss", higher_is_better=False, count=2, release=True)
    common = settings | {"storage": store, "log": log, "recipe": small_recipe(keep_best=best)}
    poor = ComputeProfile(cpus_per_worker=1, budget=Budget(max_steps=3))
    rich = ComputeProfile(cpus_per_worker=1, validation="apart", budget=Budget(max_core_hours=1.0))
    with pytest.raises(BudgetSpent) as complaint:
        fit(**common | {"profile": poor})
    assert not Path(store, "versions").exists()
    return fit(**common | {"profile": rich}), log, str(complaint.value), store


def test_a_spent_budget_stops_a_run_and_a_larger_one_lets_it_go_on(
    undisturbed: tuple[Fitted, Log, list[str], str], halved: tuple[Fitted, Log, str, str]
) -> None:
    """With a checkpoint of that very step, and no version before the end; nothing is learnt from or logged twice."""
    _, log, complaint, store = halved
    assert "max_steps 3" in complaint and "at step 3 of 10" in complaint and "larger budget" in complaint
    assert log.steps == STEPS_LOGGED
    last = f"file://{store}/runs/{KEY}/checkpoint-00000010"
    assert lineage_of(last).facts() == lineage_of(undisturbed[0].address).facts()


def test_validation_apart_gives_the_same_figures_at_the_same_steps(
    undisturbed: tuple[Fitted, Log, list[str], str], halved: tuple[Fitted, Log, str, str]
) -> None:
    """They come when they come, and are logged in order, with the row of their step."""
    inside, apart = ([row for row in fitted.history] for fitted in (undisturbed[0], halved[0]))
    figures = ("step", "valid/loss", "valid/si_sdr_db", "valid/si_sdr_gain_db")
    assert [[row[name] for name in figures] for row in apart] == [[row[name] for name in figures] for row in inside]
    assert [step for step, values in halved[1] if "valid/loss" in values] == [5, 10]


def test_the_best_is_released_where_the_recipe_asks_for_it(
    undisturbed: tuple[Fitted, Log, list[str], str], halved: tuple[Fitted, Log, str, str]
) -> None:
    """Both validated steps are kept; the version has the weights and figures of the one with the lower loss."""
    fitted, _, _, store = halved
    rule = KeepBest(metric="valid/loss", higher_is_better=False, count=2, release=True)
    kept = Best(f"file://{store}/runs/{KEY}", rule).kept()
    losses = {row["step"]: row["valid/loss"] for row in undisturbed[0].history}
    assert {one.step: one.value for one in kept} == losses
    assert version_record(kept[0].address).weights_sha256 == fitted.weights_sha256
    assert fitted.valid["valid/loss"] == min(losses.values())
    of_the_last_step = {one.step: version_record(one.address).weights_sha256 for one in kept}[10]
    assert of_the_last_step == undisturbed[0].weights_sha256


def test_the_lineage_of_the_best_step_ends_with_that_step(
    corpus: Built, small_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Weights of step 4 that are released after step 10 have not learnt from what came between."""
    rule, address, run = KeepBest(metric="valid/loss", release=True), f"file://{tmp_path}/version", f"file://{tmp_path}"
    recipe = small_recipe(keep_best=rule)
    weights = weights_bytes(recipe.model.build())
    facts = {"steps": 10, "history": [{"step": 4, "valid/loss": 1.0}, {"step": 10, "valid/loss": 0.5}]}
    learnt = Lineage(7, np.arange(50, dtype=np.uint32) % 7)
    last = {LINEAGE: learnt.to_bytes(), **version_files(recipe.model, weights, facts | {"lineage": learnt.facts()})}
    for name, data in last.items():
        replace(f"{run}/checkpoint/{name}", data)
    best = version_files(recipe.model, weights, {"steps": 4, "history": [], FIGURE: 1.0})
    Best(run, rule).offer(4, {"valid/loss": 1.0}, best)
    errand = Errand(recipe, corpus.address, None, "", run, 1, 1.0, 0.0, None, 1, Budget(), None, None)
    release(errand, f"{run}/checkpoint", version_record(f"{run}/checkpoint").facts, address)
    assert lineage_of(address).learnt.tolist() == learnt.learnt[:20].tolist()
    released = version_record(address).facts
    assert (released["released_step"], released["steps"]) == (4, 10)
    assert released["lineage"] == lineage_of(address).facts() != learnt.facts()


def test_sigterm_loses_no_step(
    undisturbed: tuple[Fitted, Log, list[str], str], settings: dict[str, Any], tmp_path: Path
) -> None:
    """A worker that is told to go leaves a checkpoint of the step it is at; another ends in the same weights."""
    told, log = tmp_path / "told", Log()

    def be_told() -> None:
        if not told.exists():
            told.touch()
            os.kill(os.getpid(), signal.SIGTERM)
            assert halt._told_to_go.wait(30.0)  # the process's main thread looks for signals now and then

    fitted = fit(**settings, storage=str(tmp_path), before_commit=be_told, log=log)
    assert log.steps == STEPS_LOGGED
    assert fitted.weights_sha256 == undisturbed[0].weights_sha256
    ledger = accounts(f"file://{tmp_path}/runs/{KEY}")
    assert [account.marks[0][0] for account in ledger] == [0, 6]
    assert total(ledger).wasted_seconds < 1.0


def test_an_elastic_run_takes_the_workers_there_is_room_for(
    undisturbed: tuple[Fitted, Log, list[str], str], settings: dict[str, Any], tmp_path: Path
) -> None:
    """From one to four of one CPU each: two, on a cluster of two. The global batch is the recipe's: shares of three and
    two items end close to what one worker learnt."""
    fitted = fit(**settings | {"profile": ComputeProfile(workers=(1, 4), cpus_per_worker=1)}, storage=str(tmp_path))
    assert len(accounts(f"file://{tmp_path}/runs/{KEY}")) == 2
    assert fitted.valid == pytest.approx(undisturbed[0].valid, rel=1e-3)
    assert lineage_of(fitted.address).facts() == lineage_of(undisturbed[0].address).facts()


@pytest.mark.parametrize(
    ("workers", "cpus", "there", "claimed"),
    [
        (1, 2, 2.0, 2),
        (2, 2, 2.0, 1),
        (4, 1, 2.0, 0.5),
        (3, 4, 8.0, 2),
        (3, 1, 2.0, 0.6666),
        (2, 2, 64.0, 2),
        (1, 2, 0.0, 2),
    ],
)
def test_workers_claim_no_more_than_there_is(
    monkeypatch: pytest.MonkeyPatch, workers: int, cpus: int, there: float, claimed: float
) -> None:
    """Ray would wait for the rest for ever; with none at all (an autoscaler's beginning) it may."""
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": there})
    assert claimed_cpus(ComputeProfile(workers=workers, cpus_per_worker=cpus)) == claimed


@pytest.mark.parametrize(
    ("workers", "there", "claimed"), [(1, 2.0, 1.0), (2, 2.0, 0.0), ((1, 2), 2.0, 0.0), (2, 8.0, 1.0), (4, 2.0, 0.0)]
)
def test_validation_apart_never_waits_for_cpus(
    monkeypatch: pytest.MonkeyPatch, workers: int | tuple[int, int], there: float, claimed: float
) -> None:
    """Where workers may need them all, it claims none and runs beside them."""
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": there})
    assert validator_cpus(ComputeProfile(workers=workers, cpus_per_worker=1)) == claimed


def test_a_worker_claims_memory_where_the_profile_says_so() -> None:
    """In bytes, as Ray counts it."""
    assert claims(ComputeProfile(memory_per_worker_gb=1.5), 2.0) == {"CPU": 2.0, "GPU": 0, "memory": 1.5e9}
    assert claims(ComputeProfile(gpus_per_worker=1), 1.0) == {"CPU": 1.0, "GPU": 1}


def test_a_corpus_that_is_not_there_is_answered_at_once(settings: dict[str, Any], tmp_path: Path) -> None:
    """Before any worker starts, and nothing is written."""
    with pytest.raises(NotThere):
        fit(**settings | {"corpus": str(tmp_path / "none"), "corpus_digest": None}, storage=str(tmp_path))
    with pytest.raises(ManifestMismatch):
        fit(**settings | {"corpus_digest": "0" * 64}, storage=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_begin_is_answered_before_any_worker_starts(
    settings: dict[str, Any], small_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """A corpus of another rate, more workers than a step has items, a figure that nobody takes."""
    fullband = small_recipe(use="fullband-48k", model=GruMask.Config(sample_rate=48_000))
    with pytest.raises(SampleRateMismatch, match="The corpus has 16000 Hz"):
        fit(**settings | {"recipe": fullband}, storage=str(tmp_path))
    with pytest.raises(BadSetting, match="6 workers cannot share a batch of 5; use at most 5 workers"):
        fit(**settings | {"profile": ComputeProfile(workers=(1, 6))}, storage=str(tmp_path))
    best = small_recipe(keep_best=KeepBest(metric="valid/pesq"))
    with pytest.raises(BadSetting, match="'valid/pesq'; validation gives valid/loss, valid/si_sdr_db"):
        fit(**settings | {"recipe": best}, storage=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_not_taken_over_by_another_run(settings: dict[str, Any], tmp_path: Path) -> None:
    """A checkpoint that comes from another recipe or corpus refuses before any worker starts, with each difference."""
    facts = {"recipe": settings["recipe"].model_dump(mode="json"), "corpus_digest": "0" * 64, "plan_digest": ""}
    model = settings["recipe"].model
    for name, data in version_files(model, weights_bytes(model.build()), facts).items():
        replace(f"file://{tmp_path}/runs/{KEY}/checkpoint-00000005/{name}", data)
    recipe = settings["recipe"].model_copy(update={"learning_rate": 0.5})
    with pytest.raises(CheckpointIncompatible, match=r"learning_rate: 0.001 there, 0.5 here; corpus_digest: 0000"):
        fit(**settings | {"recipe": recipe}, storage=str(tmp_path))


def test_an_attempt_has_an_address_of_its_own(small_recipe: MakeRecipe) -> None:
    """The key is shortened, what follows it is not."""
    assert version_address("s3://b/store", small_recipe(), KEY).endswith("/versions/small-555555555555")
    assert version_address("s3://b/store", small_recipe(), f"{KEY}-2").endswith("/versions/small-555555555555-2")


def test_an_error_of_ours_is_found_inside_ray_trains() -> None:
    """A person reads our paragraph, not a traceback of Ray's."""
    damaged = CorpusDamaged("shard 3")
    assert _ours(WorkerGroupError("1 worker failed", {0: damaged})) is damaged
    foreign = WorkerGroupError("1 worker failed", {0: ValueError("x")})
    assert _ours(foreign) is foreign


DRIVER = """
import sys
from simulation.cluster import cluster
from training.fit import fit
from training.profile import ComputeProfile
from training.recipe import Recipe
recipe, corpus, digest, store, key = sys.argv[1:]
def log(values, step):
    print("logged", step, flush=True)
with cluster():
    fitted = fit(Recipe.model_validate_json(recipe), corpus=corpus, corpus_digest=digest, storage=store, name=key,
                 profile=ComputeProfile(workers=1, cpus_per_worker=1), log=log)
print("weights", fitted.weights_sha256, flush=True)
"""


@pytest.mark.long
def test_a_killed_driver_is_continued_to_the_same_weights(
    ray_for_children: ClusterInfo,
    undisturbed: tuple[Fitted, Log, list[str], str],
    small_recipe: MakeRecipe,
    settings: dict[str, Any],
    tmp_path: Path,
) -> None:
    """SIGKILL after the first checkpoint; started again, it ends as if nothing had happened, and logs nothing twice."""
    arguments = [small_recipe().model_dump_json(), settings["corpus"], settings["corpus_digest"], str(tmp_path), KEY]
    command = [sys.executable, "-c", DRIVER, *arguments]
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as driver:
        assert driver.stdout is not None
        for line in driver.stdout:
            if line.startswith("logged"):
                said.append(int(line.split()[1]))
            if said:
                driver.send_signal(signal.SIGKILL)
    time.sleep(5)
    again = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=250, check=True).stdout.splitlines()
    weights = [line.split()[1] for line in again if line.startswith("weights")]
    assert weights == [undisturbed[0].weights_sha256]
    said += [int(line.split()[1]) for line in again if line.startswith("logged")]
    assert sorted(set(said)) == STEPS_LOGGED
