"""The simulate stage: what it leaves behind beside the corpus."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from components.simulate import chosen, run, spec_of
from components.stage import Stage
from simulation.build import render_shard
from simulation.card import CardFacts
from simulation.draw import Plan
from simulation.home import Home
from simulation.render import Library
from simulation.shards import commit


class Recorder:
    """Stands for MLflow: keeps what it is told."""

    def __init__(self) -> None:
        self.artifacts: dict[str, bytes] = {}
        self.datasets: list[str] = []

    def artifact(self, run_id: str, content: bytes, name: str) -> None:
        """An artifact of the run."""
        self.artifacts[name] = content

    def dataset(self, run_id: str, address: str, digest: str, context: str) -> None:
        """The corpus of the run."""
        self.datasets.append(digest)

    def params(self, run_id: str, values: Any) -> None:
        """Of no interest here."""


@contextmanager
def recorded(*_: Any) -> Iterator[str]:
    """A run."""
    yield "run"


def test_the_stage_logs_the_measured_card(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page and its numbers are artifacts of the stage's run, of the very corpus that it answers with."""

    def rendered(plan: Plan, root: str, missing: list, workers: int) -> Iterator[tuple]:
        library = Library(plan.sources, plan.scenario, plan.seed)
        for split, number in missing:
            yield split, number, commit(f"{root}/{split}", *render_shard(plan, split, number, library))

    recorder = Recorder()
    monkeypatch.setattr("simulation.build._rendered", rendered)
    monkeypatch.setattr("simulation.cluster.cluster", nullcontext)
    monkeypatch.setattr("components.record.recorded", recorded)
    monkeypatch.setattr("training.tracking.Tracking", lambda: recorder)
    scenario = chosen("sample").model_dump() | {"rows_per_shard": 1, "rooms": None}
    scenario["size"] = {"train_hours": 1e-6, "valid_rows": 1, "test_rows": 1}
    scenario["cases"] = [case for case in scenario["cases"] if case["name"] == "noise"]
    spec = spec_of(chosen("sample").model_validate(scenario))
    outputs = run(spec, Stage(name="simulate", key=spec.key(), store=str(tmp_path / "store"), attempt=1))
    address, digest = outputs["corpus"].split("#")
    facts = CardFacts.parse(recorder.artifacts["card.json"], "card.json")
    assert (facts.address, facts.corpus_digest, facts.rows) == (address, digest, 3)
    assert recorder.datasets == [digest]
    assert recorder.artifacts["card.html"].startswith(b"<!doctype html>")
