"""Networks that tell clean from enhanced speech by complex spectra of several resolutions, whole or cut into bands."""

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from training.models.layers import at_least_single, without_autocast
from training.objectives.gan import Judgement
from training.spectral import Stft

# Shape letters in this file: B batch, C channels, T frames, F bins.

WINDOW_SIZES = (512, 1024, 2048)
"""In samples: 11, 21 and 43 ms at 48 kHz."""

WHOLE = ((0.0, 1.0),)
BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
"""As shares of half the sample rate."""

CHANNELS = 32


class SpectrumDiscriminators(nn.Module):
    """One for each window size.

    RaD-Net (arXiv 2401.04389) names a multi-resolution and a multi-band discriminator and no more. Sizes are those of
    the multi-band one of the Descript codec (Kumar et al., NeurIPS 2023), which looks at both at once: per resolution
    94,208 weights a band and 290 for the scores, gains and biases among them. Ours: the whole as one band.
    """

    def __init__(
        self,
        window_sizes: tuple[int, ...] = WINDOW_SIZES,
        bands: tuple[tuple[float, float], ...] = BANDS,
        channels: int = CHANNELS,
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(SpectrumDiscriminator(size, bands, channels) for size in window_sizes)

    def forward(self, waveform: Float[Tensor, "batch samples"]) -> list[Judgement]:
        """One judgement for each window size."""
        return [part(waveform) for part in self.parts]


class SpectrumDiscriminator(nn.Module):
    """Convolutions over each band of a complex spectrum by itself, whose last maps are joined for the scores."""

    SLOPE = 0.1

    def __init__(self, window_size: int, bands: tuple[tuple[float, float], ...], channels: int) -> None:
        super().__init__()
        self.stft = Stft(window_size, window_size // 4)
        bins = window_size // 2 + 1
        self.edges = [(int(low * bins), int(high * bins)) for low, high in bands]
        self.bands = nn.ModuleList(_layers(channels) for _ in bands)
        self.last = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, waveform: Float[Tensor, "batch samples"]) -> Judgement:
        """Features are those of all layers of all bands, and the scores. Spectra are as of windows with energy one."""
        with without_autocast(waveform):
            spectrum_BFT = self.stft(waveform) / self.stft.window.square().sum().sqrt()
        x_BCTF = torch.view_as_real(spectrum_BFT).permute(0, 3, 2, 1)
        features, ends = list[Tensor](), list[Tensor]()
        for (low, high), layers in zip(self.edges, self.bands, strict=True):
            band_BCTF = x_BCTF[..., low:high]
            for layer in cast(nn.ModuleList, layers):
                band_BCTF = functional.leaky_relu(layer(band_BCTF), self.SLOPE)
                features.append(at_least_single(band_BCTF))
            ends.append(band_BCTF)
        scores = at_least_single(self.last(torch.cat(ends, dim=-1)))
        return Judgement(scores.flatten(1), [*features, scores])


def _layers(channels: int) -> nn.ModuleList:
    """Frames stay, bins are halved three times."""
    widths = [2, *[channels] * 4]
    strides = [1, 2, 2, 2]
    wide = [
        weight_norm(nn.Conv2d(before, after, (3, 9), (1, stride), (1, 4)))
        for (before, after), stride in zip(pairwise(widths), strides, strict=True)
    ]
    return nn.ModuleList([*wide, weight_norm(nn.Conv2d(channels, channels, (3, 3), padding=(1, 1)))])
