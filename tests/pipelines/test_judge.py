"""Single steps by hand: what is known before they begin."""

import types
from pathlib import Path

import pytest

from pipelines import judge
from simulation.errors import NotThere, StorageError
from simulation.home import Home


def test_a_gate_corpus_that_is_not_there_is_not_called_one_that_is_not_pinned(home: Home) -> None:
    """Who named a corpus should look at that name."""
    with pytest.raises(NotThere, match=r"There is no corpus at .*nowhere"):
        judge.gate_asked(f"nowhere#{'a' * 64}", "denoise-16k", home.store)
    with pytest.raises(NotThere, match="No gate corpus is pinned for denoise-16k"):
        judge.gate_asked("", "denoise-16k", home.store)


def test_a_place_that_takes_no_writes_is_known_before_anything_is_scored(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes of scoring are not thrown away for a misspelt --out."""
    (tmp_path / "file").write_text("")
    tracking = types.SimpleNamespace(resolve=lambda model, use: types.SimpleNamespace(address="file:///m"))
    monkeypatch.setattr(judge, "Tracking", lambda: tracking)
    monkeypatch.setattr(judge, "version_at", lambda *about: types.SimpleNamespace(name="m/1"))
    monkeypatch.setattr("training.pairs.Pairs.open", lambda folder: folder)
    with pytest.raises(StorageError, match="cannot be written"):
        judge.score(["m/1"], "", str(tmp_path), str(tmp_path / "file"), "denoise-16k")
