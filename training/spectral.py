"""Short-time Fourier transform and its inverse, magnitude compression and level: the conventions, stated once.

Waveforms are [batch, samples] in [-1, 1]; spectra are complex [batch, bins, frames], not normalised. Windows are
periodic. `Stft` sees the whole utterance (frames centred on multiples of the hop); `CausalStft` never needs more than
one frame of the future and can be fed in pieces.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

POWER_FLOOR = 1e-9
"""Added to a power before a root, so that the gradient stays finite at digital silence."""

REAL_FLOOR, IMAGINARY_FLOOR = 1e-5, 1e-10
"""Added to the parts of a spectrum before its angle: bins without energy point to 0 (MP-SENet 2024, RENet)."""

LEVEL_FLOOR = 1e-10
"""Mean power (-100 dBFS) below which level normalisation stops turning the sound up."""


class Stft(nn.Module):
    """Centred frames, Hann window, reflection at both ends: what MP-SENet and CMGAN use.

    The end is first filled with zeros to a whole number of hops. Without that, the last samples can lie where the only
    window that covers them is almost zero, and the inverse would amplify them without bound.
    """

    window: Tensor

    def __init__(self, fft_size: int, hop_size: int, window_size: int | None = None) -> None:
        """`window_size`: length of the window where zeros on both sides fill the transform."""
        super().__init__()
        self.fft_size, self.hop_size, self.window_size = fft_size, hop_size, window_size or fft_size
        self.register_buffer("window", torch.hann_window(self.window_size), persistent=False)

    def forward(self, waveform: Float[Tensor, "batch samples"]) -> Complex[Tensor, "batch bins frames"]:
        """Spectrum of a waveform of any length above zero."""
        samples = waveform.shape[-1]
        hops = max(-(-samples // self.hop_size), self.fft_size // 2 // self.hop_size + 1)
        filled = functional.pad(waveform, (0, hops * self.hop_size - samples))
        return torch.stft(
            filled,
            self.fft_size,
            self.hop_size,
            self.window_size,
            window=self.window,
            pad_mode="reflect",
            return_complex=True,
        )

    def inverse(self, spectrum: Complex[Tensor, "batch bins frames"], length: int) -> Float[Tensor, "batch samples"]:
        """Waveform of `length` samples."""
        return torch.istft(spectrum, self.fft_size, self.hop_size, self.window_size, window=self.window, length=length)


class CausalStft(nn.Module):
    """One frame at the end of each hop; square-root Hann window before and after, so that frames simply add up."""

    window: Tensor
    envelope: Tensor

    def __init__(self, fft_size: int, hop_size: int, padded_size: int | None = None) -> None:
        """`padded_size`: length of the transform where zeros fill the frame; so many bins are between."""
        super().__init__()
        self.fft_size, self.hop_size, self.padded_size = fft_size, hop_size, padded_size or fft_size
        window = torch.hann_window(fft_size).sqrt()
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("envelope", window.square().view(-1, hop_size).sum(0), persistent=False)

    @property
    def overlap(self) -> int:
        """Samples that a frame shares with those before it."""
        return self.fft_size - self.hop_size

    def forward(self, heard: Float[Tensor, "batch heard"]) -> Complex[Tensor, "batch bins frames"]:
        """Spectrum of `overlap` earlier samples followed by a whole number of hops, at least one."""
        return torch.fft.rfft(heard.unfold(-1, self.fft_size, self.hop_size) * self.window, self.padded_size).mT

    def inverse(
        self, spectrum: Complex[Tensor, "batch bins frames"], tail: Float[Tensor, "batch overlap"]
    ) -> tuple[Float[Tensor, "batch finished"], Float[Tensor, "batch overlap"]]:
        """Finished samples, one hop a frame, and the tail that waits for the frames to come."""
        frames = torch.fft.irfft(spectrum.mT, self.padded_size)[..., : self.fft_size] * self.window
        finished = frames.shape[1] * self.hop_size
        added = functional.fold(
            frames.mT, (1, finished + self.overlap), (1, self.fft_size), stride=(1, self.hop_size)
        ).flatten(1)
        added = added + functional.pad(tail, (0, finished))
        hops = added[:, :finished].unflatten(1, (-1, self.hop_size)) / self.envelope
        return hops.flatten(1), added[:, finished:]


def magnitude(spectrum: Complex[Tensor, "*shape"], exponent: float = 1.0) -> Float[Tensor, "*shape"]:
    """Magnitude raised to `exponent`; finite gradient at zero."""
    return (spectrum.real.square() + spectrum.imag.square() + POWER_FLOOR) ** (exponent / 2)


def phase(spectrum: Complex[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Angle in (-pi, pi]; the floors turn it by less than 1e-5 over the magnitude."""
    return torch.atan2(spectrum.imag + IMAGINARY_FLOOR, spectrum.real + REAL_FLOOR)


def compressed(spectrum: Complex[Tensor, "*shape"], exponent: float) -> Complex[Tensor, "*shape"]:
    """The spectrum with its magnitude raised to `exponent` and its phase kept."""
    return spectrum * magnitude(spectrum, exponent - 1.0)


def level_gain(waveform: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 1"]:
    """The factor that brings each waveform to a mean power of one (silence stays near silence)."""
    return (waveform.square().mean(-1, keepdim=True) + LEVEL_FLOOR).rsqrt()
