"""What a magnitude gives without a network: a phase of zero, phases at random, and Griffin-Lim from either.

The rows that a network for phase retrieval is compared with. Magnitudes and phases are those of `training.spectral`'s
centred STFT, [batch, bins, frames]; the magnitude is not compressed.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from training.spectral import Stft

Spectrogram = Float[Tensor, "batch bins frames"]


def zero_phase(magnitude: Spectrogram) -> Spectrogram:
    """0 everywhere."""
    return torch.zeros_like(magnitude)


def random_phase(magnitude: Spectrogram) -> Spectrogram:
    """Uniform in [-pi, pi), each bin by itself, from torch's generator."""
    return torch.pi * (2 * torch.rand_like(magnitude) - 1)


def griffin_lim(
    stft: Stft, magnitude: Spectrogram, phase: Spectrogram, iterations: int, length: int
) -> Float[Tensor, "batch samples"]:
    """The waveform of `length` samples after so many projections; 0 iterations: the inverse of what came in.

    Each keeps the phase of the waveform's own spectrum and puts the magnitude back, without momentum. Source: Griffin
    and Lim, "Signal estimation from modified short-time Fourier transform", IEEE TASSP 32(2), 1984.
    """
    waveform = stft.inverse(torch.polar(magnitude, phase), length)
    for _ in range(iterations):
        waveform = stft.inverse(torch.polar(magnitude, stft(waveform).angle()), length)
    return waveform
