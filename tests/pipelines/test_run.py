"""A run of the pipeline: what identifies it, what a person sees of it, how it fails."""

import io
from pathlib import Path

import pytest

from components import stage
from components.compute import MARK
from pipelines import run
from pipelines.request import Request
from pipelines.run import run_here
from serving.policy import POLICIES
from simulation import storage
from simulation.errors import StorageError, UnknownName, UnmuffleError
from simulation.home import Home
from simulation.scenarios.sample import sample
from training.cookbook import gru_smoke

REQUEST = Request(scenario="sample", recipes=("gru_smoke",), use="denoise-16k")


def test_the_same_request_has_the_same_key_and_another_one_has_not() -> None:
    """Asking twice continues one MLflow run; asking for something else begins another."""
    changes = (
        {"seed": 1},
        {"hours": 1.0},
        {"again": 1},
        {"recipes": ("dm_smoke",)},
        {"gate_corpus": "a#b"},
        {"policy": "quality"},
    )
    keys = {REQUEST.model_copy(update=change).key() for change in changes}
    assert REQUEST.key() == REQUEST.model_copy().key()
    assert len(keys | {REQUEST.key()}) == len(changes) + 1


def test_again_is_the_first_try_that_was_not_finished(tmp_path: Path) -> None:
    """A killed --again is continued by the next one; a finished one is followed by another."""
    store = storage.normal(str(tmp_path))
    assert run._next(REQUEST, store).again == 1
    for tries in range(2):
        storage.replace(run._finished(store, REQUEST.model_copy(update={"again": tries}).key()), b"")
    assert run._next(REQUEST, store).again == 2


def test_documents_are_named_in_full_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is that of the document, from whatever folder it was named; tasks run in another one."""
    monkeypatch.chdir(tmp_path)
    Path("mine.json").write_bytes(sample().canonical())
    Path("gru.json").write_bytes(gru_smoke().canonical())
    Path("strict.json").write_bytes(POLICIES["quality"].canonical())
    asked = {"scenario": "mine.json", "recipes": ("gru.json", "gru_smoke"), "policy": "strict.json"}
    checked = run.checked(REQUEST.model_copy(update=asked))
    assert checked.scenario == storage.normal(str(tmp_path / "mine.json"))
    assert checked.policy == storage.normal(str(tmp_path / "strict.json"))
    assert checked.recipes == (storage.normal(str(tmp_path / "gru.json")), "gru_smoke")


def test_a_policy_that_does_not_exist_is_known_before_anything_is_trained() -> None:
    """Not when the gate is reached, hours later."""
    with pytest.raises(UnknownName, match="no policy named 'cheap'"):
        run.checked(REQUEST.model_copy(update={"policy": "cheap"}))


def test_again_looks_for_the_request_as_it_was_finished(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate corpus without its digest, or a document by a relative path, has another key until it is looked at."""
    store = storage.normal(str(tmp_path / "store"))
    tries: list[int] = []

    def note(parameters: dict[str, int], logs: Path) -> str:
        tries.append(parameters["again"])
        return "file:///result"

    monkeypatch.setattr(run, "pinned", lambda corpus: f"{corpus}#digest")
    monkeypatch.setattr(run, "_through_kfp", note)
    monkeypatch.setattr(run, "cluster", lambda home: io.StringIO())
    for _ in range(3):
        run_here(REQUEST.model_copy(update={"gate_corpus": "corpus"}), home, store, lambda line: None, again=True)
    assert tries == [1, 2, 3]


def test_a_home_that_cannot_be_written_is_answered(tmp_path: Path) -> None:
    """In one paragraph, like every other mistake."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        run_here(REQUEST, Home(tmp_path / "file"), storage.normal(str(tmp_path / "store")), lambda line: None)


def test_only_marked_lines_are_shown_and_everything_is_logged() -> None:
    """KFP and its tasks say much; a person sees what the stages meant for them."""
    log, shown = io.StringIO(), []
    narrator = run._Narrator(log, shown.append)
    for piece in ("kfp says\n    ", MARK, "simulate: 1", "/3\n", f"{MARK}done\nnoise"):
        narrator.write(piece)
    assert shown == ["simulate: 1/3", "done"]
    assert log.getvalue() == f"kfp says\n    {MARK}simulate: 1/3\n{MARK}done\nnoise"


def test_a_failing_task_is_answered_with_its_own_message(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KFP only says that a task failed; the stage left the reason in the store."""
    store = storage.normal(str(tmp_path / "store"))

    def fail(parameters: dict[str, str], logs: Path) -> str:
        stage.leave_error(store, parameters["run_key"], "The disk is full; type df.")
        raise RuntimeError("Inner task failed: 'train'.")

    monkeypatch.setattr(run, "_through_kfp", fail)
    monkeypatch.setattr(run, "cluster", lambda home: io.StringIO())
    with pytest.raises(UnmuffleError, match="disk is full; type df"):
        run_here(REQUEST, home, store, lambda line: None)


def test_a_task_that_dies_without_a_word_is_answered_with_its_log(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed for memory, say: the log is all there is."""

    def die(parameters: dict[str, str], logs: Path) -> str:
        raise RuntimeError("Inner task failed: 'train'.")

    monkeypatch.setattr(run, "_through_kfp", die)
    monkeypatch.setattr(run, "cluster", lambda home: io.StringIO())
    with pytest.raises(UnmuffleError, match=r"pipeline\.log"):
        run_here(REQUEST, home, storage.normal(str(tmp_path / "store")), lambda line: None)
