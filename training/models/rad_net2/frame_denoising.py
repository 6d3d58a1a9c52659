"""Stage 2 for one frame at a time: the layers of `denoising` and `axial` out of those of `frames`.

Complex channels are twice as many real columns, real parts of all before imaginary ones.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from training.models.equivariant import ComplexConvolution
from training.models.rad_net2.axial import AxialAttention, PairedAttention
from training.models.rad_net2.denoising import ComplexBlock, ComplexTransposed, DenoisingNet, Masking, PartNorm
from training.models.rad_net2.frames import FrameStacks, Places, Scattering, State, folded, padded, windows
from training.spectral import POWER_FLOOR

# Shape letters in this file: F bins, C columns, P parts (real, imaginary), N networks side by side, D width of a
# vector.

STRIP = 128
"""Keys whose products with all queries are made at once: as many as the processor's near memory holds."""

LARGEST_EXPONENT = 60.0
"""Of two, in an attention that takes no maximum away first: sums of 512 such powers are finite and not zero."""


def slope_of(norm: PartNorm) -> Tensor:
    """Of each part of each channel."""
    return norm.slope.weight


def complex_map(layer: ComplexConvolution) -> tuple[Tensor, Tensor]:
    """A pointwise complex layer as matrix and bias."""
    assert layer.bias is not None
    return layer.block().flatten(1).T.contiguous(), layer.bias


class FrameComplexBlock:
    """`ComplexBlock`; real parts of all channels stand before imaginary ones."""

    def __init__(self, block: ComplexBlock, bins: int, places: Places) -> None:
        weight, bias = folded(block.inward.block(), block.inward.bias, block.inner.norm)
        self.inward, self.inward_bias = weight.flatten(1).T.contiguous(), bias
        self.slope, self.seen_slope = slope_of(block.inner), slope_of(block.normed)
        across = block.across
        real, imaginary = (torch.diag_embed(each[:, 0].permute(1, 2, 0)) for each in (across.real, across.imaginary))
        whole = torch.cat([torch.cat([real, -imaginary], 3), torch.cat([imaginary, real], 3)], 2)
        weight, bias = folded(whole, across.bias, block.normed.norm, axis=2)  # [3 frames, 3 bins, out, in]
        taps = weight.mT.flatten(1, 2).flip(0).unbind(0)
        self.across = Scattering(taps, bias, bins, block.reach // 2, places)
        self.outward, self.outward_bias = complex_map(block.outward)

    def __call__(self, x_FC: Tensor, state: State, frame: int) -> Tensor:
        """Same shape out."""
        hidden = functional.prelu(torch.addmm(self.inward_bias, x_FC, self.inward), self.slope)
        seen = functional.prelu(self.across(windows(padded(hidden, 1, 1), 3, 1), state, frame), self.seen_slope)
        return torch.addmm(self.outward_bias, seen, self.outward).add_(x_FC)


class FrameAttention:
    """`PairedAttention` along frequency: four maps, of each real attention for each part."""

    def __init__(self, attention: PairedAttention) -> None:
        both = (attention.real, attention.imaginary)
        width = attention.real.width
        inward, inward_bias, inward_slope = zip(*(self._inward(each, width) for each in both), strict=True)
        outward, outward_bias, outward_slope = zip(*(_folded_pointwise(each.out) for each in both), strict=True)
        channels = inward[0].shape[1]
        # columns: queries, keys, values; in each those of A(x), B(y), A(y), B(x) for the parts x, y
        blocks = torch.stack(
            [_on_part(inward[net].unflatten(0, (3, width)), part, channels) for net, part in _PAIRS], dim=1
        )
        self.inward = blocks.flatten(0, 2).T.contiguous()
        self.inward_bias = _by_kind(inward_bias, width)
        self.inward_slope = _by_kind(inward_slope, width)
        self.outward = torch.block_diag(*(outward[net].T for net, _ in _PAIRS))
        self.outward_bias, self.outward_slope = (
            torch.cat([each[net] for net, _ in _PAIRS]) for each in (outward_bias, outward_slope)
        )
        self.width = width

    @staticmethod
    def _inward(attention: AxialAttention, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values one kind after another; queries such that powers of two are to be taken."""
        weight, bias, slope = (
            each.unflatten(0, (width, 3)).transpose(0, 1).clone() for each in _folded_pointwise(attention.frequency)
        )
        scale = math.log2(math.e) / math.sqrt(width)
        weight[0] *= scale
        bias[0] *= scale
        return weight.flatten(0, 1), bias.flatten(), slope.flatten()

    def __call__(self, x_FC: Tensor) -> Tensor:
        """Same shape out."""
        heads = functional.prelu(torch.addmm(self.inward_bias, x_FC, self.inward), self.inward_slope)
        heads_NDF = heads.T.contiguous().view(3, len(_PAIRS), self.width, -1)
        query, key, value = heads_NDF.unbind(0)
        largest = (query.square().sum(1).amax() * key.square().sum(1).amax()).sqrt().item()
        seen = [_attended(*each, largest) for each in zip(query, key, value, strict=True)]
        out = torch.addmm(self.outward_bias, torch.cat(seen).T, self.outward)
        by_real, by_imaginary = functional.prelu(out, self.outward_slope).view(len(x_FC), 2, 2, -1).unbind(2)
        first = by_real.flatten(1)
        first[:, : first.shape[1] // 2].sub_(by_imaginary[:, 0])
        first[:, first.shape[1] // 2 :].add_(by_imaginary[:, 1])
        return first + x_FC


_PAIRS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Attention and part of each map: A(x) - B(y) is the real part, A(y) + B(x) the imaginary one."""


def _on_part(weight: Tensor, part: int, channels: int) -> Tensor:
    """[3, width, 2 * channels]: zeros for the other part."""
    return functional.pad(weight, (part * channels, (1 - part) * channels))


def _by_kind(each: Sequence[Tensor], width: int) -> Tensor:
    """Numbers of the rows of both attentions, in the order of the maps within each kind."""
    return torch.stack([each[net].view(3, width) for net, _ in _PAIRS], dim=1).flatten()


def _folded_pointwise(layers: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Weight [out, in], bias and slope of `axial.pointwise`."""
    convolution, norm, slope = layers
    weight, bias = folded(convolution.weight, None, norm)
    return weight.flatten(1), bias, slope.weight


def _attended(query_DF: Tensor, key_DF: Tensor, value_DF: Tensor, largest: float) -> Tensor:
    """[width, bins]: values weighted by powers of two of products with the queries."""
    keys, queries = key_DF.shape[1], query_DF.shape[1]
    weighed = torch.cat([value_DF, value_DF.new_ones(1, keys)])
    if largest > LARGEST_EXPONENT:
        scores = key_DF.T @ query_DF
        sums = weighed @ scores.sub_(scores.amax(0)).exp2_()
        return sums[:-1] / sums[-1]
    sums, scratch = weighed.new_zeros(len(weighed), queries), weighed.new_empty(min(STRIP, keys), queries)
    for first in range(0, keys, STRIP):
        strip_DF = key_DF[:, first : first + STRIP, None]
        scores = torch.mul(strip_DF[0], query_DF[0], out=scratch[: strip_DF.shape[1]])
        for row in range(1, len(query_DF)):
            scores.addcmul_(strip_DF[row], query_DF[row])
        sums.addmm_(weighed[:, first : first + STRIP], scores.exp2_())
    return sums[:-1] / sums[-1]


class FrameCoder:
    """`Coder`."""

    def __init__(self, coder: Any, bins: int, places: Places) -> None:
        self.blocks = [FrameComplexBlock(block, bins, places) for block in coder.blocks]
        self.attention = None if coder.attention is None else FrameAttention(coder.attention)

    def __call__(self, x_FC: Tensor, state: State, frame: int) -> Tensor:
        """Same shape out."""
        for block in self.blocks:
            x_FC = block(x_FC, state, frame)
        return x_FC if self.attention is None else self.attention(x_FC)


class FrameMaskings:
    """Several `Masking` of equal shape; their temporal stacks run as one batch."""

    def __init__(self, nets: Sequence[Masking], bins: int, places: Places) -> None:
        """`bins`: of the input of each."""
        self.nets = len(nets)
        self.bounded = nets[0].bounded
        self.downs = [FrameWayDown(net, bins, places) for net in nets]
        self.ups = [FrameWayUp(net, bins, places) for net in nets]
        deepest: Any = nets[0].up[0]
        width, low = len(deepest.real) // 2, bins >> len(nets[0].down)
        order = torch.arange(width * low).view(width, low).T.flatten()
        pairs: list[Any] = [stacks for net in nets for stacks in (net.real, net.imaginary)]
        self.stacks = [FrameStacks(stacks, 2, order, places) for stacks in zip(*pairs, strict=True)]

    def __call__(self, inputs: Sequence[Tensor], state: State, frame: int) -> list[Tensor]:
        """A mask of each network for its own input."""
        skips = [down(x_FC, state, frame) for down, x_FC in zip(self.downs, inputs, strict=True)]
        lowest = torch.stack([each[-1] for each in skips])
        parts_NPD = lowest.unflatten(2, (2, -1)).transpose(1, 2).flatten(2)
        for stack in self.stacks:
            both = stack(parts_NPD.repeat_interleave(2, dim=0), state, frame)
            by_real, by_imaginary = both.unflatten(0, (self.nets, 2)).unbind(1)
            real, imaginary = by_real[:, 0] - by_imaginary[:, 1], by_real[:, 1] + by_imaginary[:, 0]
            parts_NPD = torch.stack([real, imaginary], dim=1)
        lowest = parts_NPD.unflatten(2, (lowest.shape[1], -1)).transpose(1, 2).flatten(2)
        masks = [up(x_FC, kept, state, frame) for up, x_FC, kept in zip(self.ups, lowest, skips, strict=True)]
        return [bounded(mask) for mask in masks] if self.bounded else masks


class FrameWayDown:
    """The levels down of a `Masking`."""

    def __init__(self, net: Masking, bins: int, places: Places) -> None:
        levels: list[Any] = list(net.down)
        self.levels = [FrameLevelDown(layers, bins >> level, places) for level, layers in enumerate(levels)]

    def __call__(self, x_FC: Tensor, state: State, frame: int) -> list[Tensor]:
        """What each level makes."""
        skips = []
        for level in self.levels:
            x_FC = level(x_FC, state, frame)
            skips.append(x_FC)
        return skips


class FrameWayUp:
    """The levels up."""

    def __init__(self, net: Masking, bins: int, places: Places) -> None:
        ups: list[Any] = list(net.up)
        norms: list[Any] = [*net.up_norms, None]
        self.levels = [
            FrameLevelUp(up, norm, bins >> (len(ups) - place), places)
            for place, (up, norm) in enumerate(zip(ups, norms, strict=True))
        ]

    def __call__(self, x_FC: Tensor, skips: list[Tensor], state: State, frame: int) -> Tensor:
        """As many bins as the first level down got."""
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x_FC = level(torch.cat([x_FC, skip], dim=1), state, frame)
        return x_FC


class FrameLevelDown:
    """A level down: half the bins."""

    def __init__(self, layers: Any, bins: int, places: Places) -> None:
        """`layers`: convolution, norm; `bins`: of the input."""
        layer, norm = layers
        weight, bias = folded(layer.block(), layer.bias, norm.norm)  # [out, in, 2 frames, size]
        self.size, self.stride, self.reach = weight.shape[3], layer.stride[1], layer.padding[1]
        taps = weight.permute(2, 3, 1, 0).flatten(1, 2).flip(0).unbind(0)
        rows = (bins + 2 * self.reach - self.size) // self.stride + 1
        self.across, self.slope = Scattering(taps, bias, rows, 1, places), slope_of(norm)

    def __call__(self, x_FC: Tensor, state: State, frame: int) -> Tensor:
        """Half the bins out."""
        seen = windows(padded(x_FC, self.reach, self.reach), self.size, self.stride)
        return functional.prelu(self.across(seen, state, frame), self.slope)


class FrameLevelUp:
    """`ComplexTransposed` and the norm behind it: each window of three bins makes an even and an odd one.

    Output bin 2m + r has inputs m + 1, m and m - 1, through the weights r, r + 2 and r + 4.
    """

    def __init__(self, up: ComplexTransposed, norm: PartNorm | None, bins: int, places: Places) -> None:
        """`bins`: of the input."""
        weight = up.block()  # [in, out, 2 frames, size]
        assert up.bias is not None
        bias: Tensor = up.bias
        if norm is not None:
            weight, bias = folded(weight, bias, norm.norm, axis=1)
        quarter = len(weight) // 4  # inputs lie as parts of the way up, then parts of the skip
        real, skip_real, imaginary, skip_imaginary = weight.split(quarter)
        weight = torch.cat([real, imaginary, skip_real, skip_imaginary])
        weight = functional.pad(weight, (0, 6 - weight.shape[3])).unflatten(3, (3, 2)).flip(3)
        taps = weight.permute(2, 3, 0, 4, 1).flatten(1, 2).flatten(2).unbind(0)  # [3 * in, 2 * out] each
        self.across = Scattering(taps, bias.repeat(2), bins, 1, places)
        self.slope = None if norm is None else slope_of(norm)

    def __call__(self, x_FC: Tensor, state: State, frame: int) -> Tensor:
        """Twice as many bins out."""
        seen = self.across(windows(padded(x_FC, 1, 1), 3, 1), state, frame)
        out = seen.view(2 * len(x_FC), -1)
        return out if self.slope is None else functional.prelu(out, self.slope)


def bounded(x_FC: Tensor) -> Tensor:
    """Complex numbers with the hyperbolic tangent of their moduli."""
    real, imaginary = x_FC.chunk(2, dim=1)
    modulus = torch.addcmul(real.square(), imaginary, imaginary).add_(POWER_FLOOR).sqrt_()
    scale = modulus.tanh().div_(modulus)
    return torch.cat([real * scale, imaginary * scale], dim=1)


def product(x_FC: Tensor, y_FC: Tensor) -> Tensor:
    """Of complex numbers."""
    (a, b), (c, d) = x_FC.chunk(2, dim=1), y_FC.chunk(2, dim=1)
    return torch.cat([torch.addcmul(a * c, b, d, value=-1), torch.addcmul(a * d, b, c)], dim=1)


class FrameDenoising:
    """`DenoisingNet`."""

    def __init__(self, net: DenoisingNet, bins: int, places: Places) -> None:
        inward: Any = net.inward
        first, norm = inward
        weight, bias = folded(first.block(), first.bias, norm.norm)
        self.inward, self.inward_bias, self.slope = weight.flatten(1).T.contiguous(), bias, slope_of(norm)
        exponent = net.compression.logit.sigmoid()
        self.smaller, self.larger = ((each.unsqueeze(1) - 1) / 2 for each in (exponent, 1 / exponent))
        self.encoder, self.decoder = (FrameCoder(coder, bins, places) for coder in (net.encoder, net.decoder))
        self.bands = FrameMaskings([net.low, net.high], bins // 2, places)
        self.whole = FrameMaskings([net.whole], bins, places)
        self.joined, self.joined_bias = complex_map(net.joined)
        self.outward, self.outward_bias = complex_map(net.outward)

    def __call__(self, x_FP: Tensor, state: State, frame: int) -> Tensor:
        """[bins, 2] in and out."""
        x_FC = functional.prelu(torch.addmm(self.inward_bias, raised(x_FP, self.smaller), self.inward), self.slope)
        x_FC = self.encoder(x_FC, state, frame)
        halves = x_FC.chunk(2)
        bands = torch.cat([product(*each) for each in zip(halves, self.bands(halves, state, frame), strict=True)])
        both = torch.stack([bands.unflatten(1, (2, -1)), x_FC.unflatten(1, (2, -1))], dim=2).flatten(1)
        (mask,) = self.whole([both], state, frame)
        x_FC = self.decoder(torch.addmm(self.joined_bias, product(both, mask), self.joined), state, frame)
        return raised(torch.addmm(self.outward_bias, x_FC, self.outward), self.larger)


def raised(x_FP: Tensor, exponent_F1: Tensor) -> Tensor:
    """Times a power of the squared moduli."""
    return x_FP * (x_FP.square().sum(1, keepdim=True) + POWER_FLOOR) ** exponent_F1
