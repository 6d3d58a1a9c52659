"""Layers that look along time, of the past alone or of both sides: convolution modules, gates, running norms.

Both forms have the same parameters and the same frames in and out, so a teacher that sees both sides matches its causal
student feature by feature. `memory` is what a causal layer goes on from; the other form takes None.
"""

from itertools import pairwise
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from training.models.layers import without_autocast
from training.models.streaming import Memory

# Shape letters in this file: B batch, C channels, T frames, F bins, D width of a vector.

Maps: TypeAlias = Float[Tensor, "batch channels frames bins"]
Vectors: TypeAlias = Float[Tensor, "batch width frames"]

NORM_FLOOR = 1e-5
"""Added to a variance."""


def reaching(x: Tensor, places: int, memory: Memory | None) -> Tensor:
    """`x` with `places` frames more before it (axis 2); without a memory, zeros, and half of them on either side."""
    if memory is not None:
        return memory.behind(x, places, 2)
    half = places // 2
    return functional.pad(x, (0, 0) * (x.ndim - 3) + (half, places - half))


class RunningNorm(nn.Module):
    """Mean and variance over channels, bins and all frames so far; a gain and a bias for each channel (cLN).

    Without a memory they are over all frames of the utterance. What was heard is counted in double precision.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        """[batch, channels, frames, ...] in and out."""
        with without_autocast(x):
            mean, rate = self.statistics(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x, memory)
            shape = (1, -1, *[1] * (x.ndim - 2))
            return ((x - mean) * rate * self.gain.view(shape) + self.bias.view(shape)).to(x.dtype)

    def statistics(self, x: Tensor, memory: Memory | None) -> tuple[Tensor, Tensor]:
        """Mean and one over the deviation, [batch, 1, frames or 1, ...]."""
        axes = [axis for axis in range(1, x.ndim) if axis != 2]
        variance_B1T, mean_B1T = torch.var_mean(x, axes, correction=0, keepdim=True)
        moments_2BT = torch.stack([mean_B1T, variance_B1T + mean_B1T.square()]).flatten(2).double()
        if memory is None:
            mean_2BT = moments_2BT.mean(-1, keepdim=True)
        else:
            sums_2BT, frames = moments_2BT.cumsum(-1), x.shape[2]
            before = memory.earlier(sums_2BT.new_zeros(3, len(x), 1))
            count_T = torch.arange(1, frames + 1, device=x.device) + before[2]
            sums_2BT = sums_2BT + before[:2]
            memory.keep(torch.cat([sums_2BT[..., -1:], count_T[None, :, -1:]]))
            mean_2BT = sums_2BT / count_T
        mean_BT, square_BT = mean_2BT
        rate_BT = ((square_BT - mean_BT.square()).clamp(min=0) + NORM_FLOOR).rsqrt()
        shape = (len(x), 1, -1, *[1] * (x.ndim - 3))
        return mean_BT.to(x.dtype).view(shape), rate_BT.to(x.dtype).view(shape)


class ConvolutionModule(nn.Module):
    """Depthwise convolutions that look 1, 2, 4, ... frames and one bin away, each between two pointwise ones (TFCM).

    Source: MTFAA-Net (Zhang et al. 2022), its temporal-frequency convolution module; ours computes what its authors'
    does.
    """

    def __init__(self, channels: int, depth: int = 6) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvolutionBlock(channels, 2**place) for place in range(depth))

    def forward(self, x_BCTF: Maps, memory: Memory | None) -> Maps:
        """Same shape out."""
        for block in self.blocks:
            x_BCTF = block(x_BCTF, memory)
        return x_BCTF


class ConvolutionBlock(nn.Module):
    """One of them; a residual around it."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.reach = 2 * dilation
        self.inward = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.PReLU(channels))
        self.across = nn.Conv2d(channels, channels, 3, padding=(0, 1), dilation=(dilation, 1), groups=channels)
        self.normed = nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))
        self.outward = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCTF: Maps, memory: Memory | None) -> Maps:
        """Same shape out."""
        # contiguous: oneDNN's bf16 gradient of a dilated depthwise kernel is now and then NaN with channels last
        seen_BCTF = self.across(reaching(self.inward(x_BCTF), self.reach, memory).contiguous())
        return x_BCTF + self.outward(self.normed(seen_BCTF))


class GatedLayer(nn.Module):
    """A dilated convolution gated by another one, squeezed between two pointwise ones (GTCM of TEA-PSE 2.0)."""

    def __init__(self, width: int, squeezed: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.inward = nn.Conv1d(width, squeezed, 1)
        self.value, self.gate = (NormedConvolution(squeezed, squeezed, kernel, dilation) for _ in range(2))
        self.outward = NormedConvolution(squeezed, width)

    def forward(self, x_BDT: Vectors, memory: Memory | None) -> Vectors:
        """Same shape out."""
        inner_BDT = self.inward(x_BDT)
        value_BDT = self.value(inner_BDT, memory)
        return x_BDT + self.outward(value_BDT * self.gate(inner_BDT, memory).sigmoid(), memory)


class NormedConvolution(nn.Module):
    """A slope, a running norm, then a convolution along time."""

    def __init__(self, width: int, out_width: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.slope, self.norm = nn.PReLU(width), RunningNorm(width)
        self.convolution = nn.Conv1d(width, out_width, kernel, dilation=dilation)

    def forward(self, x_BDT: Vectors, memory: Memory | None) -> Float[Tensor, "batch out_width frames"]:
        """As many frames out."""
        normed_BDT = self.norm(self.slope(x_BDT), memory)
        return self.convolution(reaching(normed_BDT, self.reach, memory) if self.reach else normed_BDT)


class GatedStack(nn.Module):
    """Gated layers of growing dilation (S-GTCM)."""

    def __init__(self, width: int, squeezed: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GatedLayer(width, squeezed, kernel, dilation) for dilation in dilations)

    def forward(self, x_BDT: Vectors, memory: Memory | None) -> Vectors:
        """Same shape out."""
        for layer in self.layers:
            x_BDT = layer(x_BDT, memory)
        return x_BDT


def halvings(bins: int, levels: int, kernel: int, stride: int) -> tuple[int, ...]:
    """How many bins are left after none, one, two, ... convolutions without padding."""
    widths = [bins]
    for _ in range(levels):
        widths.append((widths[-1] - kernel) // stride + 1)
    return tuple(widths)


def remainders(widths: tuple[int, ...], kernel: int, stride: int) -> tuple[int, ...]:
    """Bins that each transposed convolution must add to come back to the width above it; one a level."""
    return tuple(above - ((below - 1) * stride + kernel) for above, below in pairwise(widths))
