"""Blocks that several networks share: dilated dense blocks, conformers with relative positions, learnable sigmoids."""

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

# Shape letters in this file: B batch, C channels, T frames, F bins; S sequences, L places in a sequence, H heads,
# E width of a head.

Maps: TypeAlias = Float[Tensor, "batch channels frames bins"]
Sequences: TypeAlias = Float[Tensor, "sequences places channels"]


class DilatedDense(nn.Module):
    """Densely connected convolutions that look 1, 2, 4, 8, ... frames away (CMGAN, MP-SENet)."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels * (place + 1), channels, (3, 3), dilation=(2**place, 1), padding=(2**place, 1)),
                nn.InstanceNorm2d(channels, affine=True),
                nn.PReLU(channels),
            )
            for place in range(depth)
        )

    def forward(self, x_BCTF: Maps) -> Maps:
        """Same shape out."""
        seen = newest = x_BCTF
        for layer in self.layers:
            newest = layer(seen)
            seen = torch.cat([newest, seen], dim=1)
        return newest


class FeedForward(nn.Sequential):
    """Position-wise layers, four times as wide inside."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(channels),
            nn.Linear(channels, 4 * channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(4 * channels, channels),
            nn.Dropout(dropout),
        )


class RelativeAttention(nn.Module):
    """Self-attention whose logits also know how far apart two places are (Shaw et al. 2018, as CMGAN uses it).

    Distances beyond `reach` share the embedding of the farthest one. Embeddings start at zero, not at random: a
    distance longer than any training piece then stays neutral. Sequences stand along the second axis, so no item of a
    batch can see another.
    """

    def __init__(self, channels: int, heads: int, reach: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.distances = nn.Embedding(2 * reach + 1, channels // heads)
        nn.init.zeros_(self.distances.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_SLC: Sequences) -> Sequences:
        """Same shape out."""
        x_SLC = self.norm(x_SLC)
        key_SLC, value_SLC = self.key_value(x_SLC).chunk(2, dim=-1)
        query_SHLE, key_SHLE, value_SHLE = (self._split(each) for each in (self.query(x_SLC), key_SLC, value_SLC))
        seen_SHLE = functional.scaled_dot_product_attention(
            query_SHLE, key_SHLE, value_SHLE, attn_mask=self.bias(query_SHLE)
        )
        return self.dropout(self.out(seen_SHLE.transpose(1, 2).flatten(2)))

    def bias(
        self, query_SHLE: Float[Tensor, "sequences heads places head"]
    ) -> Float[Tensor, "sequences heads places places"]:
        """What is added to the logits: query times embedding of the distance, scaled like the logits."""
        sequences, heads, places, width = query_SHLE.shape
        embedded_LLE = self.distances(self.distance(places))
        query_LxE = query_SHLE.permute(2, 0, 1, 3).reshape(places, sequences * heads, width)
        bias_LxL = query_LxE @ embedded_LLE.mT * width**-0.5
        return bias_LxL.view(places, sequences, heads, places).permute(1, 2, 0, 3)

    def distance(self, places: int) -> Tensor:
        """Row of the embedding for each pair of places, [places, places]."""
        place = torch.arange(places, device=self.distances.weight.device)
        return (place[:, None] - place[None, :]).clamp(-self.reach, self.reach) + self.reach

    def _split(self, x_SLC: Tensor) -> Tensor:
        return x_SLC.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class LocalConvolution(nn.Module):
    """The convolution module of a conformer (Gulati et al. 2020): gate, depthwise convolution, batch normalisation."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        inner = 2 * channels
        self.norm = nn.LayerNorm(channels)
        self.layers = nn.Sequential(
            nn.Conv1d(channels, 2 * inner, 1),
            nn.GLU(dim=1),
            nn.Conv1d(inner, inner, kernel, padding=kernel // 2, groups=inner),
            nn.BatchNorm1d(inner),
            nn.SiLU(),
            nn.Conv1d(inner, channels, 1),
        )

    def forward(self, x_SLC: Sequences) -> Sequences:
        """Same shape out."""
        return self.layers(self.norm(x_SLC).mT).mT


class Conformer(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward; a residual around each."""

    def __init__(self, channels: int, heads: int, reach: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.before = FeedForward(channels, dropout)
        self.attention = RelativeAttention(channels, heads, reach, dropout)
        self.convolution = LocalConvolution(channels, kernel)
        self.after = FeedForward(channels, dropout)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_SLC: Sequences) -> Sequences:
        """Same shape out."""
        x_SLC = x_SLC + 0.5 * self.before(x_SLC)
        x_SLC = x_SLC + self.attention(x_SLC)
        x_SLC = x_SLC + self.convolution(x_SLC)
        x_SLC = x_SLC + 0.5 * self.after(x_SLC)
        return self.norm(x_SLC)


class TimeFrequencyBlock(nn.Module):
    """A conformer along time (each bin alone), then one along frequency (each frame alone); a residual around each."""

    def __init__(self, channels: int, heads: int, reach: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.time = Conformer(channels, heads, reach, kernel, dropout)
        self.frequency = Conformer(channels, heads, reach, kernel, dropout)

    def forward(self, x_BCTF: Maps) -> Maps:
        """Same shape out."""
        batch, _, frames, bins = x_BCTF.shape
        x_SLC = x_BCTF.permute(0, 3, 2, 1).reshape(batch * bins, frames, -1)
        x_SLC = x_SLC + self.time(x_SLC)
        x_SLC = x_SLC.view(batch, bins, frames, -1).transpose(1, 2).reshape(batch * frames, bins, -1)
        x_SLC = x_SLC + self.frequency(x_SLC)
        return x_SLC.view(batch, frames, bins, -1).permute(0, 3, 1, 2)


class LearnableSigmoid(nn.Module):
    """`beta * sigmoid(slope * x)` with a slope for each bin (MetricGAN+); bounded by 0 and beta, 1 at x = 0."""

    def __init__(self, bins: int, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.slope = nn.Parameter(torch.ones(bins))

    def forward(self, x_BTF: Float[Tensor, "batch frames bins"]) -> Float[Tensor, "batch frames bins"]:
        """Same shape out."""
        return self.beta * torch.sigmoid(self.slope * x_BTF)
