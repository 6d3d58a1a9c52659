"""The stage that scores: each attempt writes to a place of its own, and a superseded one reports nothing."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components import evaluate, stage
from components.specs import EvaluateSpec, Input
from simulation import storage
from simulation.errors import Superseded
from training.metrics import METRICS

SPEC = EvaluateSpec(
    models=(), corpus=Input(address="file:///gate", sha256="a" * 64), use="denoise-16k", metric_versions={}
)


class Mlflow:
    """Stands for tracking: notes what it is told."""

    told: list[str]

    def run(self, *arguments: Any) -> str:
        """A run of the stage."""
        return "run"

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.told.append(name)  # None: there is no champion


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store in which the stage runs without Ray, MLflow, corpus or networks; its scorecard is a few bytes."""

    def scored(systems: dict, corpus: Any, out: str, **options: Any) -> Any:
        for name in ("scorecard.json", "report.html"):
            storage.replace(storage.join(out, name), out.encode())
        meanwhile.pop()() if meanwhile else None
        return SimpleNamespace(digest=lambda: "b" * 64, headline=dict)

    monkeypatch.setattr("training.evaluate.evaluate", scored)
    monkeypatch.setattr("training.tracking.Tracking", Mlflow)
    monkeypatch.setattr("simulation.cluster.cluster", nullcontext)
    monkeypatch.setattr(evaluate, "Corpus", SimpleNamespace(open=lambda *arguments: None))
    Mlflow.told = []
    return storage.normal(str(tmp_path))


meanwhile: list[Any] = []
"""What happens once while the stage scores."""


def test_a_lost_attempt_leaves_the_scores_of_its_successor_alone(store: str) -> None:
    """It comes back when the newer one has finished: the result still names the newer one's files, unchanged."""
    address = stage.write_spec(store, SPEC)
    newer: list[stage.Result] = []
    meanwhile.append(lambda: newer.append(stage.run("evaluate", address)))
    with pytest.raises(Superseded):
        stage.run("evaluate", address)
    scorecard = Input.of(newer[0].outputs["scorecard"]).address
    assert scorecard.endswith("/scores/2/scorecard.json")
    assert storage.read(scorecard).decode().endswith("/scores/2")
    assert Mlflow.told.count("metrics") == 1


def test_the_key_follows_the_versions_of_the_metrics(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of a scorecard's stage says which definitions it scores by."""
    asked: list[EvaluateSpec] = []

    def launched(spec: EvaluateSpec, store: str) -> Any:
        asked.append(spec)
        return SimpleNamespace(outputs={"scorecard": f"file:///card#{'c' * 64}"})

    monkeypatch.setattr(evaluate, "launch", launched)
    evaluate.scored((), SPEC.corpus, SPEC.use, store)
    monkeypatch.setitem(METRICS, "pesq", replace(METRICS["pesq"], version=METRICS["pesq"].version + 1))
    evaluate.scored((), SPEC.corpus, SPEC.use, store)
    assert asked[0].key() != asked[1].key()
