"""REMA: what turns the features of one path into its mask. Attention, recurrence, and attention to time and frequency.

The sizes are those of the block of BSS-CFFMA (arXiv 2408.06851, by the same first author) at that place; BSP-MPNet's
paper names the parts and their order. Sequences are frames; every residual is followed by a layer normalisation.
"""

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from training.models.layers import LearnableSigmoid

# Shape letters in this file: B batch, T frames, D features, H heads, E width of a head.

Frames: TypeAlias = Float[Tensor, "batch frames features"]

MASK_CEILING = 2.0


class Rema(nn.Module):
    """A mask between 0 and 2 for each bin of each frame: 1 where the last layer says nothing."""

    FIRST_SCALE = 0.01
    """Of the last layer's weights at the start, so that training begins close to the input; ours."""

    def __init__(
        self, features: int, bins: int, width: int, heads: int, memory: int, blocks: int, dropout: float
    ) -> None:
        """`memory`: units of the recurrent layers in each direction; 0: none."""
        super().__init__()
        self.first = nn.Linear(features, width)
        self.blocks = nn.Sequential(*(RemaBlock(width, heads, memory, dropout) for _ in range(blocks)))
        self.last = nn.Linear(width, bins)
        self.mask = LearnableSigmoid(bins, MASK_CEILING)
        with torch.no_grad():
            self.last.weight.mul_(self.FIRST_SCALE)
            self.last.bias.zero_()

    def forward(self, x_BTD: Frames) -> Float[Tensor, "batch frames bins"]:
        """The mask."""
        return self.mask(self.last(self.blocks(self.first(x_BTD))))


class RemaBlock(nn.Module):
    """Self-attention, feed-forward, recurrence, time-frequency attention, feed-forward; a residual around it all."""

    def __init__(self, width: int, heads: int, memory: int, dropout: float) -> None:
        super().__init__()
        layers = [PositionAttention(width, heads, dropout), _feed_forward(width, dropout)]
        layers += [Recurrence(width, memory)] if memory else []
        layers += [TimeFrequencyAttention(width), _feed_forward(width, dropout)]
        self.layers = nn.Sequential(*(Residual(layer, width) for layer in layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BTD: Frames) -> Frames:
        """Same shape out."""
        return self.norm(x_BTD + self.layers(x_BTD))


class Residual(nn.Module):
    """A layer, what went into it, and a normalisation of the sum."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BTD: Frames) -> Frames:
        """Same shape out."""
        return self.norm(x_BTD + self.layer(x_BTD))


def _feed_forward(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 4 * width),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Linear(4 * width, width),
        nn.Dropout(dropout),
    )


class PositionAttention(nn.Module):
    """Self-attention that knows distances: those of Transformer-XL (Dai et al. 2019, section 3.3).

    A logit is (q_i + u) k_j + (q_i + v) W r_(i-j), over the root of a head's width, with r sinusoidal in the distance,
    and u, v learnt. The other projections have biases (which the published size of the block counts), W has none.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.position = nn.Linear(width, width, bias=False)
        self.content_bias = nn.Parameter(torch.empty(heads, width // heads))
        self.position_bias = nn.Parameter(torch.empty(heads, width // heads))
        nn.init.xavier_uniform_(self.content_bias)
        nn.init.xavier_uniform_(self.position_bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Frames) -> Frames:
        """Same shape out."""
        query_BHTE, key_BHTE, value_BHTE = (self._split(of(x_BTD)) for of in (self.query, self.key, self.value))
        content_BHTE = query_BHTE + self.content_bias[:, None]
        seen_BHTE = functional.scaled_dot_product_attention(
            content_BHTE, key_BHTE, value_BHTE, attn_mask=self.bias(query_BHTE)
        )
        return self.dropout(self.out(seen_BHTE.transpose(1, 2).flatten(2)))

    def bias(self, query_BHTE: Float[Tensor, "batch heads frames head"]) -> Float[Tensor, "batch heads frames frames"]:
        """What distances add to the logits, scaled as these are."""
        frames, width = query_BHTE.shape[-2:]
        place = torch.arange(frames - 1, -frames, -1, device=query_BHTE.device)
        distance_LD = sinusoids(place, self.position.in_features).to(query_BHTE)
        distance_HLE = self.position(distance_LD).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        logits_BHTL = (query_BHTE + self.position_bias[:, None]) @ distance_HLE.mT
        return shifted(logits_BHTL) * width**-0.5

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def sinusoids(place: Tensor, width: int) -> Float[Tensor, "places width"]:
    """Sines in the even columns, cosines in the odd ones, of wavelengths from 2 pi to 20 000 pi (Vaswani et al.)."""
    rate = 10_000 ** -(torch.arange(0, width, 2, device=place.device) / width)
    angle = place[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def shifted(
    logits_BHTL: Float[Tensor, "batch heads frames distances"],
) -> Float[Tensor, "batch heads frames frames"]:
    """Row i, column j: the logit of distance i - j; distances run from T - 1 down to 1 - T (Dai et al., appendix B)."""
    batch, heads, frames, _ = logits_BHTL.shape
    padded = functional.pad(logits_BHTL, (1, 0)).view(batch, heads, 2 * frames, frames)[:, :, 1:]
    return padded.reshape(batch, heads, frames, 2 * frames - 1)[..., :frames]


class Recurrence(nn.Module):
    """Two recurrent layers that read both ways, back to the width."""

    def __init__(self, width: int, memory: int) -> None:
        super().__init__()
        self.memory = nn.GRU(width, memory, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(2 * memory, width)

    def forward(self, x_BTD: Frames) -> Frames:
        """Same shape out."""
        return self.out(self.memory(x_BTD)[0])


class TimeFrequencyAttention(nn.Module):
    """A gate for each feature, from all frames, then one for each frame, from all features (BSS-CFFMA).

    Each gate is half that of both poolings together and a quarter of each alone.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width))
        self.both = nn.Conv1d(2, 1, 5, padding=2)
        self.alone = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x_BTD: Frames) -> Frames:
        """Same shape out."""
        most_B1D, mean_B1D = (self.features(pool) for pool in (x_BTD.amax(1, True), x_BTD.mean(1, True)))
        x_BTD = x_BTD * _gate(most_B1D + mean_B1D, most_B1D, mean_B1D)
        most_B1T, mean_B1T = x_BTD.amax(2, True).mT, x_BTD.mean(2, True).mT
        both_B1T = self.both(torch.cat([mean_B1T, most_B1T], dim=1))
        return x_BTD * _gate(both_B1T, self.alone(most_B1T), self.alone(mean_B1T)).mT


def _gate(both: Tensor, most: Tensor, mean: Tensor) -> Tensor:
    return 0.5 * both.sigmoid() + 0.25 * most.sigmoid() + 0.25 * mean.sigmoid()
