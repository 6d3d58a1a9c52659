"""What RaD-Net 2 computes, for one frame at a time: every layer a few matrix products on weights prepared once.

A frame is a matrix of bins by channels. A convolution along frequency is a product of its overlapping windows with one
matrix; along time, a frame is multiplied by the weights of all taps at once, and what belongs to later frames waits.
Batch normalisation is folded into the weights before it. Networks of equal shape stand side by side, as more columns
or as a batch of products. These layers have no gradient; `test_the_streamer_answers_as_the_network_does` holds them to
the layers they are made from.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.rad_net2.temporal import NORM_FLOOR, GatedStack, NormedConvolution, RunningNorm

# Shape letters in this file: F bins, C channels, K numbers of a window; G networks side by side, B inputs that share
# their weights, D width of a vector, S of a squeezed one.

State = list[Any]
"""What the layers of one stream keep, each at its own place."""


class Places:
    """Gives each layer its place in a stream's state, and begins new streams."""

    def __init__(self) -> None:
        self._first: list[Callable[[], Any]] = []

    def reserve(self, first: Callable[[], Any]) -> int:
        """A place; `first` makes what lies there before the first frame."""
        self._first.append(first)
        return len(self._first) - 1

    def begin(self) -> State:
        """Of a stream that has heard nothing."""
        return [first() for first in self._first]


def folded(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d, axis: int = 0) -> tuple[Tensor, Tensor]:
    """Weights and biases of a convolution with the batch normalisation behind it; outputs lie along `axis`."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shape = [1] * weight.ndim
    shape[axis] = -1
    return weight * scale.view(shape), ((0 if bias is None else bias) - norm.running_mean) * scale + norm.bias


def windows(x_FC: Tensor, size: int, stride: int) -> Tensor:
    """[windows, size * C]: each a copy of `size` neighbouring bins."""
    bins, channels = x_FC.shape
    count = (bins - size) // stride + 1
    return x_FC.as_strided((count, size * channels), (stride * channels, 1)).contiguous()


def padded(x_FC: Tensor, before: int, after: int) -> Tensor:
    """Bins of zeros at both ends."""
    return torch.constant_pad_nd(x_FC, (0, 0, before, after))


class Scattering:
    """A convolution along time as products of the newest frame's windows with the weights of every tap."""

    def __init__(self, taps: Sequence[Tensor], bias: Tensor, rows: int, dilation: int, places: Places) -> None:
        """`taps`: [K, C] each, for the newest frame first; `rows`: how many windows a frame has."""
        self.taps, self.bias, self.dilation = [tap.contiguous() for tap in taps], bias, dilation
        self.span = (len(taps) - 1) * dilation
        self.place = places.reserve(lambda: [bias.repeat(rows, 1) for _ in range(self.span)])

    def __call__(self, windows_FK: Tensor, state: State, frame: int) -> Tensor:
        """[F, C]: what this frame and those before it make."""
        waiting: list[Tensor] = state[self.place]
        now = frame % self.span
        out = waiting[now].addmm_(windows_FK, self.taps[0])
        for tap in range(1, len(self.taps) - 1):
            waiting[(frame + tap * self.dilation) % self.span].addmm_(windows_FK, self.taps[tap])
        waiting[now] = torch.addmm(self.bias, windows_FK, self.taps[-1])
        return out


class FrameNorm:
    """`RunningNorm` over a frame, for networks that stand side by side in its columns; sums are Python's doubles.

    They are of what is left after the mean so far, so that squares do not cancel.
    """

    def __init__(self, norms: Sequence[RunningNorm], places: Places) -> None:
        self.gains, self.biases = [norm.gain for norm in norms], [norm.bias for norm in norms]
        self.place = places.reserve(lambda: [(0.0, 0.0, 0)] * len(norms))

    def __call__(self, x_FC: Tensor, state: State) -> Tensor:
        """Same shape out."""
        networks = len(self.gains)
        if networks == 1:
            return self._one(x_FC, 0, state)
        parts = x_FC.chunk(networks, dim=1)
        return torch.cat([self._one(part.contiguous(), place, state) for place, part in enumerate(parts)], dim=1)

    def _one(self, x_FC: Tensor, network: int, state: State) -> Tensor:
        mean, square, frames = state[self.place][network]
        origin = mean if frames else x_FC.mean().item()
        shifted = x_FC - origin
        flat = shifted.view(-1)
        step = flat.sum().item() / flat.numel()
        spread = torch.dot(flat, flat).item() / flat.numel() - step * step
        frames += 1
        here = origin + step
        mean += (here - mean) / frames
        square += (spread + here * here - square) / frames
        state[self.place][network] = mean, square, frames
        rate = (max(square - mean * mean, 0.0) + NORM_FLOOR) ** -0.5
        gain, bias = self.gains[network], self.biases[network]
        return torch.addcmul(torch.sub(bias, gain, alpha=(mean - origin) * rate), shifted, gain, value=rate)


class FrameBlock:
    """`ConvolutionBlock`, of networks side by side."""

    def __init__(self, blocks: Sequence[Any], bins: int, places: Places) -> None:
        inward, across, self.outward, slopes, seen_slopes = [], [], [], [], []
        for block in blocks:
            pointwise, norm, slope = block.inward
            weight, bias = folded(pointwise.weight, pointwise.bias, norm)
            inward.append((weight.flatten(1).T.contiguous(), bias))
            slopes.append(slope.weight)
            norm, slope = block.normed
            across.append(folded(block.across.weight, block.across.bias, norm))
            seen_slopes.append(slope.weight)
            self.outward.append((block.outward.weight.flatten(1).T.contiguous(), block.outward.bias))
        self.inward = inward
        self.slope, self.seen_slope = torch.cat(slopes), torch.cat(seen_slopes)
        weight = torch.cat([weight for weight, _ in across])  # [G * C, 1, 3 frames, 3 bins]
        self.taps = [[weight[:, 0, age, bin].contiguous() for bin in range(3)] for age in range(3)]
        self.bias = torch.cat([bias for _, bias in across])
        self.dilation = blocks[0].reach // 2
        self.place = places.reserve(
            lambda: [shifts(self.bias.new_zeros(bins, len(self.bias))) for _ in range(2 * self.dilation)]
        )

    def __call__(self, x_FC: Tensor, state: State, frame: int) -> Tensor:
        """Same shape out."""
        heard: list[tuple[Tensor, Tensor, Tensor]] = state[self.place]
        newest = shifts(functional.prelu(side_by_side(x_FC, self.inward), self.slope))
        oldest, older = frame % len(heard), (frame - self.dilation) % len(heard)
        seen = self.bias.expand_as(x_FC).clone()
        above, below = seen[1:], seen[:-1]
        for (here, lower, upper), taps in zip((heard[oldest], heard[older], newest), self.taps, strict=True):
            seen.addcmul_(here, taps[1])
            above.addcmul_(lower, taps[0])
            below.addcmul_(upper, taps[2])
        heard[oldest] = newest
        return side_by_side(functional.prelu(seen, self.seen_slope), self.outward).add_(x_FC)


def shifts(x_FC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A frame; all of it but the last bin; all but the first."""
    return x_FC, x_FC[:-1], x_FC[1:]


def side_by_side(x_FC: Tensor, maps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Each network's columns through its own matrix, with its own bias."""
    if len(maps) == 1:
        return torch.addmm(maps[0][1], x_FC, maps[0][0])
    out_FC = x_FC.new_empty(len(x_FC), sum(len(bias) for _, bias in maps))
    inner = outer = 0
    for weight, bias in maps:
        width, out_width = weight.shape
        columns = out_FC[:, outer : outer + out_width]
        torch.addmm(bias, x_FC[:, inner : inner + width], weight, out=columns)
        inner, outer = inner + width, outer + out_width
    return out_FC


class FrameStacks:
    """`GatedStack` of several networks of equal shape, each for the same number of inputs."""

    def __init__(self, stacks: Sequence[GatedStack], inputs: int, order: Tensor, places: Places) -> None:
        """`order`: which number of the network's vectors lies at each place of ours."""
        self.layers = [
            FrameGatedLayer(layers, inputs, order, places)
            for layers in zip(*(stack.layers for stack in stacks), strict=True)
        ]

    def __call__(self, x_GBD: Tensor, state: State, frame: int) -> Tensor:
        """Same shape out."""
        for layer in self.layers:
            x_GBD = layer(x_GBD, state, frame)
        return x_GBD


class FrameGatedLayer:
    """`GatedLayer`; value and gate are computed as networks side by side."""

    def __init__(self, layers: Sequence[Any], inputs: int, order: Tensor, places: Places) -> None:
        branches: list[NormedConvolution] = [layer.value for layer in layers] + [layer.gate for layer in layers]
        outward: list[NormedConvolution] = [layer.outward for layer in layers]
        inward = torch.stack([layer.inward.weight[:, order, 0] for layer in layers])  # [G, S, D]
        self.inward = inward.mT.contiguous()
        self.inward_bias = torch.stack([layer.inward.bias for layer in layers]).unsqueeze(1)
        weight = torch.stack([last.convolution.weight[order, :, 0] for last in outward]).mT  # [G, S, D]
        gain = torch.stack([last.norm.gain for last in outward])
        bias = torch.stack([last.norm.bias for last in outward])
        self.outward = (gain.unsqueeze(2) * weight).contiguous()
        self.outward_bias = torch.stack([biases(last.convolution)[order] for last in outward]).unsqueeze(1)
        self.outward_bias = torch.baddbmm(self.outward_bias, bias.unsqueeze(1), weight)
        self.first, self.last = SmallNorms(branches, inputs, places), SmallNorms(outward, inputs, places)
        self.gain = torch.stack([branch.norm.gain for branch in branches]).unsqueeze(1)
        self.bias = torch.stack([branch.norm.bias for branch in branches]).unsqueeze(1)
        taps = torch.stack([branch.convolution.weight for branch in branches])  # [2 * G, S, S, kernel]
        self.taps = taps.permute(0, 3, 2, 1).flatten(1, 2).contiguous()
        self.taps_bias = torch.stack([biases(branch.convolution) for branch in branches]).unsqueeze(1)
        kernel, width = taps.shape[-1], taps.shape[1]
        self.dilation = branches[0].reach // (kernel - 1)
        self.ages = range(kernel - 1, 0, -1)
        shape, size = (len(branches), inputs, width), branches[0].reach + 1
        self.place = places.reserve(lambda: [self.taps.new_zeros(shape) for _ in range(size)])

    def __call__(self, x_GBD: Tensor, state: State, frame: int) -> Tensor:
        """Same shape out."""
        inner = torch.baddbmm(self.inward_bias, x_GBD, self.inward)
        newest = torch.addcmul(self.bias, self.first(torch.cat([inner, inner]), state, frame), self.gain)
        heard: list[Tensor] = state[self.place]
        size = len(heard)
        heard[frame % size] = newest
        taps = [heard[(frame - age * self.dilation) % size] for age in self.ages]
        value, gate = torch.baddbmm(self.taps_bias, torch.cat([*taps, newest], dim=2), self.taps).chunk(2)
        normed = self.last(value * gate.sigmoid(), state, frame)
        return torch.baddbmm(self.outward_bias, normed, self.outward).add_(x_GBD)


class SmallNorms:
    """Slopes and running norms of vectors, for many small networks at once; gains and biases are left to the caller."""

    def __init__(self, norms: Sequence[NormedConvolution], inputs: int, places: Places) -> None:
        self.below = torch.stack([each.slope.weight for each in norms]).unsqueeze(1) - 1
        shape = (len(norms), inputs, 1)
        self.place = places.reserve(lambda: [torch.zeros(shape, dtype=torch.float64) for _ in range(2)])

    def __call__(self, x_GBS: Tensor, state: State, frame: int) -> Tensor:
        """Same shape out."""
        wide = torch.addcmul(x_GBS, x_GBS.clamp(max=0), self.below).double()
        variance, mean = torch.var_mean(wide, -1, correction=0, keepdim=True)
        overall, square = state[self.place]  # of everything heard
        square.lerp_(variance.addcmul_(mean, mean), 1 / (frame + 1))
        overall.lerp_(mean, 1 / (frame + 1))
        rate = torch.addcmul(square, overall, overall, value=-1).clamp_(min=0).add_(NORM_FLOOR).rsqrt_()
        return wide.sub_(overall).mul_(rate).to(x_GBS.dtype)


def biases(convolution: nn.Conv1d) -> Tensor:
    """Of a convolution that has them."""
    assert convolution.bias is not None
    return convolution.bias
