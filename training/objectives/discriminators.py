"""Networks that judge what others made, for adversarial objectives."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from training.models.layers import LearnableSigmoid

Magnitude = Float[Tensor, "batch bins frames"]


class MetricDiscriminator(nn.Module):
    """Guesses a metric, scaled to [0, 1], of a magnitude beside the clean one.

    Source: Fu et al., "MetricGAN+", Interspeech 2021, in the form of CMGAN and MP-SENet: four convolutions of 4x4 with
    stride 2 under spectral normalisation, the maximum over time and frequency, two linear layers. MP-SENet's has
    181,650 parameters; ours too. The target there is (PESQ - 1) / 3.5, and 1 for the clean beside itself.
    """

    def __init__(self, channels: int = 16, dropout: float = 0.3) -> None:
        super().__init__()
        widths = [2, *(channels * 2**place for place in range(4))]
        stages = [_stage(*pair) for pair in pairwise(widths)]
        last = widths[-1]
        self.layers = nn.Sequential(
            *(layer for stage in stages for layer in stage),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            spectral_norm(nn.Linear(last, last // 2)),
            nn.Dropout(dropout),
            nn.PReLU(last // 2),
            spectral_norm(nn.Linear(last // 2, 1)),
            LearnableSigmoid(1, 1.0),
        )

    def forward(self, clean: Magnitude, judged: Magnitude) -> Float[Tensor, " batch"]:
        """One number in (0, 1) for each pair of compressed magnitudes; at least 16 bins and frames."""
        return self.layers(torch.stack([clean, judged], dim=1)).squeeze(-1)


def _stage(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
    return spectral_norm(convolution), nn.InstanceNorm2d(out_channels, affine=True), nn.PReLU(out_channels)
