"""The train stage: what it leaves in MLflow, in the store and in the registry."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.models import Model

from components.specs import Input, TrainSpec
from components.stage import Stage
from components.train import run
from simulation import storage
from simulation.build import Built
from simulation.cluster import ClusterInfo
from training.ledger import Cost, spent
from training.provenance import ROOT, code_digest, packages
from training.recipe import Recipe
from training.registry import DEFAULT_USE
from training.tracking import Tracking

MakeRecipe = Callable[..., Recipe]


class Done(NamedTuple):
    """A stage that has run."""

    outputs: dict[str, Any]
    stage: Stage
    corpus: Built
    tracking: Tracking
    client: MlflowClient

    @property
    def run(self) -> Any:
        """MLflow's."""
        return self.client.get_run(self.outputs["run_id"])

    def artifacts(self, below: str = "") -> list[str]:
        """Names of all files of the run."""
        found = self.client.list_artifacts(self.outputs["run_id"], below)
        return [name for one in found for name in (self.artifacts(one.path) if one.is_dir else [one.path])]

    def content(self, name: str) -> bytes:
        """Of a file of the run."""
        return Path(self.client.download_artifacts(self.outputs["run_id"], name)).read_bytes()


@pytest.fixture(scope="module")
def done(
    ray_cluster: ClusterInfo,
    built_here: Callable[..., Built],
    small_recipe: MakeRecipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Done]:
    """The stage, run once with a small recipe, in a home of its own."""
    folder = tmp_path_factory.mktemp("train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMUFFLE_HOME", str(folder / "home"))
        patch.setattr("simulation.cluster.cluster", nullcontext)
        patch.setenv("UNMUFFLE_COMPUTE", json.dumps({"workers": 1, "training": {"workers": 1, "cpus_per_worker": 1}}))
        corpus = built_here(str(folder / "store"))
        given = Input(address=corpus.address, sha256=corpus.digest)
        spec = TrainSpec(recipe=small_recipe().model_dump(mode="json"), corpus=given, parent="pipeline-1")
        stage = Stage(name="train", key=spec.key(), store=f"file://{folder}/store", attempt=1)
        outputs = run(spec, stage)
        tracking = Tracking()
        yield Done(outputs, stage, corpus, tracking, MlflowClient(tracking.uri))
        shutil.rmtree(folder)


def test_the_run_says_what_it_was_made_from(done: Done) -> None:
    """Config, seed, code and corpus; it belongs to the run of its pipeline."""
    data = done.run.data
    assert (data.params["model.kind"], data.params["steps"], data.params["seed"]) == ("gru_mask", "10", "3")
    assert data.tags["code_sha256"] == code_digest(ROOT)
    assert data.tags["seed"] == "3"
    assert data.tags["corpus_digest"] == done.corpus.digest
    assert len(data.tags["plan_digest"]) == 64
    (used,) = done.run.inputs.dataset_inputs
    assert json.loads(used.dataset.profile) == {"digest": done.corpus.digest}
    assert done.client.get_run(data.tags["mlflow.parentRunId"]).data.tags["logical_run_key"] == "pipeline-1"


def test_its_environment_can_be_installed_again(done: Done) -> None:
    """Every package with its version, as pip reads it; interpreter and platform beside."""
    assert f"torch=={packages()['torch']}" in done.content("environment/requirements.txt").decode().splitlines()
    assert json.loads(done.content("environment/environment.json"))["python"]


def test_figures_arrive_at_strictly_rising_steps(done: Done) -> None:
    """Every row once, for whatever it holds."""
    steps = [point.step for point in done.client.get_metric_history(done.outputs["run_id"], "train/loss")]
    assert steps == [2, 4, 5, 6, 8, 10]
    looked = [point.step for point in done.client.get_metric_history(done.outputs["run_id"], "valid/si_sdr_db")]
    assert looked == [5, 10]


def test_every_validation_can_be_heard_and_seen(done: Done) -> None:
    """Two rows at both looks, their inputs once, and the curves."""
    files = done.artifacts()
    heard = [name for name in files if name.startswith("samples/step-")]
    assert len([name for name in heard if name.endswith("-enhanced.wav")]) == 4
    assert len([name for name in heard if name.endswith(".png")]) == 4
    assert {name.split("/")[1] for name in heard} == {"step-00000005", "step-00000010"}
    assert len([name for name in files if name.startswith("samples/inputs/")]) == 4
    assert done.content("curves.png").startswith(b"\x89PNG")


def test_nodes_and_cost_are_among_its_metrics(done: Done) -> None:
    """One node here; and what the ledger in the store sums up to."""
    metrics = done.run.data.metrics
    assert [name for name in metrics if name.startswith("system/") and name.endswith("/cpu_utilization_percentage")]
    cost = spent(storage.join(done.stage.store, "runs", done.stage.key))
    assert cost.core_seconds > 0 and cost.bytes_read > 0 and cost.bytes_written > 0
    assert {name.removeprefix("cost/") for name in metrics if name.startswith("cost/")} == set(Cost().model_dump())
    assert 0 < metrics["cost/core_seconds"] <= cost.core_seconds
    assert metrics["cost/wasted_seconds"] == 0


def test_the_version_knows_its_cost_and_its_code(done: Done) -> None:
    """Tags on what may be promoted."""
    (version,) = done.tracking.versions(DEFAULT_USE)
    assert version.name == done.outputs["name"] == "gru_mask/1"
    assert float(version.tags["cost_core_hours"]) >= 0
    assert version.tags["cost_wasted_core_hours"] == "0.0000"
    assert version.tags["code_sha256"] == code_digest(ROOT)


def test_the_version_s_page_shows_its_card_and_signature_and_holds_no_pickle(done: Done) -> None:
    """MLflow knows what goes in and out; what a person reads is the card; weights are safetensors in the store."""
    (version,) = done.tracking.versions(DEFAULT_USE)
    shown = done.client.get_model_version(DEFAULT_USE, version.version)
    logged = done.client.get_logged_model(version.tags["logged_model"])
    folder = Path(logged.artifact_location.removeprefix("file://"))
    assert sorted(file.name for file in folder.iterdir()) == ["MLmodel", "README.md"]
    model = Model.load(str(folder / "MLmodel"))
    (heard,), (given,) = model.signature.inputs.inputs, model.signature.outputs.inputs
    assert (heard.name, heard.type.name, heard.shape) == ("noisy", "float32", (-1, -1))
    assert (given.name, given.type.name, given.shape) == ("enhanced", "float32", (-1, -1))
    assert list(model.flavors) == ["unmuffle"]
    assert model.flavors["unmuffle"]["weights_sha256"] == version.weights_sha256
    assert storage.exists(storage.join(model.flavors["unmuffle"]["address"], model.flavors["unmuffle"]["weights"]))
    assert str(logged.status) == "READY"
    assert shown.description == (folder / "README.md").read_text()
    assert done.run.data.tags["mlflow.note.content"] == shown.description


def test_the_card_states_facts_of_this_very_version(done: Done, small_recipe: MakeRecipe) -> None:
    """Network, weights, data with its licences, figures, limits, code and cost."""
    (version,) = done.tracking.versions(DEFAULT_USE)
    card = done.client.get_model_version(DEFAULT_USE, version.version).description
    figure = done.run.data.metrics["released/si_sdr_db"]
    assert figure == done.run.data.metrics["valid/si_sdr_db"]
    for fact in (
        "# gru_mask, recipe small",
        version.weights_sha256,
        f"digest `{done.corpus.digest}`",
        "train 8 rows",
        "speech recordings",
        f"| si_sdr_db | {figure:.3f} |",
        "mixtures of these kinds: noise.",
        code_digest(ROOT)[:16],
        "core-hours",
        "not causal" if not small_recipe().model.build().causal else "algorithmic latency",
    ):
        assert fact in card
    assert "licence not stated" not in card


def test_a_stage_that_runs_again_registers_nothing_new(
    done: Done, small_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the registration and the result: the same version, one logged model."""
    given = Input(address=done.corpus.address, sha256=done.corpus.digest)
    spec = TrainSpec(recipe=small_recipe().model_dump(mode="json"), corpus=given, parent="pipeline-1")
    monkeypatch.setattr("simulation.cluster.cluster", nullcontext)
    monkeypatch.setenv("UNMUFFLE_HOME", str(Path(done.stage.store.removeprefix("file://")).parent / "home"))
    assert run(spec, done.stage) == done.outputs
    assert len(done.tracking.versions(DEFAULT_USE)) == 1
    assert len(done.client.search_logged_models([done.run.info.experiment_id])) == 1
