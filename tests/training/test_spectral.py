"""The conventions of the spectral front end."""

import pytest
import torch

from training.spectral import CausalStft, Stft, compressed, level_gain, magnitude


@pytest.mark.parametrize("samples", [1, 399, 400, 3999, 16001])
@pytest.mark.parametrize("hop_size", [100, 200])
def test_the_inverse_gives_the_waveform_back(samples: int, hop_size: int) -> None:
    """Analysis and synthesis lose nothing, whatever the length."""
    stft, waveform = Stft(400, hop_size), torch.randn(2, samples)
    assert torch.allclose(stft.inverse(stft(waveform), samples), waveform, atol=1e-4)


def test_two_seconds_have_the_frames_of_the_lineage() -> None:
    """32 000 samples at hop 100 are 321 frames of 201 bins."""
    assert Stft(400, 100)(torch.randn(1, 32000)).shape == (1, 201, 321)


def test_a_changed_spectrum_is_not_blown_up_at_the_end() -> None:
    """With half overlap a window can be almost zero on the last samples; they stay as loud as the others."""
    stft, waveform = Stft(400, 200), torch.randn(1, 3999)
    spectrum = stft(waveform)
    changed = stft.inverse(spectrum * torch.rand(spectrum.shape), 3999)
    assert changed.abs().max() < 2 * waveform.abs().max()


@pytest.mark.parametrize("hop_size", [100, 200])
def test_causal_frames_add_up_to_what_was_heard(hop_size: int) -> None:
    """What comes out is what went in, `overlap` samples later."""
    stft = CausalStft(400, hop_size)
    heard = torch.randn(2, stft.overlap + 10 * hop_size)
    finished, tail = stft.inverse(stft(heard), torch.zeros(2, stft.overlap))
    assert finished.shape == (2, 10 * hop_size)
    assert tail.shape == (2, stft.overlap)
    assert torch.allclose(finished[:, stft.overlap :], heard[:, stft.overlap : 10 * hop_size], atol=1e-5)


def test_compression_is_undone_by_its_inverse() -> None:
    """The 0.3rd power and back: below 1e-4 relative, at any level that matters."""
    wanted = torch.logspace(-2, 3, 200, dtype=torch.float64)
    spectrum = torch.polar(wanted, torch.linspace(-3, 3, 200, dtype=torch.float64))
    found = magnitude(spectrum, 0.3) ** (1 / 0.3)
    assert ((found - wanted) / wanted).abs().max() < 1e-4
    assert torch.allclose(compressed(spectrum, 0.3).angle(), spectrum.angle())
    assert torch.allclose(compressed(spectrum, 0.3).abs(), wanted**0.3, rtol=1e-4)


def test_compression_has_a_finite_gradient_at_silence() -> None:
    """The floor below the root keeps it so."""
    silence = torch.zeros(8, requires_grad=True)
    magnitude(torch.complex(silence, silence), 0.3).sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


def test_level_gain_brings_each_waveform_to_the_same_level() -> None:
    """Mean power one, and no infinite gain for silence."""
    waveform = torch.stack([0.01 * torch.randn(8000), torch.randn(8000), torch.zeros(8000)])
    power = (waveform * level_gain(waveform)).square().mean(-1)
    assert torch.allclose(power, torch.tensor([1.0, 1.0, 0.0]), atol=1e-4)
