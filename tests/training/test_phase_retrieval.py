"""What a magnitude gives without a network."""

import math

import torch

from training.phase_retrieval import griffin_lim, random_phase, zero_phase
from training.spectral import Stft


def speechlike(samples: int) -> torch.Tensor:
    """A chirp with a slow envelope, [1, samples]."""
    place = torch.arange(samples) / 16000
    return (torch.sin(2 * math.pi * (200 + 900 * place) * place) * (1.2 + torch.sin(20 * place)))[None]


def test_the_true_phase_gives_the_waveform_back() -> None:
    """A consistent spectrum is a fixed point: any number of projections leaves it alone."""
    stft, waveform = Stft(400, 100), speechlike(8000)
    spectrum = stft(waveform)
    for iterations in (0, 3):
        found = griffin_lim(stft, spectrum.abs(), spectrum.angle(), iterations, 8000)
        assert (found - waveform).abs().max() < 1e-4


def test_each_projection_brings_the_magnitude_nearer() -> None:
    """The distance of the waveform's own magnitude to the given one never grows (Griffin and Lim 1984)."""
    stft, waveform = Stft(400, 100), speechlike(8000)
    magnitude = stft(waveform).abs()
    torch.manual_seed(0)
    start = random_phase(magnitude)
    found = [griffin_lim(stft, magnitude, start, iterations, 8000) for iterations in (0, 1, 2, 4, 8)]
    distances = [(stft(each).abs() - magnitude).norm().item() for each in found]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.7 * distances[0]


def test_random_phases_cover_the_circle_and_zero_ones_are_zero() -> None:
    """Uniform in [-pi, pi): mean resultant length near 0, extremes near both ends."""
    magnitude = torch.ones(1, 201, 50)
    torch.manual_seed(0)
    phase = random_phase(magnitude)
    assert torch.polar(magnitude, phase).mean().abs() < 0.03
    assert -math.pi <= phase.min() < -3.1 and 3.1 < phase.max() < math.pi
    assert not zero_phase(magnitude).any()
