"""The documents: their examples run, and nothing they promise is missing."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation.degradations.base import Mixture

ROOT = Path(__file__).parent.parent


def example(title: str) -> dict[str, Any]:
    """What the Python block below a heading of CONTRIBUTING.md defines."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    source = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert source is not None
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(source[1], f"CONTRIBUTING.md: {title}", "exec"), names)
    return names


def test_the_example_of_a_degradation_swings() -> None:
    """A newcomer's first file does what its docstring says: told 6 dB, a tone is 6 dB quieter at its quietest."""
    tremolo = example("A degradation")["Tremolo"](depth_db=6.0, rate_hz=4.0)
    tone = np.sin(np.arange(16000) / 10).astype(np.float32)
    swung = tremolo.apply(Mixture(tone, tone, 16000), None).noisy
    levels = [np.abs(swung[start : start + 100]).max() for start in range(0, 15900, 50)]
    assert 20 * np.log10(min(levels) / max(levels)) == pytest.approx(-6.0, abs=0.1)


def test_the_example_of_a_metric_measures() -> None:
    """Noise of a tenth of the amplitude is 20 dB down."""
    rng = np.random.default_rng(0)
    clean, noise = rng.standard_normal((2, 16000)) * 0.1
    noise *= 0.1 * np.linalg.norm(clean) / np.linalg.norm(noise)
    assert example("A metric")["SNR"].score(clean, clean + noise, 16000) == pytest.approx(20.0, abs=1e-6)


@pytest.mark.parametrize("path", ["simulation/degradations", "training/models", "training/metrics"])
def test_the_lines_that_contributing_changes_stand_in_the_code(path: str) -> None:
    """A diff that no longer applies would send newcomers astray."""
    removed = re.findall(r"^-(.+)$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    text = (ROOT / path / "__init__.py").read_text()
    assert any(line in text for line in removed)


def test_every_word_of_a_command_is_explained_somewhere() -> None:
    """A command that the README never mentions does not exist for a new user."""
    from pipelines.cli import app, corpus_app, pipeline_app

    text = (ROOT / "README.md").read_text()
    callbacks = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    missing = [name for name in callbacks if f"unmuffle {name}" not in text]
    for group, inner in (("corpus", corpus_app), ("pipeline", pipeline_app)):
        names = [command.name or command.callback.__name__ for command in inner.registered_commands if command.callback]
        missing += [f"{group} {name}" for name in names if f"unmuffle {group} {name}" not in text]
    assert missing == []


def commands(path: Path) -> list[str]:
    """What a document lets people type, without what follows a pipe or goes into a file."""
    lines = re.findall(r"^\s*\$ (?:[A-Z_]+=\S+ )*(unmuffle .*)$", path.read_text(), re.MULTILINE)
    return [re.split(r" [|>#] ?", line.split("  ")[0])[0] for line in lines]


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_every_command_that_a_document_shows_is_one_that_there_is(name: str) -> None:
    """With its options, as the parser knows them; nothing of it is run."""
    import typer

    from pipelines.cli import app

    for line in commands(ROOT / name):
        command, words = typer.main.get_command(app), shlex.split(line)[1:]
        try:
            while True:
                context = command.make_context(command.name, list(words))
                rest = [*context._protected_args, *context.args]
                if not hasattr(command, "commands") or not rest:
                    break
                _, command, words = command.resolve_command(context, rest)
        except typer.Exit:
            pass  # --help
        except Exception as error:
            pytest.fail(f"{name}: {line}: {error.format_message() if hasattr(error, 'format_message') else error}")
