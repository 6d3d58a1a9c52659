"""`unmuffle enhance` with a network that may be asked in more than one way."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from pipelines.cli import app
from simulation.home import Home
from training.checkpoint import save_version
from training.models import GpUnified, GruMask

SMALL = {"channels": 4, "multipliers": (1, 2), "blocks": 1, "attention_bins": (), "sampling": {"steps": 1}}


@pytest.fixture
def folder(tmp_path: Path, home: Home) -> Path:
    """A recording, a narrow GP-Unified whose decoders speak, and a network that has nothing to choose."""
    torch.manual_seed(0)
    model = GpUnified.Config.model_validate(SMALL).build()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_version(model, str(tmp_path / "diffusion"), {})
    save_version(GruMask.Config(width=4).build(), str(tmp_path / "mask"), {})
    noise = 0.1 * np.random.default_rng(0).standard_normal(1600)
    soundfile.write(tmp_path / "noisy.wav", noise, 16000)
    return tmp_path


def enhance(folder: Path, model: str, *options: str, out: str = "out") -> Result:
    """Type it."""
    words = ["enhance", str(folder / "noisy.wav"), "--out", str(folder / out), "--model", str(folder / model)]
    return CliRunner().invoke(app, [*words, *(word for option in options for word in ("--option", option))])


def test_a_diffusion_network_is_asked_as_the_options_say(folder: Path) -> None:
    """The same seed writes the same file, another one another, and so do other steps and modes."""
    written = []
    for number, options in enumerate(
        (("seed=3",), ("seed=3",), ("seed=4",), ("seed=3", "steps=2"), ("seed=3", "mode=predictive"))
    ):
        result = enhance(folder, "diffusion", *options, out=str(number))
        assert result.exit_code == 0, result.output
        written.append((folder / str(number) / "noisy.wav").read_bytes())
    assert written[0] == written[1]
    assert len(set(written)) == 4


@pytest.mark.parametrize(
    ("model", "option", "answer"),
    [
        ("diffusion", "steps=0", "steps"),
        ("diffusion", "seed=1.5", "seed"),
        ("diffusion", "stesp=3", "stesp"),
        ("diffusion", "steps", "expected name=value"),
        ("mask", "steps=3", "nothing to choose"),
    ],
)
def test_options_that_mean_nothing_are_answered(folder: Path, model: str, option: str, answer: str) -> None:
    """Exit code 2, what is wrong in one paragraph, and nothing written."""
    result = enhance(folder, model, option)
    assert result.exit_code == 2, result.output
    assert answer in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not (folder / "out").exists()
