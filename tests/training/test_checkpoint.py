"""Versions: written whole or not at all, and refused when they are not what they say."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from simulation.errors import CheckpointIncompatible, NotThere
from training.checkpoint import (
    CONFIG,
    WEIGHTS,
    differences,
    load_version,
    refuse_other_content,
    save_version,
    version_record,
    weights_digest,
)
from training.models import GruMask


def saved(folder: Path, width: int = 8) -> GruMask:
    """A small version in a folder, and its network."""
    torch.manual_seed(width)
    model = GruMask.Config(width=width, layers=1).build()
    save_version(model, str(folder), {"recipe": "none", "steps": 3})
    return model


def test_a_version_says_what_it_is(tmp_path: Path) -> None:
    """Network, digest of the weights, packages and facts stand in config.json, without pickle."""
    model = saved(tmp_path)
    record = version_record(str(tmp_path))
    assert record.model == model.config
    assert record.weights_sha256 == weights_digest(model)
    assert record.facts == {"recipe": "none", "steps": 3}
    assert {"unmuffle", "torch"} <= set(record.packages)
    assert set(load_file(tmp_path / WEIGHTS)) == set(model.state_dict())


def test_a_version_is_loaded_ready_to_enhance(tmp_path: Path) -> None:
    """In eval mode, equal to what was saved."""
    model, loaded = saved(tmp_path), load_version(str(tmp_path))
    assert not loaded.training
    noisy = torch.randn(1, 3000)
    assert torch.equal(loaded(noisy), model.eval()(noisy))


def test_weights_without_config_are_no_version(tmp_path: Path) -> None:
    """A writer that died before the end left nothing behind that anybody would load."""
    saved(tmp_path)
    (tmp_path / CONFIG).unlink()
    with pytest.raises(NotThere, match="unmuffle models"):
        load_version(str(tmp_path))


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    """One number changed in the file: the digest tells."""
    saved(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    tensors["decoder.bias"][0] += 1
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointIncompatible, match="digest"):
        load_version(str(tmp_path))


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    """config.json of one network over the weights of another."""
    saved(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    config["model"]["width"] = 9
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointIncompatible, match="do not fit GruMask"):
        load_version(str(tmp_path))


@pytest.mark.parametrize(("key", "value"), [("format", 2), ("model", {"kind": "nobody"}), ("surplus", 1)])
def test_a_config_from_elsewhere_is_refused(tmp_path: Path, key: str, value: object) -> None:
    """Another format, an unknown network, an unknown key."""
    saved(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text()) | {key: value}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointIncompatible, match="was not written by this version"):
        load_version(str(tmp_path))


def test_a_version_is_never_overwritten_by_another(tmp_path: Path) -> None:
    """The same weights again are fine; others are refused, and the first stay."""
    model = saved(tmp_path)
    saved(tmp_path)
    with pytest.raises(CheckpointIncompatible):
        saved(tmp_path, width=16)
    assert weights_digest(load_version(str(tmp_path))) == weights_digest(model)


@pytest.mark.parametrize(
    ("there", "here", "shown"),
    [
        ({"seed": 1}, {"seed": 1}, []),
        ({"seed": 1}, {"seed": 2}, ["seed: 1 there, 2 here"]),
        ({"model": {"width": 8}}, {"model": {"width": 9}}, ["model.width: 8 there, 9 here"]),
        ({"a": None}, {"b": "x"}, ["a: null there, nothing here", "b: nothing there, x here"]),
        ({"betas": [0.8, 0.9]}, {"betas": [0.8, 0.99]}, ["betas: [0.8, 0.9] there, [0.8, 0.99] here"]),
        ({"digest": "f" * 200}, {"digest": "g"}, [f"digest: {'f' * 80}… there, g here"]),
    ],
)
def test_differences_are_shown_field_by_field(there: dict, here: dict, shown: list[str]) -> None:
    """Nested names with dots, what one side lacks, long values cut; nothing where both are equal."""
    assert differences(there, here) == shown


def test_other_content_is_refused_with_every_difference() -> None:
    """A person reads what differs and what to do; equal content passes."""
    refuse_other_content("runs/5", {"seed": 1}, {"seed": 1})
    with pytest.raises(CheckpointIncompatible, match=r"seed: 1 there, 2 here; steps: 5 there, 6 here.*another name"):
        refuse_other_content("runs/5", {"seed": 1, "steps": 5}, {"seed": 2, "steps": 6})
