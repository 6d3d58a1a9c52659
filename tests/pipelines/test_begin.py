"""The beginning of a run on a cluster: its key follows from what is asked and from the data."""

from pathlib import Path
from typing import Any

import pytest

from components.notify import Begun
from components.rayjob import LAUNCHED_BY
from pipelines import begin
from pipelines.begin import begun, key_of
from pipelines.request import Request
from simulation import storage

REQUEST = Request(scenario="sample", recipes=("gru_smoke",), use="denoise-16k")


class FakeTracking:
    """Remembers the run that was begun."""

    begun: tuple[Any, ...]

    def run(self, key: str, name: str, parent: None, tags: dict[str, str]) -> str:
        type(self).begun = (key, name, tags)
        return "run"

    def params(self, run_id: str, params: dict[str, Any]) -> None:
        assert params["recipes"] == ["gru_smoke"]


def test_other_data_are_another_run() -> None:
    """And so is another request; the same of both is the same run, whenever it is asked for."""
    keys = {key_of(REQUEST, "d"), key_of(REQUEST, "e"), key_of(REQUEST.model_copy(update={"again": 1}), "d")}
    assert len(keys) == 3
    assert key_of(REQUEST, "d") in keys


def test_a_run_begins_with_its_reason_and_leaves_word_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KFP gives the last task nothing of the first one's: it is found by KFP's id of the run."""
    monkeypatch.setenv(LAUNCHED_BY, "run-1")
    monkeypatch.setattr(begin, "Tracking", FakeTracking)
    monkeypatch.setattr(begin, "checked", lambda request: request)
    monkeypatch.setattr(begin, "data_digest", lambda request: "d" * 64)
    store = storage.normal(str(tmp_path))
    key = begun(REQUEST, store, "drift")
    assert key == key_of(REQUEST, "d" * 64)
    tags = {"reason": "drift", "data_digest": "d" * 64, "kfp_run_id": "run-1"}
    assert FakeTracking.begun == (key, "retrain sample", tags)
    left = Begun.parse(storage.read(f"{store}/kfp-runs/run-1.json"), "the beginning")
    assert (left.key, left.reason) == (key, "drift")
