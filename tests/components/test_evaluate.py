"""The stage that scores: each attempt writes to a place of its own, and a superseded one reports nothing."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import training.evaluate
from components import evaluate, stage
from components.specs import EvaluateSpec, Input
from serving.policy import Limit, policy_for
from simulation import storage
from simulation.errors import Superseded
from training.metrics import METRICS, STANDARD

SPEC = EvaluateSpec(
    models=(), corpus=Input(address="file:///gate", sha256="a" * 64), use="denoise-16k", metric_versions={}
)


class Mlflow:
    """Stands for tracking: notes what it is told."""

    told: list[str]
    champion: SimpleNamespace | None
    registered: tuple[SimpleNamespace, ...]

    def alias(self, use: str, alias: str) -> SimpleNamespace | None:
        """The champion, if there is one."""
        return self.champion

    def versions(self, use: str) -> tuple[SimpleNamespace, ...]:
        """Everything registered, oldest first."""
        return self.registered

    def run(self, *arguments: Any) -> str:
        """A run of the stage."""
        return "run"

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.told.append(name)


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
    monkeypatch.setattr(evaluate, "open_corpus", lambda *arguments: None)
    Mlflow.told, Mlflow.champion, Mlflow.registered = [], None, ()
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


@pytest.fixture
def asked(store: str, monkeypatch: pytest.MonkeyPatch) -> list[EvaluateSpec]:
    """The specs of the stages that were asked for; none of them is run."""
    specs: list[EvaluateSpec] = []

    def launched(spec: EvaluateSpec, store: str) -> Any:
        specs.append(spec)
        return SimpleNamespace(outputs={"scorecard": f"file:///card#{'c' * 64}"})

    monkeypatch.setattr(evaluate, "launch", launched)
    return specs


def version(network: str, number: int) -> SimpleNamespace:
    """A registered one."""
    return SimpleNamespace(network=network, address=f"file:///{network}{number}", weights_sha256=f"{number}" * 64)


def given(one: SimpleNamespace) -> Input:
    """The same as a step hands it over."""
    return Input(address=one.address, sha256=one.weights_sha256)


def test_the_key_follows_the_versions_of_the_metrics(
    asked: list[EvaluateSpec], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked of a scorecard's stage says which definitions it scores by."""
    evaluate.scored((), SPEC.corpus, SPEC.use, store)
    monkeypatch.setitem(METRICS, "pesq", replace(METRICS["pesq"], version=METRICS["pesq"].version + 1))
    evaluate.scored((), SPEC.corpus, SPEC.use, store)
    assert asked[0].key() != asked[1].key()


def test_the_key_follows_the_weights_that_a_metric_asks(
    asked: list[EvaluateSpec], store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file behind the same variable gives other scores."""
    policy = policy_for(SPEC.use).model_copy(update={"metric": "utmos"})
    (tmp_path / "own.json").write_bytes(policy.canonical())
    monkeypatch.setenv("UNMUFFLE_UTMOS", str(tmp_path / "utmos.pt"))
    for content in (b"one", b"another"):
        (tmp_path / "utmos.pt").write_bytes(content)
        evaluate.scored((), SPEC.corpus, SPEC.use, store, policy=str(tmp_path / "own.json"))
    assert set(asked[0].metric_weights) == {"utmos"}
    assert asked[0].key() != asked[1].key()


def test_what_the_policy_asks_for_is_scored_beside_the_standard_metrics(
    asked: list[EvaluateSpec], store: str, tmp_path: Path
) -> None:
    """The gate would take a metric that nobody scored for a no."""
    limits = (Limit(metric="loudness_error", highest=3.0),)
    policy = policy_for(SPEC.use).model_copy(update={"metric": "cbak", "limits": limits})
    (tmp_path / "own.json").write_bytes(policy.canonical())
    evaluate.scored((), SPEC.corpus, SPEC.use, store, policy=str(tmp_path / "own.json"))
    assert {*STANDARD, "cbak", "loudness_error"} <= set(asked[0].metric_versions)
    assert asked[0].harmless > 0


def test_the_page_compares_with_a_champion_that_is_no_candidate(asked: list[EvaluateSpec], store: str) -> None:
    """Another champion makes another page; the winner of a run, promoted since, answers the run that is repeated."""
    new, old = version("dm", 2), version("dm", 1)
    evaluate.scored((given(new),), SPEC.corpus, SPEC.use, store)
    Mlflow.champion = new
    evaluate.scored((given(new),), SPEC.corpus, SPEC.use, store)
    Mlflow.champion = old
    evaluate.scored((given(new),), SPEC.corpus, SPEC.use, store)
    assert [spec.champion for spec in asked] == [None, None, given(old)]
    assert asked[0].key() == asked[1].key() != asked[2].key()
    assert set(asked[2].models) == {given(new), given(old)}


def test_the_newest_recurrent_mask_is_scored_beside_models_that_are_none(asked: list[EvaluateSpec], store: str) -> None:
    """It is a row of every scorecard; where one of the models is such a mask, that is the row."""
    Mlflow.registered = (version("gru_mask", 1), version("dm", 2), version("gru_mask", 3))
    evaluate.scored((given(version("dm", 2)),), SPEC.corpus, SPEC.use, store)
    evaluate.scored((given(version("gru_mask", 1)),), SPEC.corpus, SPEC.use, store)
    assert set(asked[0].models) == {given(version("dm", 2)), given(version("gru_mask", 3))}
    assert asked[1].models == (given(version("gru_mask", 1)),)


def test_the_stage_scores_what_its_spec_says(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics in the order of the table, the champion by its name, the do-no-harm rows, and a cache in the store."""
    heard: dict[str, Any] = {}
    scored = training.evaluate.evaluate
    monkeypatch.setattr(
        "training.evaluate.evaluate", lambda *systems, **options: heard.update(options) or scored(*systems, **options)
    )
    monkeypatch.setattr(
        "components.record.version_at", lambda tracking, use, address: SimpleNamespace(name=address[-3:])
    )
    champion = given(version("dm", 1))
    spec = SPEC.model_copy(
        update={
            "models": (champion,), "champion": champion, "harmless": 2,
            "metric_versions": {"stoi": 1, "pesq": 1, "si_sdr": 1},
        }
    )  # fmt: skip
    stage.run("evaluate", stage.write_spec(store, spec))
    assert heard["metrics"] == ["si_sdr", "pesq", "stoi"]
    assert (heard["champion"], heard["harmless"]) == ("dm1", 2)
    assert heard["cache"].startswith(store)
