"""Networks that judge what others made, for adversarial objectives."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from training.models.layers import LearnableSigmoid, at_least_single
from training.objectives.gan import Judgement

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


PERIODS = (2, 3, 5, 7, 11)
"""HiFi-GAN's: prime, so that the parts overlap as little as can be."""

PERIOD_CHANNELS = (32, 128, 512, 1024, 1024)


class MultiPeriodDiscriminator(nn.Module):
    """Tells clean speech from enhanced by looking at every second, third, fifth, ... sample.

    Source: Kong, Kim and Bae, "HiFi-GAN", NeurIPS 2020, appendix B, which RENet's code takes over. 41,105,770
    parameters with the gains of weight normalisation, 41,092,165 without them.
    """

    def __init__(self, periods: tuple[int, ...] = PERIODS, channels: tuple[int, ...] = PERIOD_CHANNELS) -> None:
        super().__init__()
        self.parts = nn.ModuleList(PeriodDiscriminator(period, channels) for period in periods)

    def forward(self, waveform: Float[Tensor, "batch samples"]) -> list[Judgement]:
        """One judgement for each period."""
        return [part(waveform) for part in self.parts]


class PeriodDiscriminator(nn.Module):
    """Convolutions along the columns of a waveform that was laid out in rows of one period."""

    SLOPE = 0.1

    def __init__(self, period: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.period = period
        strides = [3] * (len(channels) - 1) + [1]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, (5, 1), (stride, 1), (2, 0)))
            for (before, after), stride in zip(pairwise((1, *channels)), strides, strict=True)
        )
        self.last = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Float[Tensor, "batch samples"]) -> Judgement:
        """Features are those of all layers but the first, the scores among them (RENet's code; HiFi-GAN has all)."""
        filled = functional.pad(waveform.unsqueeze(1), (0, -waveform.shape[-1] % self.period), mode="reflect")
        x = filled.unflatten(-1, (-1, self.period))
        features = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), self.SLOPE)
            features.append(at_least_single(x))
        scores = at_least_single(self.last(x))
        return Judgement(scores.flatten(1), [*features[1:], scores])
