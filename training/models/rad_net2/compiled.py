"""RaD-Net 2's layers for one frame as steps of a `Program`: the weights that `frames` prepared, in the same order."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.models.rad_net2.frame_denoising import (
    FrameAttention,
    FrameCoder,
    FrameComplexBlock,
    FrameDenoising,
    FrameLevelDown,
    FrameLevelUp,
    FrameMaskings,
)
from training.models.rad_net2.frame_repairing import FrameDown, FrameRepairing, FrameUp
from training.models.rad_net2.frames import FrameBlock, FrameGatedLayer, FrameNorm, FrameStacks, Scattering, SmallNorms
from training.models.rad_net2.program import MOST_TAPS, MOST_WIDTH, Place, Program, Ready, kernels
from training.models.rad_net2.temporal import NORM_FLOOR
from training.spectral import POWER_FLOOR

# Shape letters in this file: G networks side by side, B inputs of each.


def whole_frame(
    repairing: FrameRepairing, denoising: FrameDenoising | None, bins: int, silence: float, dtype: torch.dtype
) -> Ready | None:
    """Both stages as steps that can be run: [bins, 2] in and out; None without a C++ compiler, or for wider layers."""
    run = kernels(dtype) if _fits(repairing, denoising) else None
    if run is None:
        return None
    p = Program(dtype)
    p.part("levels of the frames")
    x = p.scratch(bins, 2)
    loud = p.loudness(x, silence)
    out = repaired(p, repairing, x)
    p.part("levels of the frames")
    p.scaled(out, loud, out)
    if denoising is not None:
        low = out.at_rows(0, bins - 1)
        p.scaled(denoised(p, denoising, low), loud, low)
    return p.ready(run, x, out)


def _fits(repairing: FrameRepairing, denoising: FrameDenoising | None) -> bool:
    """Whether `kernels.cpp` has such long convolutions and such wide attention."""
    coders = [] if denoising is None else [denoising.encoder, denoising.decoder]
    widths = [coder.attention.width for coder in coders if coder.attention is not None]
    taps = [len(layer.ages) + 1 for stack in repairing.stacks for layer in stack.layers]
    return max(widths, default=0) <= MOST_WIDTH and max(taps, default=0) <= MOST_TAPS


def repaired(p: Program, net: FrameRepairing, x: Place) -> Place:
    """Stage 1: [bins, 2] in and out."""
    skips = list[Place]()
    p.part("stage 1, levels down")
    for down in net.downs:
        x = _down(p, down, x)
        skips.append(x)
    p.part("stage 1, temporal stacks")
    middle = p.scratch(x.rows, x.columns)
    p.add(x, None, middle)
    vector = middle.shaped(1, x.rows * x.columns)
    for stack in net.stacks:
        _stacks(p, stack, vector)
    p.part("stage 1, levels up")
    x = p.scratch(x.rows, 2 * x.columns)
    for half in range(2):
        p.add(middle, None, x.at_columns(half * middle.columns, middle.columns))
    for up, skip in zip(net.ups, reversed(skips), strict=True):
        x = _up(p, up, x, skip)
    return x


def _down(p: Program, down: FrameDown, x: Place) -> Place:
    seen = x.windows(down.size, down.stride)
    both = p.scratch(seen.rows, down.weight.shape[1])
    p.linear(seen, down.weight, down.bias, both)
    out = p.scratch(seen.rows, both.columns // 2)
    p.gate(both.at_columns(0, out.columns), both.at_columns(out.columns, out.columns), out)
    _frame_norm(p, down.norm, down.slope, out)
    for block in down.blocks:
        _block(p, block, out)
    return out


def _up(p: Program, up: FrameUp, x: Place, skip: Place) -> Place:
    networks, rows = len(up.weights), -(-up.bins // up.stride)
    width = x.columns // networks
    channels = up.weights[0][0].shape[1] // (2 * up.stride)
    out = p.scratch(up.bins, networks * channels)
    for network, (before, here, bias) in enumerate(up.weights):
        joined = p.scratch(x.rows, width + skip.columns, before=1, after=rows - x.rows)
        p.add(x.at_columns(network * width, width), None, joined.at_columns(0, width))
        p.add(skip, None, joined.at_columns(width, skip.columns))
        both = p.shared(rows, up.stride * 2 * channels)
        p.linear(joined.at_rows(-1, rows + 1).windows(2, 1), torch.cat([before, here]), bias, both)
        gated = both.shaped(rows * up.stride, 2 * channels).at_rows(0, up.bins)
        part = out.at_columns(network * channels, channels)
        p.gate(gated.at_columns(0, channels), gated.at_columns(channels, channels), part)
    if up.norm is not None:
        _frame_norm(p, up.norm, up.slope, out)
    for block in up.blocks:
        _block(p, block, out)
    return out


def _frame_norm(p: Program, norm: FrameNorm, slope: Tensor | None, x: Place) -> None:
    """In place, one norm for each network's columns."""
    width = x.columns // len(norm.gains)
    slopes = [None] * len(norm.gains) if slope is None else slope.split(width)
    for network, (gain, bias, below) in enumerate(zip(norm.gains, norm.biases, slopes, strict=True)):
        part = x.at_columns(network * width, width)
        p.norm(part, gain, bias, below, False, NORM_FLOOR, part)


def _block(p: Program, block: FrameBlock, x: Place) -> None:
    """In place."""
    heard = p.kept(x.rows, x.columns, 2 * block.dilation + 1, before=1, after=1)
    width = x.columns // len(block.inward)
    for network, ((weight, bias), slope) in enumerate(zip(block.inward, block.slope.split(width), strict=True)):
        here = network * width, width
        p.linear(x.at_columns(*here), weight, bias, heard.at_columns(*here), slope)
    seen = p.shared(x.rows, x.columns)
    taps = torch.stack([torch.stack(list(taps)) for taps in block.taps])
    p.depthwise(heard, taps, block.bias, block.seen_slope, block.dilation, seen)
    for network, (weight, bias) in enumerate(block.outward):
        here = network * width, width
        p.linear(seen.at_columns(*here), weight, bias, x.at_columns(*here), plus=x.at_columns(*here))


def _stacks(p: Program, stacks: FrameStacks, x: Place) -> None:
    """In place: [G * B, width]."""
    for layer in stacks.layers:
        _gated(p, layer, x)


def _gated(p: Program, layer: FrameGatedLayer, x: Place) -> None:
    networks, inputs = len(layer.inward), x.rows // len(layer.inward)
    squeezed, branches = layer.inward.shape[2], 2 * networks
    inner = p.shared(x.rows, squeezed)
    for network, (weight, bias) in enumerate(zip(layer.inward, layer.inward_bias, strict=True)):
        here = network * inputs, inputs
        p.linear(x.at_rows(*here), weight, bias.flatten(), inner.at_rows(*here))
    heard = p.kept(branches * inputs, squeezed, len(layer.ages) * layer.dilation + 1)
    _small_norms(p, layer.first, inner, heard, inputs, layer.gain, layer.bias)
    both = p.shared(branches * inputs, squeezed)
    for branch, (weight, bias) in enumerate(zip(layer.taps, layer.taps_bias, strict=True)):
        here = branch * inputs, inputs
        newest_first = weight.split(squeezed)[::-1]
        p.linear(heard.at_rows(*here), newest_first, bias.flatten(), both.at_rows(*here), dilation=layer.dilation)
    p.gate(both.at_rows(0, x.rows), both.at_rows(x.rows, x.rows), inner)
    _small_norms(p, layer.last, inner, inner, inputs, None, None)
    for network, (weight, bias) in enumerate(zip(layer.outward, layer.outward_bias, strict=True)):
        here = network * inputs, inputs
        p.linear(inner.at_rows(*here), weight, bias.flatten(), x.at_rows(*here), plus=x.at_rows(*here))


def _small_norms(
    p: Program, norms: SmallNorms, x: Place, out: Place, inputs: int, gain: Tensor | None, bias: Tensor | None
) -> None:
    """A norm for each row; rows of x come round again where there are more norms."""
    for network, below in enumerate(norms.below):
        for row in range(network * inputs, (network + 1) * inputs):
            own_gain, own_bias = (None if each is None else each[network, 0] for each in (gain, bias))
            from_row = x.at_rows(row % x.rows, 1)
            p.norm(from_row, own_gain, own_bias, below[0] + 1, True, NORM_FLOOR, out.at_rows(row, 1))


def denoised(p: Program, net: FrameDenoising, x: Place) -> Place:
    """Stage 2: [bins, 2] in and out."""
    p.part("stage 2, feature coders")
    smaller, features = p.scratch(x.rows, 2), net.inward.shape[1]
    p.raised(x, net.smaller, POWER_FLOOR, smaller)
    x = p.scratch(x.rows, features)
    p.linear(smaller, net.inward, net.inward_bias, x, net.slope)
    x = _coder(p, net.encoder, x)
    p.part("stage 2, masks: the rest")
    half, width = x.rows // 2, features // 2
    both = p.scratch(x.rows, 2 * features)
    for part in range(2):
        kept = x.at_columns(part * width, width)
        p.add(kept, None, both.at_columns((2 * part + 1) * width, width))
    bands = [x.at_rows(0, half), x.at_rows(half, half)]
    masks = _masks(p, net.bands, bands)
    p.part("stage 2, masks: the rest")
    for band, (band_x, mask) in enumerate(zip(bands, masks, strict=True)):
        out = both.at_rows(band * half, half).at_columns(0, width)
        p.mask(band_x, mask, net.bands.bounded, POWER_FLOOR, out, features)
    (mask,) = _masks(p, net.whole, [both])
    p.part("stage 2, masks: the rest")
    masked = p.scratch(x.rows, 2 * features)
    p.mask(both, mask, net.whole.bounded, POWER_FLOOR, masked, features)
    p.part("stage 2, feature coders")
    x = p.scratch(x.rows, features)
    p.linear(masked, net.joined, net.joined_bias, x)
    x = _coder(p, net.decoder, x)
    p.part("stage 2, feature coders")
    out = p.scratch(x.rows, 2)
    p.linear(x, net.outward, net.outward_bias, out)
    p.raised(out, net.larger, POWER_FLOOR, out)
    return out


def _coder(p: Program, coder: FrameCoder, x: Place) -> Place:
    for block in coder.blocks:
        _complex_block(p, block, x)
    return x if coder.attention is None else _attention(p, coder.attention, x)


def _complex_block(p: Program, block: FrameComplexBlock, x: Place) -> None:
    """In place."""
    heard = p.kept(x.rows, x.columns, block.across.span + 1, before=1, after=1)
    p.linear(x, block.inward, block.inward_bias, heard, block.slope)
    seen = p.shared(x.rows, x.columns)
    p.depthwise(heard, _complex_taps(block), block.across.bias, block.seen_slope, block.across.dilation, seen)
    p.linear(seen, block.outward, block.outward_bias, x, plus=x)


def _complex_taps(block: FrameComplexBlock) -> Tensor:
    """[own or other part, frame, bin, column], the oldest frame first, out of the matrices of the taps."""
    taps = torch.stack(block.across.taps[::-1]).unflatten(1, (3, -1))  # [frame, bin, in, out]
    other = torch.roll(taps, taps.shape[3] // 2, dims=3)  # out of the column that an input is the other part of
    return torch.stack([each.diagonal(dim1=2, dim2=3) for each in (taps, other)])


def _across(p: Program, across: Scattering, seen: Place, out: Place, slope: Tensor | None) -> None:
    """A convolution along time over windows that are kept."""
    p.linear(seen, across.taps, across.bias, out, slope, dilation=across.dilation)


def _attention(p: Program, attention: FrameAttention, x: Place) -> Place:
    p.part("stage 2, attention")
    heads = p.shared(x.rows, attention.inward.shape[1])
    p.linear(x, attention.inward, attention.inward_bias, heads, attention.inward_slope)
    maps, channels = attention.outward.shape[0] // attention.width, x.columns // 2
    seen = p.shared(x.rows, maps * attention.width)
    p.attention(heads, maps, attention.width, seen)
    parts = p.shared(x.rows, maps * channels)
    p.linear(seen, attention.outward, attention.outward_bias, parts, attention.outward_slope)
    out = p.scratch(x.rows, x.columns)
    for part, sign in enumerate((-1.0, 1.0)):  # A(x) - B(y), A(y) + B(x)
        mine = out.at_columns(part * channels, channels)
        p.add(x.at_columns(part * channels, channels), parts.at_columns(2 * part * channels, channels), mine)
        p.add(mine, parts.at_columns((2 * part + 1) * channels, channels), mine, sign)
    return out


def _masks(p: Program, maskings: FrameMaskings, inputs: Sequence[Place]) -> list[Place]:
    """For each network's own input, parts of complex numbers in its columns."""
    p.part("stage 2, masks: levels down")
    skips = [_way_down(p, down.levels, x) for down, x in zip(maskings.downs, inputs, strict=True)]
    lowest = skips[0][-1]
    rows, width = lowest.rows, lowest.columns // 2
    outs = [p.scratch(rows, lowest.columns) for _ in skips]
    parts = [[kept[-1].at_columns(part * width, width) for part in range(2)] for kept in skips]
    p.part("stage 2, temporal stacks")
    for stack in maskings.stacks:
        vectors = p.scratch(4 * len(skips), rows * width)  # of each network: by the real net x, y; by the other x, y
        by = [[vectors.at_rows(4 * net + row, 1).shaped(rows, width) for row in range(4)] for net in range(len(skips))]
        for mine, into in zip(parts, by, strict=True):
            for row in range(4):
                p.add(mine[row % 2], None, into[row])
        _stacks(p, stack, vectors)
        parts = [[out.at_columns(part * width, width) for part in range(2)] for out in outs]
        for (real, imaginary), (real_x, real_y, other_x, other_y) in zip(parts, by, strict=True):
            p.add(real_x, other_y, real, -1.0)
            p.add(real_y, other_x, imaginary)
    p.part("stage 2, masks: levels up")
    return [_way_up(p, up.levels, x, kept) for up, x, kept in zip(maskings.ups, outs, skips, strict=True)]


def _way_down(p: Program, levels: Sequence[FrameLevelDown], x: Place) -> list[Place]:
    """What each level makes, kept for two frames."""
    made = list[Place]()
    reaches: list[Any] = [*(level.reach for level in levels), 0]
    kept = p.kept(x.rows, x.columns, 2, before=reaches[0], after=reaches[0])
    p.add(x, None, kept)
    for level, reach in zip(levels, reaches[1:], strict=True):
        seen = kept.at_rows(-level.reach, kept.rows + 2 * level.reach).windows(level.size, level.stride)
        kept = p.kept(seen.rows, level.across.taps[0].shape[1], 2, before=reach, after=reach)
        _across(p, level.across, seen, kept, level.slope)
        made.append(kept)
    return made


def _way_up(p: Program, levels: Sequence[FrameLevelUp], x: Place, skips: Sequence[Place]) -> Place:
    for level, skip in zip(levels, reversed(skips), strict=True):
        joined = p.kept(x.rows, x.columns + skip.columns, 2, before=1, after=1)
        p.add(x, None, joined.at_columns(0, x.columns))
        p.add(skip, None, joined.at_columns(x.columns, skip.columns))
        out = p.scratch(x.rows, level.across.taps[0].shape[1])
        slope = None if level.slope is None else level.slope.repeat(2)
        _across(p, level.across, joined.at_rows(-1, x.rows + 2).windows(3, 1), out, slope)
        x = out.shaped(2 * out.rows, out.columns // 2)
    return x
