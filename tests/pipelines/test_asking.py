"""Commands that ask for a run: their options are the fields of a request, with its words, bounds and defaults."""

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipelines.commands.asking import asking
from pipelines.request import Request


def typed(*words: str, without: tuple[str, ...] = ()) -> tuple[Any, list[Any]]:
    """What a command is given that has an option of its own, and how typing these words ended."""
    given: list[Any] = []
    app = typer.Typer()

    @app.command()
    @asking(*without)
    def ask(request: Request, store: str = "here") -> None:
        """Ask."""
        given.extend((request, store))

    return CliRunner().invoke(app, list(words)), given


def test_nothing_typed_is_the_default_request() -> None:
    """Of the fields, and of the command's own option."""
    outcome, given = typed()
    assert (outcome.exit_code, given) == (0, [Request(), "here"])


def test_every_field_can_be_typed() -> None:
    """Several recipes with commas, blanks among them."""
    changes: dict[str, Any] = {
        "scenario": "s", "recipes": ("a", "b"), "distil": "a:c", "gate_corpus": "g", "use": "u", "policy": "p",
        "hours": 1.5, "seed": 3, "again": 2,
    }  # fmt: skip
    assert set(changes) == set(Request.model_fields)
    values = {name: "a, b" if name == "recipes" else str(value) for name, value in changes.items()}
    words = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", value)]
    outcome, given = typed(*words, "--store", "there")
    assert (outcome.exit_code, given) == (0, [Request(**changes), "there"])


@pytest.mark.parametrize("field", ["hours", "seed", "again"])
def test_less_than_nothing_is_refused(field: str) -> None:
    """By the option, in its own name."""
    outcome, given = typed(f"--{field}", "-1")
    assert (outcome.exit_code, given) == (2, [])
    assert f"--{field}" in outcome.output


def test_a_field_can_be_left_to_the_command() -> None:
    """`run --again` is a flag of its own; there, the field keeps its default."""
    outcome, given = typed("--again", "1", without=("again",))
    assert (outcome.exit_code, given) == (2, [])
    assert typed(without=("again",))[1][0] == Request()
