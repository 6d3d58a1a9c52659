"""Stages: answered from their result, owned by their newest attempt, never half done."""

import types
from pathlib import Path
from typing import Any

import pytest

from components import stage
from components.specs import Input, TrainSpec
from simulation import storage
from simulation.errors import BadSetting, NotThere, Superseded, UnknownName, UnmuffleError

SPEC = TrainSpec(recipe={"name": "r"}, corpus=Input(address="file:///a", sha256="a" * 64), parent="run")


class Worker:
    """Stands for a stage's function: counts its calls, and does what a test tells it to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[stage.Stage] = []
        self.then: Any = lambda one: None
        module = types.SimpleNamespace(run=self.run)
        monkeypatch.setattr(stage, "import_module", lambda name: module)

    def run(self, spec: TrainSpec, one: stage.Stage) -> dict[str, Any]:
        """The function of the stage."""
        self.calls.append(one)
        self.then(one)
        return {"answer": len(self.calls)}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """In place of the training stage."""
    return Worker(monkeypatch)


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both kinds of store."""
    if request.param == "folder":
        return storage.normal(str(tmp_path / "store"))
    return storage.join(str(request.getfixturevalue("s3_store")), "prefix")


def test_an_equal_spec_is_answered_from_its_result(worker: Worker, store: str) -> None:
    """The second time nothing is done, and the answer is the same."""
    first = stage.run("train", stage.write_spec(store, SPEC))
    second = stage.run("train", stage.write_spec(store, SPEC.model_copy(update={"parent": "another"})))
    assert first == second
    assert len(worker.calls) == 1


def test_again_does_the_work_once_more(worker: Worker, store: str) -> None:
    """A raised `again` is another key."""
    stage.run("train", stage.write_spec(store, SPEC))
    stage.run("train", stage.write_spec(store, SPEC.model_copy(update={"again": 1})))
    assert len(worker.calls) == 2


def test_a_failed_stage_leaves_no_result_and_its_message(worker: Worker, store: str) -> None:
    """The next run tries again as the next attempt, and the pipeline can tell what went wrong."""

    def fail(one: stage.Stage) -> None:
        raise UnmuffleError("the disk is full; type df")

    worker.then = fail
    address = stage.write_spec(store, SPEC)
    with pytest.raises(UnmuffleError, match="disk is full"):
        stage.run("train", address)
    assert stage.result_of(store, SPEC) is None
    assert b"type df" in storage.read(stage.error_address(store, "run"))
    worker.then = lambda one: None
    assert stage.run("train", address).attempt == 2


def test_a_superseded_attempt_commits_nothing(worker: Worker, store: str) -> None:
    """A lost worker that comes back after its successor was started must not write the result."""
    address = stage.write_spec(store, SPEC)

    def lose(one: stage.Stage) -> None:
        worker.then = lambda later: None
        newer = storage.join(one.folder, "attempts", f"{one.attempt + 1:06d}.json")
        assert storage.create(newer, b"{}")

    worker.then = lose
    with pytest.raises(Superseded, match="replaced by attempt 2"):
        stage.run("train", address)
    assert stage.result_of(store, SPEC) is None


def test_two_claims_get_two_attempts(worker: Worker, store: str) -> None:
    """Two launchers at once: each owns a number of its own, and only the higher one may commit."""
    stage.write_spec(store, SPEC)
    first, second = stage._claim(SPEC, store), stage._claim(SPEC, store)
    assert (first.attempt, second.attempt) == (1, 2)
    second.check()
    with pytest.raises(Superseded):
        first.check()


def test_a_stage_that_does_not_exist_is_named(store: str) -> None:
    """With those that do."""
    with pytest.raises(UnknownName, match="simulate"):
        stage.run("trian", storage.join(store, "x"))


def test_a_spec_elsewhere_or_absent_is_refused(tmp_path: Path) -> None:
    """A stage finds its store by the place of its spec."""
    with pytest.raises(NotThere):
        stage.run("train", str(tmp_path / "spec.json"))
    (tmp_path / "spec.json").write_bytes(SPEC.canonical())
    with pytest.raises(BadSetting, match="expected <store>/stages/train"):
        stage.run("train", str(tmp_path / "spec.json"))
