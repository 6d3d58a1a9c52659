"""Stage 1 for one frame at a time: the layers of `repairing` out of those of `frames`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from training.models.rad_net2.frames import FrameBlock, FrameNorm, FrameStacks, Places, State, padded, windows
from training.models.rad_net2.repairing import ComNet, Down, Up
from training.models.rad_net2.temporal import ConvolutionModule

# Shape letters in this file: F bins, C channels, P parts (real, imaginary), G networks side by side, B inputs of each,
# D width of a vector.


def gated_pair(level: Down | Up) -> tuple[Any, Any]:
    """The convolutions of value and gate."""
    return level.gated.value, level.gated.gate


def blocks_of(module: ConvolutionModule | None) -> list[Any]:
    """Of a convolution module; none where there is none."""
    return [] if module is None else list(module.blocks)


class FrameDown:
    """`Down`."""

    def __init__(self, down: Down, bins: int, places: Places) -> None:
        """`bins`: of the output."""
        value, gate = gated_pair(down)
        self.size, self.stride = value.kernel_size[1], value.stride[1]
        weight = torch.cat([value.weight, gate.weight])[:, :, 0]  # [2 * out, in, size]
        self.weight, self.bias = weight.permute(2, 1, 0).flatten(0, 1).contiguous(), torch.cat([value.bias, gate.bias])
        self.norm, self.slope = FrameNorm([down.norm], places), down.slope.weight
        self.blocks = [FrameBlock([block], bins, places) for block in blocks_of(down.module)]

    def __call__(self, x_FC: Tensor, state: State, frame: int) -> Tensor:
        """A quarter of the bins out."""
        value, gate = torch.addmm(self.bias, windows(x_FC, self.size, self.stride), self.weight).chunk(2, dim=1)
        x_FC = functional.prelu(self.norm(value * gate.sigmoid(), state), self.slope)
        for block in self.blocks:
            x_FC = block(x_FC, state, frame)
        return x_FC


class FrameUp:
    """`Up` of both parts of the spectrum, side by side.

    An output bin 4m + r has two inputs: bin m through the weight r, bin m - 1 through the weight r + 4.
    """

    def __init__(self, ups: Sequence[Up], bins: int, places: Places) -> None:
        """`bins`: of the output."""
        self.bins, first = bins, ups[0]
        self.stride: int = gated_pair(first)[0].stride[1]
        self.weights = [self._weights(up) for up in ups]
        norms = [up.norm for up in ups if up.norm is not None]
        slopes: list[Tensor] = [up.slope.weight for up in ups if up.slope is not None]
        self.norm = FrameNorm(norms, places) if norms else None
        self.slope = torch.cat(slopes) if slopes else None
        self.blocks = [
            FrameBlock(blocks, bins, places) for blocks in zip(*(blocks_of(up.module) for up in ups), strict=True)
        ]

    def _weights(self, up: Up) -> tuple[Tensor, Tensor, Tensor]:
        """For bin m - 1 and bin m, [in, stride * 2 * out], and the bias of all of it."""
        value, gate = gated_pair(up)
        weight = torch.cat([value.weight, gate.weight], dim=1)[:, :, 0]  # [in, 2 * out, size]
        weight = functional.pad(weight, (0, 2 * self.stride - weight.shape[-1]))
        before, here = (half.transpose(1, 2).flatten(1).contiguous() for half in reversed(weight.split(self.stride, 2)))
        return before, here, torch.cat([value.bias, gate.bias]).repeat(self.stride)

    def __call__(self, x_FC: Tensor, skip_FC: Tensor, state: State, frame: int) -> Tensor:
        """Four times as many bins out, the parts' channels side by side."""
        rows = -(-self.bins // self.stride)
        parts = []
        for part_FC, (before, here, bias) in zip(x_FC.chunk(len(self.weights), dim=1), self.weights, strict=True):
            joined = padded(torch.cat([part_FC, skip_FC], dim=1), 1, rows - len(x_FC))
            both = torch.addmm(bias, joined[:rows], before).addmm_(joined[1 : rows + 1], here)
            value, gate = both.view(rows * self.stride, -1)[: self.bins].chunk(2, dim=1)
            parts.append(value * gate.sigmoid())
        x_FC = torch.cat(parts, dim=1)
        if self.norm is not None:
            x_FC = self.norm(x_FC, state)
        if self.slope is not None:
            x_FC = functional.prelu(x_FC, self.slope)
        for block in self.blocks:
            x_FC = block(x_FC, state, frame)
        return x_FC


class FrameRepairing:
    """`ComNet`."""

    def __init__(self, net: ComNet, widths: Sequence[int], places: Places) -> None:
        """`widths`: bins before and behind each of the levels."""
        downs: list[Any] = list(net.down)
        stacks: list[Any] = list(net.stacks)
        ups: list[tuple[Any, ...]] = list(zip(net.up_real, net.up_imaginary, strict=True))
        self.downs = [FrameDown(down, bins, places) for down, bins in zip(downs, widths[1:], strict=True)]
        channels = downs[0].norm.gain.numel()
        order = torch.arange(channels * widths[-1]).view(channels, widths[-1]).T.flatten()
        self.stacks = [FrameStacks([stack], 1, order, places) for stack in stacks]
        self.ups = [FrameUp(both, bins, places) for both, bins in zip(ups, widths[-2::-1], strict=True)]

    def __call__(self, x_FP: Tensor, state: State, frame: int) -> Tensor:
        """[bins, 2] in and out."""
        x_FC, skips = x_FP, list[Tensor]()
        for down in self.downs:
            x_FC = down(x_FC, state, frame)
            skips.append(x_FC)
        x_GBD = x_FC.reshape(1, 1, -1)
        for stack in self.stacks:
            x_GBD = stack(x_GBD, state, frame)
        x_FC = x_GBD.view(x_FC.shape).repeat(1, 2)
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x_FC = up(x_FC, skip, state, frame)
        return x_FC
