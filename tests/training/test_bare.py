"""Training on one device where Ray, MLflow and kfp are absent: the same weights, and it goes on where it stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simulation.build import Built
from simulation.virtual import open_corpora
from training import bare
from training.batches import Batches
from training.checkpoint import load_version, version_record, weights_digest
from training.loop import Run, Seat, train
from training.recipe import KeepBest, Recipe

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="module")
def corpus(built_here: Callable[..., Built], tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A few rows of real speech with noise, rendered in this process."""
    return built_here(str(tmp_path_factory.mktemp("corpus")), "few", 4, valid_rows=4, test_rows=4)


@pytest.fixture(scope="module")
def undisturbed(corpus: Built, small_recipe: MakeRecipe) -> str:
    """The digest of the weights that the loop gives by itself."""
    recipe, corpora = small_recipe(ema_decay=0.9), open_corpora(corpus.address)
    run = Run(recipe)
    valid = list(Batches(corpora["valid"], recipe).whole(recipe.validation_items))
    train(run, Batches(corpora["train"], recipe), valid, Seat(), lambda run: None, lambda told: None)
    return weights_digest(run.released)


ALONE = """
import importlib.metadata, sys
from importlib.machinery import PathFinder

ABSENT = "ray mlflow kfp pandas pyarrow fastapi uvicorn httpx typer rich matplotlib onnxruntime pesq pystoi speechmos "
ABSENT = set((ABSENT + "psutil pyroomacoustics audiomentations kubernetes jinja2 click").split())

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else super().find_spec(name, path, target)

def version(name, known=importlib.metadata.version):
    if name in ABSENT | {"unmuffle"}:
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
importlib.metadata.version = version

from training.bare import main
sys.exit(main(sys.argv[1:]))
"""


def command(folder: Path, corpus: Built, recipe: Recipe) -> list[str]:
    """The arguments for a recipe in a file."""
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    return [str(folder / "recipe.json"), "--corpus", corpus.address, "--out", str(folder / "out"), "--device", "cpu"]


def test_a_bare_machine_trains_the_same_weights(
    corpus: Built, undisturbed: str, small_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """What the platform brings cannot be imported; a person sees how far it is, and where the version lies."""
    words = command(tmp_path, corpus, small_recipe(ema_decay=0.9))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *words], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "step 10 of 10, loss 0." in done.stdout
    assert done.stdout.endswith(f"Version: file://{tmp_path}/out/version\n")
    record = version_record(f"{tmp_path}/out/version")
    assert record.weights_sha256 == undisturbed == weights_digest(load_version(f"{tmp_path}/out/version"))
    assert set(record.packages) == {"torch", "safetensors"}


def test_a_run_that_is_told_to_stop_goes_on_to_the_same_weights(
    corpus: Built,
    undisturbed: str,
    small_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """After step 3 it saves and says so, without a version; the same command ends it; once more changes nothing."""
    words = command(tmp_path, corpus, small_recipe(ema_decay=0.9))
    with monkeypatch.context() as patch:
        patch.setattr(bare.Stop, "asked", property(lambda stop: os.path.exists(tmp_path / "told")))
        patch.setattr(bare, "tell", lambda told: (tmp_path / "told").touch() if told.step == 3 else None)
        patch.setattr("training.progress.INTERVAL_S", 0.0)
        assert bare.main(words) == 1
    assert "Stopped at step 4 of 10; the same command goes on." in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["training.pt"]
    told: list[int] = []
    monkeypatch.setattr(bare, "tell", lambda progress: told.append(progress.step))
    for _ in range(2):
        assert bare.main(words) == 0
        assert told[0] == 5
        assert version_record(f"{tmp_path}/out/version").weights_sha256 == undisturbed


def test_a_folder_with_another_run_is_refused(
    corpus: Built, small_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one paragraph, with what differs; and so is a recipe that nobody knows."""
    assert bare.main(command(tmp_path, corpus, small_recipe(steps=4))) == 0
    capsys.readouterr()
    assert bare.main(command(tmp_path, corpus, small_recipe(steps=4, seed=7))) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and "seed" in said and said.count("\n") == 1
    assert bare.main(["gru_smok", "--corpus", corpus.address, "--out", str(tmp_path / "out")]) == 2
    assert "Did you mean 'gru_smoke'" in capsys.readouterr().err


def test_a_state_of_an_earlier_release_goes_on_and_a_damaged_one_is_answered(
    corpus: Built, small_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a recipe could not say then has its default now; bytes that are cut off are named, and left as they are."""
    words, state = command(tmp_path, corpus, small_recipe(steps=4)), tmp_path / "out" / "training.pt"
    assert bare.main(words) == 0
    earlier = torch.load(state, weights_only=True)
    del earlier["identity"]["recipe"]["keep_best"]
    torch.save(earlier, state)
    assert bare.main(words) == 0
    capsys.readouterr()
    for damaged in (state.read_bytes()[:-100], b"", b"no state"):
        state.write_bytes(damaged)
        assert bare.main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"Error: file://{state} is damaged") and said.count("\n") == 1
        assert state.read_bytes() == damaged


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--device", "tpu9"], "no device named 'tpu9'"),
        (["--device", "cuda:99"], "no device named 'cuda:99'"),
        (["--readers", "0"], "--readers is 0"),
    ],
)
def test_a_device_or_a_number_that_there_is_not_is_answered(
    words: list[str], answer: str, corpus: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one paragraph, before anything is written."""
    assert bare.main(["gru_smoke", "--corpus", corpus.address, "--out", str(tmp_path / "out"), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and answer in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_recipe_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever its bytes are."""
    (tmp_path / "recipe.json").write_bytes(b"\xff\xfe")
    assert bare.main([str(tmp_path / "recipe.json"), "--corpus", "x", "--out", str(tmp_path / "out")]) == 2
    assert "is not a valid Recipe" in capsys.readouterr().err


def test_keeping_the_best_is_refused_here(
    corpus: Built, small_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe that releases its best step would silently give other weights than `unmuffle train`."""
    assert bare.main(command(tmp_path, corpus, small_recipe(keep_best=KeepBest(release=True)))) == 2
    assert "keep_best" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_signal_asks_for_a_stop_and_its_handler_is_put_back() -> None:
    """SIGTERM, as an operator or a queue sends it."""
    stop, before = bare.Stop(), signal.getsignal(signal.SIGTERM)
    with stop.heard():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
    assert signal.getsignal(signal.SIGTERM) is before
