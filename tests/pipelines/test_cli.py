"""The command: bad input is answered in one paragraph with exit code 2; tables are also JSON."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipelines.cli import app
from simulation.home import Home


def ask(*words: str) -> Result:
    """Type a command."""
    return CliRunner().invoke(app, list(words))


BAD_INPUT = {
    "an unknown scenario": (("simulate", "smaple"), "Did you mean 'sample'"),
    "an unknown scenario of a run": (("run", "--scenario", "smaple"), "Did you mean 'sample'"),
    "an unknown recipe": (("run", "--recipes", "dm_smoke,gru"), "Known: dm, dm_smoke, gru_smoke"),
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


@pytest.mark.parametrize("name", ["recipes", "scenarios", "metrics", "models", "status", "doctor"])
def test_every_table_is_also_json(name: str, home: Home) -> None:
    """Machines read what people look at."""
    assert isinstance(json.loads(ask(name, "--json").stdout), list | dict)
    assert ask(name).exit_code in (0, 2)


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
