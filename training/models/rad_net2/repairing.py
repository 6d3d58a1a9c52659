"""Stage 1: COM-Net, which maps a degraded spectrum to a repaired one; causal, or seeing both sides as its teacher."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from simulation.schema import Schema
from training.models.rad_net2.temporal import (
    ConvolutionModule,
    GatedStack,
    Maps,
    RunningNorm,
    halvings,
    remainders,
)
from training.models.streaming import Memory

# Shape letters in this file: B batch, C channels, T frames, F bins, D width of a vector.

KERNEL, STRIDE, LEVELS = 7, 4, 3
"""Of the gated convolutions along frequency (TEA-PSE 2.0)."""


class Repairing(Schema):
    """Settings of stage 1; sizes are those of TEA-PSE 2.0, that RaD-Net 2 kept them is a reconstruction."""

    channels: int = Field(default=80, gt=0)
    """Of every map, and of the squeezed vectors."""
    stacks: int = Field(default=4, gt=0)
    dilations: tuple[int, ...] = (1, 2, 5, 9)
    """Of the layers of a stack."""
    kernel: int = Field(default=5, gt=1)
    depth: int = Field(default=6, ge=0)
    """Blocks of a convolution module; their dilations are 1, 2, 4, ..."""
    output_norm: bool = False
    """A running norm and a slope behind each output too: as TEA-PSE counts, but it takes the level away."""


class ComNet(nn.Module):
    """Three gated convolutions down in frequency, gated temporal stacks, and a way up for each part of the spectrum.

    Source: TEA-PSE 2.0 (Ju et al., SLT 2022), its complex network without the speaker's branch, which RaD-Net and
    RaD-Net 2 name as their repairing network. 3,985,524 parameters with plain outputs, 3,985,530 with `output_norm`;
    with the branch it would have the published 4.56 M. Its convolutions see 903 frames; beyond them only norms look.
    """

    def __init__(self, config: Repairing, bins: int) -> None:
        super().__init__()
        channels = config.channels
        widths = halvings(bins, LEVELS, KERNEL, STRIDE)
        self.down = nn.ModuleList(Down(2 if level == 0 else channels, config) for level in range(LEVELS))
        self.stacks = nn.ModuleList(
            GatedStack(channels * widths[-1], channels, config.kernel, config.dilations) for _ in range(config.stacks)
        )
        self.up_real, self.up_imaginary = (
            nn.ModuleList(
                Up(config, extra, last=level == 0) for level, extra in reversed(list(enumerate(_extra(widths))))
            )
            for _ in range(2)
        )

    def forward(self, x_BCTF: Float[Tensor, "batch 2 frames bins"], memory: Memory | None) -> Tensor:
        """Real and imaginary part of the degraded spectrum in, of the repaired one out."""
        return self.examined(x_BCTF, memory)[0]

    def examined(
        self, x_BCTF: Float[Tensor, "batch 2 frames bins"], memory: Memory | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Repaired spectrum, and what distillation compares: all maps down, all stacks, the maps up but the last."""
        skips, features = [], []
        for down in self.down:
            x_BCTF = down(x_BCTF, memory)
            skips.append(x_BCTF)
        features += skips
        x_BDT = x_BCTF.transpose(2, 3).flatten(1, 2)
        for stack in self.stacks:
            x_BDT = stack(x_BDT, memory)
            features.append(x_BDT)
        middle_BCTF = x_BDT.unflatten(1, (x_BCTF.shape[1], -1)).transpose(2, 3)
        parts = []
        for ups in (self.up_real, self.up_imaginary):
            part = middle_BCTF
            for place, up in enumerate(ups):
                part = up(torch.cat([part, skips[-1 - place]], dim=1), memory)
                features.append(part)
            parts.append(features.pop())
        return torch.cat(parts, dim=1), features


def _extra(widths: tuple[int, ...]) -> tuple[int, ...]:
    return remainders(widths, KERNEL, STRIDE)


class Gated(nn.Module):
    """A convolution along frequency times the sigmoid of another one."""

    def __init__(self, layers: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.value, self.gate = layers(), layers()

    def forward(self, x_BCTF: Maps) -> Float[Tensor, "batch out_channels frames out_bins"]:
        """A quarter of the bins, or four times as many."""
        return self.value(x_BCTF) * self.gate(x_BCTF).sigmoid()


class Down(nn.Module):
    """A quarter of the bins: gated convolution, running norm, slope, convolution module (FD)."""

    def __init__(self, in_channels: int, config: Repairing) -> None:
        super().__init__()
        self.gated = Gated(lambda: nn.Conv2d(in_channels, config.channels, (1, KERNEL), (1, STRIDE)))
        self.norm, self.slope = RunningNorm(config.channels), nn.PReLU(config.channels)
        self.module = ConvolutionModule(config.channels, config.depth)

    def forward(self, x_BCTF: Maps, memory: Memory | None) -> Float[Tensor, "batch out_channels frames out_bins"]:
        """A quarter of the bins out."""
        return self.module(self.slope(self.norm(self.gated(x_BCTF), memory)), memory)


class Up(nn.Module):
    """Four times as many bins: the mirror of `Down`; the last one makes the output and has no convolution module."""

    def __init__(self, config: Repairing, extra: int, last: bool) -> None:
        super().__init__()
        out = 1 if last else config.channels
        shape = (1, KERNEL), (1, STRIDE)
        self.gated = Gated(lambda: nn.ConvTranspose2d(2 * config.channels, out, *shape, output_padding=(0, extra)))
        plain = last and not config.output_norm
        self.norm = None if plain else RunningNorm(out)
        self.slope = None if plain else nn.PReLU(out)
        self.module = None if last else ConvolutionModule(out, config.depth)

    def forward(self, x_BCTF: Maps, memory: Memory | None) -> Float[Tensor, "batch out_channels frames out_bins"]:
        """Four times as many bins out."""
        x_BCTF = self.gated(x_BCTF)
        if self.norm is not None and self.slope is not None:
            x_BCTF = self.slope(self.norm(x_BCTF, memory))
        return x_BCTF if self.module is None else self.module(x_BCTF, memory)
