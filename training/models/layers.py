"""Blocks that several networks share: dense blocks, conformers, transformers, sub-pixel convolutions, sigmoids."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

# Shape letters in this file: B batch, C channels, T frames, F bins; S sequences, L places in a sequence, H heads,
# E width of a head.

Maps: TypeAlias = Float[Tensor, "batch channels frames bins"]
Sequences: TypeAlias = Float[Tensor, "sequences places channels"]


class SubPixelConvolution(nn.Module):
    """Twice as many bins: a convolution makes two maps for each output channel, whose bins then alternate.

    Output bin 2f + r of channel c is bin f of the map r * channels + c (Shi et al. 2016, along frequency only).
    """

    FACTOR = 2

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.convolution = nn.Conv2d(in_channels, self.FACTOR * out_channels, (1, 3), padding=(0, 1))

    def forward(self, x_BCTF: Maps) -> Float[Tensor, "batch out_channels frames out_bins"]:
        """Twice the bins out."""
        return interleaved(self.convolution(x_BCTF))


def interleaved(x_BCTF: Maps) -> Float[Tensor, "batch half_channels frames double_bins"]:
    """Half the channels, twice the bins: see `SubPixelConvolution`."""
    halves = x_BCTF.unflatten(1, (SubPixelConvolution.FACTOR, -1))
    return halves.permute(0, 2, 3, 4, 1).flatten(-2)


def normalised(layer: nn.Conv2d | nn.ConvTranspose2d | SubPixelConvolution) -> tuple[nn.Module, ...]:
    """A convolution, then the normalisation and the slope that CMGAN and MP-SENet put behind each."""
    return layer, nn.InstanceNorm2d(layer.out_channels, affine=True), nn.PReLU(layer.out_channels)


class DilatedDense(nn.Module):
    """Densely connected convolutions that look 1, 2, 4, 8, ... frames away (CMGAN, MP-SENet).

    Three frames tall, they look both ways; two frames tall, only back.
    """

    def __init__(self, channels: int, depth: int, height: Literal[2, 3] = 3) -> None:
        super().__init__()
        self.past_only = height == 2
        self.layers = nn.ModuleList(
            nn.Sequential(*normalised(self._convolution(channels, place, height))) for place in range(depth)
        )

    def forward(self, x_BCTF: Maps) -> Maps:
        """Same shape out."""
        seen = newest = x_BCTF
        for place, layer in enumerate(self.layers):
            newest = layer(functional.pad(seen, (0, 0, 2**place, 0)) if self.past_only else seen)
            seen = torch.cat([newest, seen], dim=1)
        return newest

    def _convolution(self, channels: int, place: int, height: int) -> nn.Conv2d:
        reach = 2**place
        padding = (0 if self.past_only else reach, 1)
        return nn.Conv2d(channels * (place + 1), channels, (height, 3), dilation=(reach, 1), padding=padding)


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


class PlainAttention(nn.Module):
    """Self-attention without positions, scaled dot products (Vaswani et al. 2017).

    `batch_first=False` attends along the first axis, as the published MP-SENet code does: across sequences, and so
    across the items of a batch.
    """

    def __init__(self, channels: int, heads: int, dropout: float, batch_first: bool = True) -> None:
        super().__init__()
        self.heads, self.batch_first = heads, batch_first
        self.norm = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_SLC: Sequences) -> Sequences:
        """Same shape out."""
        x_SLC = x_SLC if self.batch_first else x_SLC.transpose(0, 1)
        heads_SLHE = self.query_key_value(self.norm(x_SLC)).unflatten(-1, (3 * self.heads, -1))
        query_SHLE, key_SHLE, value_SHLE = heads_SLHE.transpose(1, 2).chunk(3, dim=1)
        seen_SHLE = functional.scaled_dot_product_attention(query_SHLE, key_SHLE, value_SHLE)
        out_SLC = self.dropout(self.out(seen_SHLE.transpose(1, 2).flatten(2)))
        return out_SLC if self.batch_first else out_SLC.transpose(0, 1)


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
    """Half feed-forward, attention, convolution, half feed-forward; a residual around each (Gulati et al. 2020)."""

    def __init__(self, channels: int, attention: Callable[[], nn.Module], kernel: int, dropout: float) -> None:
        super().__init__()
        self.before = FeedForward(channels, dropout)
        self.attention = attention()
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


class RecurrentFeedForward(nn.Module):
    """A recurrent layer that reads both ways in the place of the first position-wise one (MP-SENet 2024, RENet)."""

    def __init__(self, channels: int, batch_first: bool = True) -> None:
        super().__init__()
        self.memory = nn.GRU(channels, 2 * channels, bidirectional=True, batch_first=batch_first)
        self.out = nn.Linear(4 * channels, channels)

    def forward(self, x_SLC: Sequences) -> Sequences:
        """Same shape out."""
        return self.out(functional.leaky_relu(self.memory(x_SLC)[0]))


class Transformer(nn.Module):
    """Attention, then a recurrent feed-forward; a residual around each, a normalisation at the end (MP-SENet 2024)."""

    def __init__(self, channels: int, heads: int, dropout: float, batch_first: bool = True) -> None:
        super().__init__()
        self.attention = PlainAttention(channels, heads, dropout, batch_first)
        self.norm = nn.LayerNorm(channels)
        self.feed_forward = RecurrentFeedForward(channels, batch_first)
        self.dropout = nn.Dropout(dropout)
        self.last_norm = nn.LayerNorm(channels)

    def forward(self, x_SLC: Sequences) -> Sequences:
        """Same shape out."""
        x_SLC = x_SLC + self.attention(x_SLC)
        x_SLC = x_SLC + self.dropout(self.feed_forward(self.norm(x_SLC)))
        return self.last_norm(x_SLC)


class TimeFrequencyBlock(nn.Module):
    """A layer along time (each bin alone), then one along frequency (each frame alone); a residual around each."""

    def __init__(self, layer: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.time = layer()
        self.frequency = layer()

    def forward(self, x_BCTF: Maps) -> Maps:
        """Same shape out."""
        batch, _, frames, bins = x_BCTF.shape
        x_SLC = x_BCTF.permute(0, 3, 2, 1).reshape(batch * bins, frames, -1)
        x_SLC = x_SLC + self.time(x_SLC)
        x_SLC = x_SLC.view(batch, bins, frames, -1).transpose(1, 2).reshape(batch * frames, bins, -1)
        x_SLC = x_SLC + self.frequency(x_SLC)
        return x_SLC.view(batch, frames, bins, -1).permute(0, 3, 1, 2)


def through(block: nn.Module, *inputs: Any, recompute: bool) -> Any:
    """What a block makes of its inputs; with `recompute`, the backward pass computes what is inside again.

    Activation checkpointing (Chen et al. 2016): of all that a block makes on the way only its inputs are kept. Losses
    and gradients are the same, dropout included, and a batch normalisation counts each batch once.
    """
    if not (recompute and torch.is_grad_enabled()):
        return block(*inputs)
    return checkpoint(block, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _uncounted(block)))


@contextmanager
def _uncounted(block: nn.Module) -> Iterator[None]:
    """Within, batch normalisations see a batch that they have counted already: their statistics stay as they are."""
    norms = [each for each in block.modules() if isinstance(each, nn.BatchNorm1d)]
    before = [(each.momentum, each.num_batches_tracked) for each in norms]
    for each in norms:
        each.momentum, each.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for each, (momentum, counted) in zip(norms, before, strict=True):
            each.momentum, each.num_batches_tracked = momentum, counted


def at_least_single(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same numbers in 32 bits where they have 16: for angles, moduli and norms."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """In here operations keep the precision of their operands, whatever autocast says outside."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


class PhaseDecoder(nn.Module):
    """The phase, as the angle of an estimated point (Ai and Ling 2023, MP-SENet)."""

    def __init__(
        self, channels: int, dense: DilatedDense, upsampling: nn.ConvTranspose2d | SubPixelConvolution, reach: int
    ) -> None:
        super().__init__()
        self.trunk = nn.Sequential(dense, *normalised(upsampling))
        self.real = nn.Conv2d(channels, 1, (1, reach))
        self.imaginary = nn.Conv2d(channels, 1, (1, reach))

    def forward(self, z_BCTF: Maps) -> Float[Tensor, "batch frames phase_bins"]:
        """In (-pi, pi]; the angle is taken in single precision at least."""
        z_BCTF = self.trunk(z_BCTF)
        real_BTF, imaginary_BTF = self.real(z_BCTF).squeeze(1), self.imaginary(z_BCTF).squeeze(1)
        return torch.atan2(at_least_single(imaginary_BTF), at_least_single(real_BTF))


class LearnableSigmoid(nn.Module):
    """`beta * sigmoid(slope * x)` with a slope for each bin (MetricGAN+); bounded by 0 and beta, 1 at x = 0."""

    def __init__(self, bins: int, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.slope = nn.Parameter(torch.ones(bins))

    SATURATED = 6.0
    """From here on, either way, the sigmoid is within 0.25 % of its end, and its gradient below 0.0025."""

    def forward(self, x_BTF: Float[Tensor, "*shape bins"]) -> Float[Tensor, "*shape bins"]:
        """Same shape out."""
        return self.beta * torch.sigmoid(self.slope * x_BTF)

    @torch.no_grad()
    def saturation(self, x_BTF: Float[Tensor, "batch frames bins"]) -> Float[Tensor, " batch"]:
        """The share of each item's values that stand at an end of their range."""
        return ((self.slope * x_BTF).abs() > self.SATURATED).to(x_BTF).mean((1, 2))
