"""What a run sounds like while it trains."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.image import imread

from simulation import storage
from training.batches import Batch
from training.models import GruMask
from training.samples import EXCERPT_S, ROWS, keep_samples, kept_samples, samples


def valid(count: int = 3, seconds: float = 0.5) -> list[Batch]:
    """Whole rows, one a batch."""
    length = round(16000 * seconds)
    noise = 0.1 * torch.randn(count, 2, 1, length, generator=torch.Generator().manual_seed(1))
    return [Batch(noise[row, 0] + noise[row, 1], noise[row, 1], (f"valid-{row:08d}",)) for row in range(count)]


@pytest.fixture(scope="module")
def model() -> GruMask:
    """A small network."""
    torch.manual_seed(0)
    return GruMask.Config(width=8, layers=1).build()


def heard(content: bytes) -> np.ndarray:
    """[samples] of a WAV."""
    waveform, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == 16000
    return np.asarray(waveform)


def test_the_first_rows_are_heard_and_seen(model: GruMask) -> None:
    """Noisy, enhanced and clean of two rows, sample for sample what went in and what the network makes of it."""
    rows = valid()
    files = samples(model, rows, step=20)
    assert ROWS == 2
    assert set(files) == {
        name
        for row in ("valid-00000000", "valid-00000001")
        for name in (
            f"inputs/{row}-noisy.wav",
            f"inputs/{row}-clean.wav",
            f"step-00000020/{row}-enhanced.wav",
            f"step-00000020/{row}.png",
        )
    }
    one_step = 1 / 2**15
    with torch.no_grad():
        enhanced = model.eval()(rows[1].noisy)[0].numpy()
    assert np.abs(heard(files["step-00000020/valid-00000001-enhanced.wav"]) - enhanced).max() <= one_step
    assert np.abs(heard(files["inputs/valid-00000001-clean.wav"]) - rows[1].clean[0].numpy()).max() <= one_step
    assert np.abs(heard(files["inputs/valid-00000001-noisy.wav"]) - rows[1].noisy[0].numpy()).max() <= one_step


def test_the_picture_shows_what_the_network_changed(model: GruMask) -> None:
    """Its middle part differs where the output does; its upper and lower parts do not."""
    rows = valid(1)
    before = imread(io.BytesIO(samples(model, rows, step=1)["step-00000001/valid-00000000.png"]))
    silenced = GruMask.Config(width=8, layers=1).build()
    with torch.no_grad():
        for parameter in silenced.parameters():
            parameter.fill_(-5.0)
    after = imread(io.BytesIO(samples(silenced, rows, step=1)["step-00000001/valid-00000000.png"]))
    changed = np.abs(before - after).max(axis=(1, 2)) > 0.1
    fifth = len(changed) // 5
    assert changed[2 * fifth : 3 * fifth].all()
    assert not changed[:fifth].any()
    assert not changed[4 * fifth :].any()


def test_long_rows_are_heard_from_their_start(model: GruMask) -> None:
    """A minute a validation would fill the server."""
    files = samples(model, valid(1, seconds=5.0), step=1)
    assert len(heard(files["inputs/valid-00000000-noisy.wav"])) == EXCERPT_S * 16000


def test_listening_changes_neither_the_network_nor_the_dice(model: GruMask) -> None:
    """Training goes on as if nobody had listened."""
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    samples(model, valid(1), step=1)
    assert torch.equal(torch.randn(3), expected)
    assert model.training
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


def test_what_is_kept_for_a_step_is_found_again(model: GruMask, tmp_path: Path) -> None:
    """By name, with the inputs that all steps share, and nothing of other steps."""
    run = f"file://{tmp_path}/run"
    for step in (5, 10):
        keep_samples(run, model, valid(1), step)
    found = kept_samples(run, 10)
    assert sorted(found) == [
        "inputs/valid-00000000-clean.wav",
        "inputs/valid-00000000-noisy.wav",
        "step-00000010/valid-00000000-enhanced.wav",
        "step-00000010/valid-00000000.png",
    ]
    assert storage.read(found["step-00000010/valid-00000000.png"]).startswith(b"\x89PNG")
    assert list(kept_samples(run, 15)) == sorted(found)[:2]
    assert kept_samples(f"file://{tmp_path}/other", 10) == {}


def test_a_store_that_takes_no_samples_stops_nobody(
    model: GruMask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are missing, and it is said."""
    (tmp_path / "run").write_text("a file where the run's folder should be")
    keep_samples(f"file://{tmp_path}/run", model, valid(1), 5)
    assert "samples of step 5 are not kept" in caplog.text
