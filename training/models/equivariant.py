"""Layers that turn with the phase: f(z e^(i theta)) = f(z) e^(i theta) for any angle.

A linear map does where it is complex-linear and has no bias; a norm and a gate do where they are real and know moduli
only. Complex tensors are pairs of real ones along an axis of two, [..., 2, channels, ...], real part first: a complex
layer is then one real layer whose weight is the block [[Re, -Im], [Im, Re]].
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from training.models.layers import at_least_single

# Shape letters in this file: B batch, P the pair (real, imaginary), C channels, T frames, F bins; S sequences, L places
# in a sequence.

MODULUS_FLOOR = 1e-9
"""Added to the squared modulus before a root."""


class ComplexLayer(nn.Module):
    """A complex weight, [out, in, *kernel], as two real ones drawn as torch draws those of a real layer.

    `bias` breaks the equivariance; it is for an ablation.
    """

    def __init__(self, shape: tuple[int, ...], bias: bool = False) -> None:
        super().__init__()
        self.real, self.imaginary = nn.Parameter(torch.empty(shape)), nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(2 * shape[0])) if bias else None
        nn.init.kaiming_uniform_(self.real, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.imaginary, a=math.sqrt(5))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1.0, 1.0)

    def block(self) -> Tensor:
        """The one real weight: twice as many outputs, twice as many inputs."""
        upper = torch.cat([self.real, -self.imaginary], dim=1)
        return torch.cat([upper, torch.cat([self.imaginary, self.real], dim=1)], dim=0)


class ComplexLinear(ComplexLayer):
    """A linear map of each place of a sequence."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__((out_channels, in_channels), bias)

    def forward(self, z_SLPC: Float[Tensor, "sequences places 2 channels"]) -> Tensor:
        """[sequences, places, 2, out_channels]."""
        return functional.linear(z_SLPC.flatten(-2), self.block(), self.bias).unflatten(-1, (2, -1))


class ComplexConvolution(ComplexLayer):
    """A convolution over frames and bins."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        """Stride and padding are along frequency, dilation along time."""
        super().__init__((out_channels, in_channels, *kernel), bias)
        self.stride, self.padding, self.dilation = (1, stride), (0, padding), (dilation, 1)

    def forward(self, z_BPCTF: Float[Tensor, "batch 2 channels frames bins"]) -> Tensor:
        """[batch, 2, out_channels, out_frames, out_bins]."""
        out = functional.conv2d(
            z_BPCTF.flatten(1, 2), self.block(), self.bias, self.stride, self.padding, self.dilation
        )
        return out.unflatten(1, (2, -1))


class ComplexGlu(nn.Module):
    """A gated feed-forward along sequences: a convolution of four places, a gate, the transposed convolution.

    The gate knows the modulus of its half only, so the value turns and the gate does not. An input at place n moves
    outputs at n - 3 to n + 3.
    """

    REACH = 3

    def __init__(self, channels: int, width: int, bias: bool = False) -> None:
        super().__init__()
        self.up = ComplexLayer((2 * width, channels, self.REACH + 1), bias)
        self.norm = nn.LayerNorm(width)
        self.down = ComplexLayer((width, channels, self.REACH + 1))

    def forward(self, z_SLPC: Float[Tensor, "sequences places 2 channels"]) -> Tensor:
        """Same shape out."""
        x_SPCL = z_SLPC.flatten(-2).mT
        hidden = functional.conv1d(x_SPCL, self.up.block(), self.up.bias, padding=self.REACH).unflatten(1, (2, -1))
        value_SPDL, gate_SPDL = hidden.chunk(2, dim=2)
        gate_SDL = functional.silu(self.norm(modulus(gate_SPDL, 1).mT)).mT
        gated = (value_SPDL * gate_SDL.unsqueeze(1)).flatten(1, 2)
        out = functional.conv_transpose1d(gated, self._transposed(), padding=self.REACH)
        return out.mT.unflatten(-1, (2, -1))

    def _transposed(self) -> Tensor:
        """The block of `down`, whose first axis is the input, as transposed convolutions have it."""
        upper = torch.cat([self.down.real, self.down.imaginary], dim=1)
        return torch.cat([upper, torch.cat([-self.down.imaginary, self.down.real], dim=1)], dim=0)


class ComplexRmsNorm(nn.Module):
    """Each place divided by the root mean square of its moduli over channels; a real gain for each channel."""

    FLOOR = 1e-10

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, z_SLPC: Float[Tensor, "sequences places 2 channels"]) -> Tensor:
        """Same shape out."""
        z_SLPC = at_least_single(z_SLPC)
        power_SL = z_SLPC.square().sum(-2, keepdim=True).mean(-1, keepdim=True)
        return self.gain * z_SLPC * torch.rsqrt(power_SL + self.FLOOR)


def modulus(z: Tensor, pair: int) -> Tensor:
    """Modulus of complex numbers whose parts lie along the axis `pair`; finite gradient at zero."""
    return (at_least_single(z).square().sum(pair) + MODULUS_FLOOR).sqrt()
