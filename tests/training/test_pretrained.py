"""Released weights of an SSL model: read from anywhere, never from the network in tests."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from simulation import storage
from simulation.errors import CheckpointIncompatible, NotThere
from training.checkpoint import load_version, version_record
from training.cookbook_bsp_mpnet import RECIPES
from training.models import BspMpnet
from training.pretrained import begin
from training.run import Run

TINY = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "conv_dim": [4] * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
HEAD = BspMpnet.Config(channels=(2,), width=8, heads=2, recurrent_width=4)


@pytest.fixture(params=["WavLM", "Data2VecAudio"])
def released(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    """A release as transformers saves one, with the vector for masks that pre-training had; and its network."""
    import transformers

    torch.manual_seed(1)
    settings = getattr(transformers, f"{request.param}Config")(**TINY)
    network = getattr(transformers, f"{request.param}Model")(settings).eval()
    folder = tmp_path / "released"
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    return folder, network


def test_a_network_begins_with_released_weights_and_its_version_says_whose(
    released: tuple[Path, Any], tmp_path: Path
) -> None:
    """Features are those of transformers' own model; digest, licence and the flag for normalising are written down."""
    folder, network = released
    begun = begin(HEAD, str(folder), str(tmp_path / "begun"), licence="MIT")
    audio = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    unit = (audio - audio.mean()) / (audio.var(correction=0) + 1e-7).sqrt()
    expected = network(unit).last_hidden_state
    assert torch.allclose(begun.ssl(audio)[-1], expected, atol=1e-6)
    record = version_record(str(tmp_path / "begun"))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert record.facts["ssl"] == {"source": str(folder), "sha256": digest, "licence": "MIT"}
    assert isinstance(record.model, BspMpnet.Config) and record.model.ssl.normalise
    loaded = load_version(str(tmp_path / "begun"))
    assert isinstance(loaded, BspMpnet)
    assert torch.equal(loaded.ssl(audio), begun.ssl(audio))


def test_a_run_begins_with_them(released: tuple[Path, Any], tmp_path: Path) -> None:
    """By the recipe's `begins_with`; the recipe, and so the record of its version, has digest and licence."""
    begun = begin(HEAD, str(released[0]), str(tmp_path / "begun"), licence="MIT")
    address = str(tmp_path / "begun")
    recipe = RECIPES["bsp_mpnet"]().model_copy(update={"model": begun.config, "begins_with": address})
    run = Run(recipe)
    assert all(torch.equal(run.released.state_dict()[name], value) for name, value in begun.state_dict().items())
    assert recipe.model_dump()["model"]["ssl"]["licence"] == "MIT"
    assert recipe.model_dump()["model"]["ssl"]["sha256"] == begun.config.ssl.sha256


def test_a_release_may_lie_in_the_store(released: tuple[Path, Any], tmp_path: Path) -> None:
    """By its address; equal weights."""
    folder, _ = released
    address = storage.normal(str(tmp_path / "store" / "ssl"))
    storage.upload(folder, address)
    assert "://" in address
    near, far = (begin(HEAD, source, str(tmp_path / source[-3:]), "MIT") for source in (str(folder), address))
    assert near.config.ssl.sha256 == far.config.ssl.sha256
    assert all(torch.equal(far.ssl.state_dict()[name], value) for name, value in near.ssl.state_dict().items())


def test_another_digest_than_the_expected_one_is_refused(released: tuple[Path, Any], tmp_path: Path) -> None:
    """And nothing is written."""
    with pytest.raises(CheckpointIncompatible, match="expected 0000"):
        begin(HEAD, str(released[0]), str(tmp_path / "begun"), "MIT", sha256="0000")
    assert not (tmp_path / "begun").exists()


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    """The answer names the kinds that can be used."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointIncompatible, match="'bert'"):
        begin(HEAD, str(tmp_path), str(tmp_path / "begun"), "MIT")


def test_a_copy_of_the_hub_is_taken_without_network(
    released: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is one, the hub is not asked; where there is none and no network, the answer says what to do."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def cached(name: str, local_files_only: bool = False, **wanted: Any) -> str:
        assert local_files_only
        return str(released[0])

    def offline(name: str, local_files_only: bool = False, **wanted: Any) -> str:
        raise LocalEntryNotFoundError("nothing there") if local_files_only else ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert begin(HEAD, "someone/ssl", str(tmp_path / "begun"), "MIT").config.ssl.source == "someone/ssl"
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(NotThere, match="give the folder"):
        begin(HEAD, "someone/ssl", str(tmp_path / "other"), "MIT")
