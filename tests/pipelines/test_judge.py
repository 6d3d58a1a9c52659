"""Single steps by hand: what is known before they begin."""

import types
from contextlib import nullcontext
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
    tracking = types.SimpleNamespace(
        resolve=lambda model, use: types.SimpleNamespace(address="file:///m"),
        versions=lambda use: [],
        alias=lambda use, alias: None,
    )
    monkeypatch.setattr(judge, "Tracking", lambda: tracking)
    monkeypatch.setattr(judge, "version_at", lambda *about: types.SimpleNamespace(name="m/1"))
    monkeypatch.setattr("training.pairs.Pairs.open", lambda folder: folder)
    with pytest.raises(StorageError, match="cannot be written"):
        judge.score(["m/1"], "", str(tmp_path), str(tmp_path / "file"), "denoise-16k")


def test_models_are_scored_beside_the_recurrent_mask_and_against_a_champion_among_them(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`unmuffle evaluate champion dm/2` compares dm/2 with the champion; without the champion named, nobody is."""
    old, mask = (types.SimpleNamespace(name=name, address=f"file:///{name}", network=name[:-2])
                 for name in ("dm/1", "gru_mask/1"))  # fmt: skip
    tracking = types.SimpleNamespace(
        resolve=lambda model, use: old if model == "champion" else types.SimpleNamespace(address=f"file:///{model}"),
        versions=lambda use: [mask, old],
        alias=lambda use, alias: old,
    )
    asked: list[tuple[dict[str, str], dict[str, object]]] = []
    monkeypatch.setattr(judge, "Tracking", lambda: tracking)
    monkeypatch.setattr(judge, "version_at", lambda tracking, use, where: types.SimpleNamespace(name=where[8:]))
    monkeypatch.setattr(judge, "cluster", nullcontext)
    monkeypatch.setattr("training.pairs.Pairs.open", lambda folder: folder)
    monkeypatch.setattr("training.evaluate.evaluate", lambda systems, *_, **options: asked.append((systems, options)))
    for models in (["champion", "dm/2"], ["gru_mask/1"]):
        judge.score(models, "", str(tmp_path), str(tmp_path / "out"), "denoise-16k", ("pesq",), harmless=2)
    assert [list(systems) for systems, _ in asked] == [["dm/1", "dm/2", "gru_mask/1"], ["gru_mask/1"]]
    assert [options["champion"] for _, options in asked] == ["dm/1", None]
    assert all((options["metrics"], options["harmless"]) == (("pesq",), 2) for _, options in asked)
