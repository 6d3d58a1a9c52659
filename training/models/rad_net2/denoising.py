"""Stage 2: complex masks from two bands and from the whole one, between complex feature coders; causal."""

from itertools import pairwise

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from simulation.schema import Schema
from training.models.equivariant import ComplexConvolution, ComplexLayer
from training.models.layers import without_autocast
from training.models.rad_net2.axial import FullAttention, PairedAttention
from training.models.rad_net2.temporal import GatedStack
from training.models.streaming import Memory
from training.spectral import POWER_FLOOR

# Shape letters in this file: B batch, P the pair (real, imaginary), C channels, T frames, F bins, D width of a vector.

KERNEL = (2, 5)
"""Frames and bins of the convolutions; the stride is two bins (DCCRN)."""
DILATIONS = (1, 2, 4, 8, 16, 32)
GATE_KERNEL = 5


class Denoising(Schema):
    """Settings of stage 2. All of it is a reconstruction: of RaD-Net 2's second stage only the parts are published."""

    features: int = Field(default=8, gt=3)
    """Complex channels between the feature coders."""
    channels: tuple[int, ...] = (16, 16, 32, 32, 64, 64)
    """Complex channels of the levels of each masking network."""
    squeezed: int = Field(default=64, gt=0)
    """Of the vectors in its temporal stacks."""
    stacks: int = Field(default=1, gt=0)
    depth: int = Field(default=6, ge=0)
    """Blocks of a feature coder's convolution module."""
    bounded_masks: bool = True
    """Masks have moduli below one, by a hyperbolic tangent (DCCRN-E); else they are whatever comes out."""
    attention: str = Field(default="pair", pattern="^(pair|full|none)$")
    """Complex axial self-attention: two real ones as a complex map, all eight products, or none (ablation)."""
    window: int = Field(default=0, ge=0)
    """Frames that attention along time sees, in the paired form; 0: along frequency alone."""


class DenoisingNet(nn.Module):
    """Learnt compression, feature encoder, masks of either half band, mask of the whole, feature decoder, expansion.

    Source: RaD-Net 2 (arXiv 2406.07498) names the parts, S-DCCRN (Lv et al. 2022) their order. Sizes are ours:
    4,563,674 parameters; small (channels 16, 16, 32, 32, 32, 32, squeezed 32) 1,518,554; two stacks 7,651,034. None is
    published. Complex attention adds 424.
    """

    def __init__(self, config: Denoising, bins: int) -> None:
        """`bins` without the highest one, to be halved once and then once a level."""
        super().__init__()
        features = config.features
        self.compression = Compression(bins)
        self.inward = nn.Sequential(ComplexConvolution(1, features, (1, 1), bias=True), PartNorm(features))
        self.encoder = Coder(config)
        self.low, self.high = (Masking(features, bins // 2, config) for _ in range(2))
        self.whole = Masking(2 * features, bins, config)
        self.joined = ComplexConvolution(2 * features, features, (1, 1), bias=True)
        self.decoder = Coder(config)
        self.outward = ComplexConvolution(features, 1, (1, 1), bias=True)
        for layer in self.modules():
            if isinstance(layer, ComplexLayer) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, z_BPTF: Float[Tensor, "batch 2 frames bins"], memory: Memory) -> Tensor:
        """Real and imaginary part of a repaired spectrum in, of a clean one out; same shape."""
        z_BPCTF = self.encoder(self.inward(self.compression(z_BPTF).unsqueeze(2)), memory)
        low, high = z_BPCTF.chunk(2, dim=-1)
        bands = torch.cat([product(low, self.low(low, memory)), product(high, self.high(high, memory))], dim=-1)
        both = torch.cat([bands, z_BPCTF], dim=2)
        z_BPCTF = self.decoder(self.joined(product(both, self.whole(both, memory))), memory)
        return self.compression.expanded(self.outward(z_BPCTF).squeeze(2))


class Compression(nn.Module):
    """Raises the magnitude of each bin to a learnt power in (0, 1), and back; phases stay (LSC of S-DCCRN)."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(bins))

    def forward(self, z_BPTF: Tensor) -> Tensor:
        """Compressed; in single precision at least."""
        return self._raised(z_BPTF, self.logit.sigmoid())

    def expanded(self, z_BPTF: Tensor) -> Tensor:
        """The inverse."""
        return self._raised(z_BPTF, 1 / self.logit.sigmoid())

    def _raised(self, z_BPTF: Tensor, exponent: Tensor) -> Tensor:
        with without_autocast(z_BPTF):
            wide = z_BPTF.float() if z_BPTF.dtype in (torch.bfloat16, torch.float16) else z_BPTF
            return wide * (wide.square().sum(1, keepdim=True) + POWER_FLOOR) ** ((exponent - 1) / 2)


class PartNorm(nn.Module):
    """Batch normalisation and slope of each part of each channel by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.slope = nn.BatchNorm2d(2 * channels), nn.PReLU(2 * channels)

    def forward(self, z_BPCTF: Float[Tensor, "batch 2 channels frames bins"]) -> Tensor:
        """Same shape out."""
        return self.slope(self.norm(z_BPCTF.flatten(1, 2))).unflatten(1, (2, -1))


class Coder(nn.Module):
    """Complex convolution module, then attention: what the feature encoder and decoder (CFE, CFD) have in common."""

    def __init__(self, config: Denoising) -> None:
        super().__init__()
        features = config.features
        self.blocks = nn.ModuleList(ComplexBlock(features, 2**place) for place in range(config.depth))
        self.attention: nn.Module | None = None
        if config.attention == "pair":
            self.attention = PairedAttention(features, config.window, causal=True)
        elif config.attention == "full":
            self.attention = FullAttention(features)

    def forward(self, z_BPCTF: Float[Tensor, "batch 2 channels frames bins"], memory: Memory) -> Tensor:
        """Same shape out."""
        for block in self.blocks:
            z_BPCTF = block(z_BPCTF, memory)
        return z_BPCTF if self.attention is None else self.attention(z_BPCTF, memory)


class ComplexBlock(nn.Module):
    """A block of the convolution module of stage 1, complex."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.reach = 2 * dilation
        self.inward = ComplexConvolution(channels, channels, (1, 1), bias=True)
        self.inner = PartNorm(channels)
        self.across = Depthwise(channels, dilation)
        self.normed = PartNorm(channels)
        self.outward = ComplexConvolution(channels, channels, (1, 1), bias=True)

    def forward(self, z_BPCTF: Float[Tensor, "batch 2 channels frames bins"], memory: Memory) -> Tensor:
        """Same shape out."""
        inner = memory.behind(self.inner(self.inward(z_BPCTF)), self.reach, 3)
        return z_BPCTF + self.outward(self.normed(self.across(inner)))


class Depthwise(ComplexLayer):
    """A complex convolution of each channel by itself, over three frames and three bins."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__((channels, 1, 3, 3), bias=True)
        self.dilation = (dilation, 1)

    def forward(self, z_BPCTF: Float[Tensor, "batch 2 channels frames bins"]) -> Tensor:
        """Fewer frames by twice the dilation."""
        batch, channels = len(z_BPCTF), z_BPCTF.shape[2]
        weight = torch.cat([self.real, self.imaginary], dim=1).flatten(0, 1).unsqueeze(1)
        out = functional.conv2d(
            z_BPCTF.flatten(0, 1), weight, padding=(0, 1), dilation=self.dilation, groups=channels
        ).unflatten(0, (batch, 2))
        by_real, by_imaginary = out.unflatten(2, (channels, 2)).unbind(3)
        real = by_real[:, 0] - by_imaginary[:, 1]
        imaginary = by_real[:, 1] + by_imaginary[:, 0]
        assert self.bias is not None
        return torch.stack([real, imaginary], dim=1) + self.bias.view(1, 2, -1, 1, 1)


class ComplexTransposed(ComplexLayer):
    """Twice as many bins; of the two frames that each frame makes, the later one falls on the next frame."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__((in_channels, out_channels, *KERNEL))
        self.bias = nn.Parameter(torch.zeros(2 * out_channels))

    def block(self) -> Tensor:
        """Inputs come first in the weight of a transposed convolution."""
        upper = torch.cat([self.real, self.imaginary], dim=1)
        return torch.cat([upper, torch.cat([-self.imaginary, self.real], dim=1)], dim=0)

    def forward(self, z_BPCTF: Float[Tensor, "batch 2 channels frames bins"], memory: Memory) -> Tensor:
        """[batch, 2, out_channels, frames, 2 bins]: no frame of look ahead, none of delay."""
        behind = memory.behind(z_BPCTF, 1, 3).flatten(1, 2)
        out = functional.conv_transpose2d(
            behind, self.block(), self.bias, stride=(1, 2), padding=(0, 2), output_padding=(0, 1)
        )
        return out[:, :, 1:-1].unflatten(1, (2, -1))


class Masking(nn.Module):
    """A small complex encoder and decoder with temporal stacks between them: a mask for what comes in (DCCSN)."""

    def __init__(self, in_channels: int, bins: int, config: Denoising) -> None:
        super().__init__()
        self.bounded = config.bounded_masks
        channels = config.channels
        levels = list(pairwise((in_channels, *channels)))
        width = channels[-1] * (bins >> len(channels))
        self.down = nn.ModuleList(
            nn.Sequential(ComplexConvolution(inner, outer, KERNEL, 2, 2, bias=True), PartNorm(outer))
            for inner, outer in levels
        )
        self.real, self.imaginary = (
            nn.ModuleList(GatedStack(width, config.squeezed, GATE_KERNEL, DILATIONS) for _ in range(config.stacks))
            for _ in range(2)
        )
        self.up = nn.ModuleList(ComplexTransposed(2 * outer, inner) for inner, outer in reversed(levels))
        self.up_norms = nn.ModuleList(PartNorm(inner) for inner, _ in reversed(levels[1:]))

    def forward(self, z_BPCTF: Float[Tensor, "batch 2 channels frames bins"], memory: Memory) -> Tensor:
        """Same shape out."""
        skips = []
        for down in self.down:
            z_BPCTF = down(memory.behind(z_BPCTF, 1, 3))
            skips.append(z_BPCTF)
        z_BPCTF = self._through_time(z_BPCTF, memory)
        for place, up in enumerate(self.up):
            z_BPCTF = up(torch.cat([z_BPCTF, skips[-1 - place]], dim=2), memory)
            if place < len(self.up_norms):
                z_BPCTF = self.up_norms[place](z_BPCTF)
        return bounded(z_BPCTF) if self.bounded else z_BPCTF

    def _through_time(self, z_BPCTF: Tensor, memory: Memory) -> Tensor:
        """The stacks in pairs, each pair a complex map of the vectors of a frame."""
        batch, bins = len(z_BPCTF), z_BPCTF.shape[-1]
        parts = z_BPCTF.transpose(0, 1).flatten(0, 1).transpose(2, 3).flatten(1, 2)
        for real, imaginary in zip(self.real, self.imaginary, strict=True):
            by_real, by_imaginary = (stack(parts, memory).unflatten(0, (2, batch)) for stack in (real, imaginary))
            parts = torch.cat([by_real[0] - by_imaginary[1], by_real[1] + by_imaginary[0]])
        return parts.unflatten(1, (-1, bins)).transpose(2, 3).unflatten(0, (2, batch)).transpose(0, 1)


def bounded(z: Tensor) -> Tensor:
    """Complex numbers, their parts along the second axis, with the hyperbolic tangent of their moduli."""
    modulus = (z.square().sum(1, keepdim=True) + POWER_FLOOR).sqrt()
    return z * (modulus.tanh() / modulus)


def product(z: Tensor, w: Tensor) -> Tensor:
    """Of complex numbers whose parts lie along the second axis."""
    (x, y), (u, v) = z.unbind(1), w.unbind(1)
    return torch.stack([x * u - y * v, x * v + y * u], dim=1)
