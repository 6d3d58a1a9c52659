"""What a training run leaves in MLflow, where MLflow or the store is not there."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from simulation.errors import StorageError
from training.ledger import Cost
from training.recipe import Recipe
from training.record import RunRecord, patiently
from training.registry import Version
from training.tracking import Tracking
from training.tracking.connection import Unreachable

VERSION = Version("denoise-16k", "1", "dm", "s3://bucket/version", "0" * 64, "run")


class Told(Tracking):
    """Stands for MLflow: keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[dict[str, float], int]] = []

    def metrics(self, run_id: str, values: Mapping[str, float], step: int) -> None:
        """Numbers of the run."""
        self.rows.append((dict(values), step))

    def artifact(self, run_id: str, content: Path | bytes, name: str) -> None:
        """A file of the run."""
        raise AssertionError("there is nothing to keep")


def asked(answers: list[Any]) -> Callable[[], Version]:
    """A registry that gives these answers in turn."""

    def ask() -> Version:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def test_a_version_waits_for_a_registry_that_is_away() -> None:
    """An outage at the end of a run costs it seconds, not its stage."""
    assert patiently(asked([Unreachable("away"), Unreachable("away"), VERSION]), every_s=0.01) is VERSION


def test_a_registry_that_stays_away_is_given_up() -> None:
    """The stage fails, with what MLflow's error says to type."""
    answers = [Unreachable("away")] * 1000
    with pytest.raises(Unreachable, match="away"):
        patiently(asked(answers), patience_s=0.1, every_s=0.02)
    assert 990 < len(answers) < 1000


def test_a_store_that_cannot_be_read_costs_samples_and_cost_not_the_run(
    tmp_path: Path, small_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures of the step still arrive."""

    def away(*_: object) -> None:
        raise StorageError("no answer")

    told = Told()
    record = RunRecord(told, "run", f"file://{tmp_path}/run", small_recipe())
    monkeypatch.setattr("training.record.kept_samples", away)
    monkeypatch.setattr("training.record.spent", away)
    record.row({"valid/loss": 1.0}, 5)
    assert told.rows == [({"valid/loss": 1.0}, 5)]
    assert record.cost() == Cost()
