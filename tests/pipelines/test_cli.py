"""The command: bad input is answered in one paragraph with exit code 2; tables are also JSON."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from components.compute import Compute
from components.specs import Input
from components.stage import Result as StageResult
from pipelines.answer import Answer, line, stacked
from pipelines.cli import app
from pipelines.commands import options, telling
from pipelines.summary import training_outcome, trials
from simulation.errors import BadSetting
from simulation.home import Home
from simulation.scenarios.sample import sample
from training import cookbook
from training.models.presets import PRESETS


def ask(*words: str) -> Result:
    """Type a command."""
    return CliRunner().invoke(app, list(words))


BAD_INPUT = {
    "an unknown scenario": (("simulate", "smaple"), "Did you mean 'sample'"),
    "an unknown scenario of a run": (("run", "--scenario", "smaple"), "Did you mean 'sample'"),
    "an unknown recipe": (("run", "--recipes", "dm_smoke,gru"), "There is no recipe named 'gru'"),
    "a gate corpus that does not exist": (("run", "--gate-corpus", f"nowhere#{'a' * 64}"), "unmuffle simulate"),
    "a document that does not exist": (("simulate", "mine.json"), "Nothing lies at"),
    "no recipe": (("run", "--recipes", ","), "unmuffle recipes"),
    "an unknown use": (("run", "--use", "karaoke"), "denoise-16k"),
    "an unknown model": (("enhance", "x.wav", "--out", "out", "--model", "dm/7"), "dm/7"),
    "a model where nothing was promoted": (("enhance", "x.wav", "--out", "out"), "unmuffle run"),
    "a corpus that does not exist": (("corpus", "show", "nowhere/at/all"), "unmuffle simulate"),
    "a corpus to verify that does not exist": (("corpus", "verify", "nowhere"), "unmuffle simulate"),
    "a corpus to train on that does not exist": (("train", "gru_smoke", "--corpus", "nowhere"), "unmuffle simulate"),
    "an address of another kind": (("corpus", "show", "ftp://host/x"), "s3://"),
    "a stage that does not exist": (("stage", "trian", "--spec", "x"), "Did you mean 'train'"),
    "a spec that does not exist": (("stage", "train", "--spec", "nowhere.json"), "nowhere.json"),
    "neither corpus nor pairs": (("evaluate", "dm/1", "--out", "x"), "--pairs"),
    "pairs that do not exist": (("evaluate", "dm/1", "--pairs", "nowhere", "--out", "x"), "nowhere"),
    "sources that do not exist": (("simulate", "sample", "--speech", "nowhere"), "nowhere"),
    "an image without digest": (("pipeline", "compile", "--out", "x.yaml", "--image", "a:b"), "REF@sha256"),
    "nothing to roll back to": (("rollback",), "previous champion"),
}


@pytest.mark.parametrize("words, answer", BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_answered(
    words: tuple[str, ...], answer: str, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, one paragraph that says what to type, no traceback, nothing half-written where people look."""
    monkeypatch.chdir(tmp_path)
    result = ask(*words)
    said = " ".join(result.stderr.split())
    assert result.exit_code == 2, result.output
    assert answer in said
    assert "Traceback" not in result.output
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == []


BAD_SEARCHES = {
    "an unknown recipe": (("gru_smok",), "Did you mean 'gru_smoke'"),
    "a misspelt field": (("gru_smoke", "--over", "learning_rat=1..2"), "Did you mean 'learning_rate'"),
    "ends in the wrong order": (("gru_smoke", "--over", "learning_rate=5..1"), "low 5.0 is above high 1.0"),
    "nothing to choose from": (("gru_smoke", "--over", "learning_rate"), None),
    "a figure that is never measured": (("gru_smoke", "--metric", "pesq"), "valid/si_sdr_gain_db"),
    "a store of another kind": (("gru_smoke", "--store", "ftp://x"), "s3://"),
    "no trial": (("gru_smoke", "--trials", "0"), "greater than or equal to 1"),
    "a document that is none": (("bad.json",), "bad.json is not a valid Recipe"),
}


@pytest.mark.parametrize("words, answer", BAD_SEARCHES.values(), ids=BAD_SEARCHES.keys())
def test_a_search_that_cannot_be_is_answered_before_ray_starts(
    words: tuple[str, ...], answer: str | None, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found and what was expected; a name alone takes what the recipe declares, so that one goes on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    monkeypatch.setattr("pipelines.commands.recipe.corpus_input", lambda corpus: Input(address="x", sha256="a" * 64))
    launched = []
    monkeypatch.setattr("components.tune.launch", lambda spec, store: launched.append(spec) or sys.exit(3))
    result = ask("tune", *words, "--corpus", "x")
    said = " ".join(result.stderr.replace("│", "").split())
    assert result.exit_code == (3 if answer is None else 2), result.output
    assert (answer or "") in said and "Traceback" not in result.output
    assert len(launched) == (answer is None)


def test_the_first_word_comes_before_anything_heavy(tmp_path: Path) -> None:
    """Torch, KFP, MLflow and Ray take seconds to import: whoever typed a command knows before that it was heard."""
    code = (
        "import sys, typer; from pipelines.commands import telling; heard = []\n"
        "heavy = lambda: [name for name in ('torch', 'ray', 'kfp', 'mlflow') if name in sys.modules]\n"
        "typer.echo = lambda line, err=False: (print(line, heavy()), sys.stdout.flush(), sys.exit(0))\n"
        "from pipelines.cli import app; app()"
    )
    environment = os.environ | {"UNMUFFLE_HOME": str(tmp_path)}
    for words in (("run",), ("train", "gru_smoke", "--corpus", "x"), ("tune", "gru_smoke", "--corpus", "x")):
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.stdout.startswith(f"{words[0]}") and done.stdout.endswith(" []\n"), done.stdout + done.stderr


@pytest.mark.parametrize("given", ["name", "address"])
def test_workers_asked_for_count_whatever_the_profile_says(
    given: str, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a recipe with a profile of its own, whose other settings stay; it goes by the recipe's name."""
    monkeypatch.setenv(
        "UNMUFFLE_COMPUTE", '{"workers": 2, "training": {}, "recipes": {"gru_smoke": {"resize_every_s": 7}}}'
    )
    monkeypatch.setattr("pipelines.commands.recipe.corpus_input", lambda corpus: Input(address="x", sha256="a" * 64))
    monkeypatch.setattr("components.train.launch", lambda spec, store: sys.exit(3))
    document = tmp_path / "recipe.json"
    document.write_bytes(cookbook.recipe("gru_smoke").canonical())
    words = "gru_smoke" if given == "name" else str(document)
    assert ask("train", words, "--corpus", "x", "--workers", "3").exit_code == 3
    profile = Compute.current().training_of("gru_smoke")
    assert (profile.workers, profile.cpus_per_worker, profile.resize_every_s) == (3, 1, 7)


def test_training_ends_with_where_everything_is(home: Home) -> None:
    """The version's name and address, the checkpoints, the MLflow run, what to type next; machines get the same."""
    outputs = {"version": "file:///v#d", "name": "gru_mask/3", "run_id": "abc"}
    result = StageResult(stage="train", key="k" * 64, spec_digest="", attempt=1, seconds=1.0, outputs=outputs)
    answer = training_outcome(result, "file:///store", "CORPUS")
    console = Console(file=io.StringIO(), width=40)
    console.print(answer, crop=False)
    name, version, *rest = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert (name, version) == ("gru_mask/3", "file:///v#d")
    for one in (f"/store/runs/{'k' * 64}", f"abc at {home.tracking_uri}", "evaluate gru_mask/3 --corpus CORPUS"):
        assert one in "\n".join(rest)
    assert answer.data["checkpoints"] == f"file:///store/runs/{'k' * 64}" and answer.data["run_id"] == "abc"


def test_a_search_ends_with_its_trials_and_the_command_that_trains_the_best() -> None:
    """Best first; what a trial failed of stands in its row."""
    rows = [
        {
            "trial": 2,
            "values": {"learning_rate": 0.00123},
            "state": "finished",
            "step": 9,
            "figures": {"m": 4.5},
            "reason": "",
        },
        {"trial": 0, "values": {"learning_rate": 5.0}, "state": "failed", "step": 0, "figures": {}, "reason": "no way"},
    ]
    answer = trials({"recipe": "file:///best.json", "metric": "m", "trials": rows, "best": 2}, "CORPUS")
    console = Console(file=io.StringIO(), width=100)
    console.print(answer, crop=False)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.index("0.00123") < said.index("failed after step 0: no way")
    assert "4.5" in said and "unmuffle train /best.json --corpus CORPUS" in said
    assert answer.data["best"] == 2


@pytest.fixture(scope="module")
def lasting_home(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for several tests, since MLflow takes seconds to make its tables."""
    return str(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("name", ["recipes", "scenarios", "metrics", "models", "status", "doctor"])
def test_every_table_is_also_json(name: str, lasting_home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines read what people look at; of the networks one stands for all, as counting them takes a second each."""
    monkeypatch.setenv("UNMUFFLE_HOME", lasting_home)
    monkeypatch.setattr("training.models.presets.PRESETS", {"gru_mask": PRESETS["gru_mask"]})
    assert isinstance(json.loads(ask(name, "--json").stdout), list | dict)
    assert ask(name).exit_code in (0, 2)


def test_a_recipe_can_be_printed_to_be_filled_in(home: Home) -> None:
    """As JSON that `train` takes; by its name it is refused with this very command, as its addresses are open."""
    from components.train import named_recipe
    from training.cookbook import recipe
    from training.recipe import Recipe

    printed = ask("recipes", "rad_net2_repairing").stdout
    assert Recipe.parse(printed, "what was printed") == recipe("rad_net2_repairing")
    with pytest.raises(BadSetting, match="unmuffle recipes rad_net2_repairing > "):
        named_recipe("rad_net2_repairing")


def test_every_recipe_says_what_it_is(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is another with some arguments given says what that one says."""
    monkeypatch.setenv("COLUMNS", "400")
    printed = ask("recipes").stdout
    assert "Reading A of DM with something taken away" in printed and "partial(" not in printed


def test_every_command_has_a_help_text_of_its_own() -> None:
    """A command that nobody explains does not exist."""
    commands = [command for command in app.registered_commands]
    assert all((command.callback.__doc__ or "").strip() for command in commands if command.callback)
    assert ask("--help").exit_code == 0


def test_an_interrupted_command_says_one_line(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is no fault: no traceback, the shell's exit code, and how to go on."""

    def interrupt(*words: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("components.simulate.simulated", interrupt)
    result = ask("simulate", "sample")
    assert result.exit_code == 130
    assert result.stderr == "Interrupted. What was finished is kept: type the same command again to go on.\n"


def test_what_people_copy_is_never_broken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths and digests stay on one line in a narrow terminal."""
    monkeypatch.setenv("COLUMNS", "40")
    digest = "0123456789abcdef" * 4
    telling.tell(Answer(None, stacked(line(f"train {digest}"))), as_json=False)
    assert capsys.readouterr().out == f"train {digest}\n"


def test_a_corpus_is_shown_with_the_digest_that_simulate_printed(
    home: Home, tmp_path: Path, ray_cluster: object
) -> None:
    """The root's as well as those of its splits, in full; a smaller corpus is still found by it."""
    document = sample().model_dump(mode="json") | {"rows_per_shard": 2, "rooms": None}
    document |= {"size": {"train_hours": 0.001, "valid_rows": 1, "test_rows": 1}, "cases": document["cases"][:1]}
    (tmp_path / "mine.json").write_text(json.dumps(document))
    address, digest = ask("simulate", str(tmp_path / "mine.json")).stdout.split()
    facts = json.loads(ask("corpus", "show", address, "--json").stdout)
    shown = ask("corpus", "show", address).stdout
    assert facts["digest"] == digest
    assert all(one in shown for one in [address, digest, *(split["digest"] for split in facts["splits"])])
    ask("simulate", str(tmp_path / "mine.json"), "--hours", "0.004")
    assert options.corpus_input(f"{address}#{digest}").sha256 == digest != options.corpus_input(address).sha256
