"""NCSN++ for spectrograms, cut where GP-Unified needs it: time embedding, encoder with bottleneck, decoder.

The authors' SGMSE+ network computed by parts, so that two decoders may share what lies before them.

Source: Song et al. 2021 (arXiv 2011.13456), BigGAN's residual blocks (arXiv 1809.11096), as SGMSE+ (arXiv 2208.05830)
configures them. The names of the authors' weights are mapped in `training/name_maps.py`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from simulation.schema import Schema
from training.models.layers import at_least_single, without_autocast

# Shape letters in this file: B batch, C channels, F bins, T frames, E width of the time embedding, P places (F T).

Maps: TypeAlias = Float[Tensor, "batch channels bins frames"]
Resampled: TypeAlias = Float[Tensor, "batch other_channels other_bins other_frames"]
Parts: TypeAlias = Float[Tensor, "batch 4 bins frames"]
Embedded: TypeAlias = Float[Tensor, "batch embedding"]

PARTS = 4
"""Channels of the input and of the pyramids: real and imaginary part of the state and of the noisy spectrum."""
ALMOST_ZERO = 1e-5
"""Gain at which the last layer of every branch starts, so that a fresh block is its shortcut (init_scale 0 there)."""


class Size(Schema):
    """How large an NCSN++ is, whatever it hears; the defaults are SGMSE+'s."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 2, 2, 2)
    """Channels of each level over `channels`; from level to level, bins and frames halve."""
    blocks: int = 2
    """Residual blocks in each level of the encoder; a decoder has one more."""
    attention_bins: tuple[int, ...] = (16,)
    """Levels with attention, by their number of bins; the bottleneck always has it."""
    fourier_scale: float = 16.0
    dropout: float = 0.0


class Shape(Size):
    """How large an NCSN++ is over a number of bins."""

    bins: int = 256

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, the finest first."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def stride(self) -> int:
        """Bins and frames come in multiples of this."""
        return int(2 ** (len(self.multipliers) - 1))

    @property
    def embedding(self) -> int:
        """Width of the time embedding."""
        return 4 * self.channels

    def attends(self, level: int) -> bool:
        """Whether a level has attention: a matter of its bins, whatever the number of frames."""
        return self.bins // 2**level in self.attention_bins

    @property
    def skips(self) -> list[int]:
        """Channels of everything that the encoder hands to a decoder, in the order in which it is made."""
        made = [self.channels]
        for level, width in enumerate(self.widths):
            made += [width] * (self.blocks + (level < len(self.widths) - 1))
        return made


class Encoded(NamedTuple):
    """What the encoder makes of its input."""

    bottleneck: Maps
    skips: list[Tensor]
    """Maps of all levels, the finest first; every decoder uses each of them once."""
    embedding: Embedded


class TimeEmbedding(nn.Module):
    """Frozen random Fourier features of log t, then two linear layers. The time itself is embedded, not sigma(t)."""

    frequencies: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("frequencies", shape.fourier_scale * torch.randn(shape.channels))
        self.first = _linear(2 * shape.channels, shape.embedding)
        self.second = _linear(shape.embedding, shape.embedding)

    def forward(self, time: Float[Tensor, " batch"]) -> Embedded:
        """Times in (0, 1]; the features are taken in single precision at least."""
        with without_autocast(time):
            features = self.features(at_least_single(time))
        return self.second(functional.silu(self.first(features)))

    def features(self, time: Float[Tensor, " batch"]) -> Float[Tensor, "batch features"]:
        """Sine and cosine of 2 pi frequency log t."""
        angle = 2 * math.pi * time.log()[:, None] * self.frequencies.to(time.dtype)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class ResidualBlock(nn.Module):
    """Two convolutions with the time embedding between them; may halve or double both axes (BigGAN)."""

    def __init__(self, shape: Shape, in_channels: int, out_channels: int, resampling: str = "") -> None:
        super().__init__()
        self.resampling = resampling
        self.norm = _norm(in_channels)
        self.convolution = _convolution(in_channels, out_channels, 3)
        self.time = _linear(shape.embedding, out_channels)
        self.last_norm = _norm(out_channels)
        self.dropout = nn.Dropout(shape.dropout)
        self.last_convolution = _convolution(out_channels, out_channels, 3, ALMOST_ZERO)
        direct = in_channels == out_channels and not resampling
        self.shortcut = nn.Identity() if direct else _convolution(in_channels, out_channels, 1)

    def forward(self, x_BCFT: Maps, embedding_BE: Embedded) -> Resampled:
        """The sum of shortcut and branch, divided by sqrt 2."""
        inner_BCFT = self._resampled(functional.silu(self.norm(x_BCFT)))
        inner_BCFT = self.convolution(inner_BCFT) + self.time(functional.silu(embedding_BE))[:, :, None, None]
        inner_BCFT = self.last_convolution(self.dropout(functional.silu(self.last_norm(inner_BCFT))))
        return (self.shortcut(self._resampled(x_BCFT)) + inner_BCFT) / math.sqrt(2)

    def _resampled(self, x_BCFT: Maps) -> Resampled:
        if not self.resampling:
            return x_BCFT
        return halved(x_BCFT) if self.resampling == "down" else doubled(x_BCFT)


class Attention(nn.Module):
    """Every place of the map sees every other one; a single head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.query, self.key, self.value = (_linear(channels, channels, math.sqrt(0.1)) for _ in range(3))
        self.out = _linear(channels, channels, ALMOST_ZERO)

    def forward(self, x_BCFT: Maps) -> Maps:
        """Same shape out."""
        x_BPC = self.norm(x_BCFT).flatten(2).mT
        query, key, value = (layer(x_BPC)[:, None] for layer in (self.query, self.key, self.value))
        seen_BPC = functional.scaled_dot_product_attention(query, key, value)[:, 0]
        return (x_BCFT + self.out(seen_BPC).mT.unflatten(2, x_BCFT.shape[2:])) / math.sqrt(2)


class Level(nn.Module):
    """One level of the encoder: blocks, attention behind each where the level has it, then half the size.

    The input, halved as often, is mixed in behind the halving (progressive input, "input_skip" by sum).
    """

    def __init__(self, shape: Shape, level: int) -> None:
        super().__init__()
        came, width = shape.widths[max(0, level - 1)], shape.widths[level]
        came = shape.channels if level == 0 else came
        sizes = [came, *[width] * shape.blocks]
        self.blocks = nn.ModuleList(ResidualBlock(shape, *pair) for pair in pairwise(sizes))
        self.attentions = nn.ModuleList(Attention(width) for _ in range(shape.blocks * shape.attends(level)))
        last = level == len(shape.widths) - 1
        self.down = None if last else ResidualBlock(shape, width, width, "down")
        self.mix = None if last else _convolution(PARTS, width, 1)

    def forward(self, x_BCFT: Maps, parts_BCFT: Parts, embedding_BE: Embedded) -> tuple[list[Tensor], Resampled]:
        """Everything made, in its order, and the input at the size of the last of it."""
        made = [x_BCFT]
        for place, block in enumerate(self.blocks):
            inner_BCFT = block(made[-1], embedding_BE)
            made.append(self.attentions[place](inner_BCFT) if self.attentions else inner_BCFT)
        if self.down is not None and self.mix is not None:
            parts_BCFT = halved(parts_BCFT)
            made.append(self.mix(parts_BCFT) + self.down(made[-1], embedding_BE))
        return made[1:], parts_BCFT


class Encoder(nn.Module):
    """Time embedding, way down and bottleneck: what both decoders share."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = TimeEmbedding(shape)
        self.first = _convolution(PARTS, shape.channels, 3)
        self.levels = nn.ModuleList(Level(shape, level) for level in range(len(shape.widths)))
        width = shape.widths[-1]
        self.before, self.attention = ResidualBlock(shape, width, width), Attention(width)
        self.after = ResidualBlock(shape, width, width)

    def forward(self, parts_BCFT: Parts, time: Float[Tensor, " batch"]) -> Encoded:
        """Bins and frames are multiples of the shape's stride."""
        embedding_BE = self.embedding(time)
        skips = [self.first(parts_BCFT)]
        for level in self.levels:
            made, parts_BCFT = level(skips[-1], parts_BCFT, embedding_BE)
            skips += made
        inner_BCFT = self.attention(self.before(skips[-1], embedding_BE))
        return Encoded(self.after(inner_BCFT, embedding_BE), skips, embedding_BE)


class Rise(nn.Module):
    """One level of a decoder: blocks that each take one map from the encoder, attention, a picture, twice the size."""

    def __init__(self, shape: Shape, level: int, came: int, skips: Sequence[int]) -> None:
        super().__init__()
        width = shape.widths[level]
        sizes = [came, *[width] * len(skips)]
        self.blocks = nn.ModuleList(
            ResidualBlock(shape, size + skip, width) for size, skip in zip(sizes, skips, strict=False)
        )
        self.attention = Attention(width) if shape.attends(level) else None
        self.norm = _norm(width)
        self.picture = _convolution(width, PARTS, 3, ALMOST_ZERO)
        self.up = None if level == 0 else ResidualBlock(shape, width, width, "up")

    def forward(self, x_BCFT: Maps, skips: list[Tensor], embedding_BE: Embedded) -> tuple[Resampled, Parts]:
        """Takes its maps off the end of `skips`; gives what goes on upwards, and this level's picture."""
        for block in self.blocks:
            x_BCFT = block(torch.cat([x_BCFT, skips.pop()], dim=1), embedding_BE)
        if self.attention is not None:
            x_BCFT = self.attention(x_BCFT)
        picture_BCFT = self.picture(functional.silu(self.norm(x_BCFT)))
        return (x_BCFT if self.up is None else self.up(x_BCFT, embedding_BE)), picture_BCFT


class Decoder(nn.Module):
    """The way up: pictures of all levels are doubled and added, then mixed to a complex spectrum ("output_skip").

    `over_time` divides by t before they are mixed, as the score network does (scale_by_sigma, where "sigma" is t).
    """

    def __init__(self, shape: Shape, over_time: bool) -> None:
        super().__init__()
        self.over_time = over_time
        waiting, came = shape.skips, shape.widths[-1]
        levels = []
        for level in reversed(range(len(shape.widths))):
            levels.append(Rise(shape, level, came, [waiting.pop() for _ in range(shape.blocks + 1)]))
            came = shape.widths[level]
        self.levels = nn.ModuleList(levels)
        self.head = nn.Conv2d(PARTS, 2, 1)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)  # deviation: torch's random bias is larger than a usual spectrum

    def forward(self, encoded: Encoded, time: Float[Tensor, " batch"]) -> Float[Tensor, "batch 2 bins frames"]:
        """Real and imaginary part."""
        x_BCFT, skips, embedding_BE = encoded
        waiting = list(skips)
        total_BCFT = None
        for level in self.levels:
            x_BCFT, picture_BCFT = level(x_BCFT, waiting, embedding_BE)
            total_BCFT = picture_BCFT if total_BCFT is None else doubled(total_BCFT) + picture_BCFT
        assert total_BCFT is not None
        assert not waiting
        return self.head(total_BCFT / time[:, None, None, None] if self.over_time else total_BCFT)


def halved(x_BCFT: Maps) -> Float[Tensor, "batch channels half_bins half_frames"]:
    """Every second bin and frame behind the filter [1, 3, 3, 1] along both axes."""
    kernel = _filter(x_BCFT)
    return functional.conv2d(x_BCFT, kernel, stride=2, padding=1, groups=len(kernel))


def doubled(x_BCFT: Maps) -> Float[Tensor, "batch channels double_bins double_frames"]:
    """Zeros between bins and frames, then the filter [1, 3, 3, 1] along both axes, with a gain of 4 that makes up for
    the zeros."""
    kernel = 4 * _filter(x_BCFT)
    return functional.conv_transpose2d(x_BCFT, kernel, stride=2, padding=1, groups=len(kernel))


def _filter(x_BCFT: Maps) -> Float[Tensor, "channels 1 4 4"]:
    taps = x_BCFT.new_tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(taps, taps).expand(x_BCFT.shape[1], 1, 4, 4)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, min(channels // 4, 32)), channels, eps=1e-6)


def _convolution(in_channels: int, out_channels: int, reach: int, gain: float = 1.0) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, out_channels, reach, padding=reach // 2)
    _begun(layer.weight, layer.bias, gain)
    return layer


def _linear(in_features: int, out_features: int, gain: float = 1.0) -> nn.Linear:
    layer = nn.Linear(in_features, out_features)
    _begun(layer.weight, layer.bias, gain)
    return layer


def _begun(weight: Tensor, bias: Tensor | None, gain: float) -> None:
    assert bias is not None
    nn.init.xavier_uniform_(weight, gain)
    nn.init.zeros_(bias)
