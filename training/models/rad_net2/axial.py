"""Attention along frequency, and along time if wanted: real, and two complex forms of it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from training.models.rad_net2.temporal import Maps
from training.models.streaming import Memory

# Shape letters in this file: B batch, P the pair (real, imaginary), C channels, T frames, F bins, E width of a head.


def pointwise(channels: int, out_channels: int) -> nn.Sequential:
    """A linear map of each place, batch normalisation, slope."""
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.PReLU(out_channels)
    )


class AxialAttention(nn.Module):
    """Attention of each bin to all bins of its frame, then, with a window, of each frame to those before it (ASA).

    Source: MTFAA-Net (Zhang et al. 2022); ours computes what its authors' does, but for the residual, which is left to
    the caller. The time axis attends to what came out of the frequency axis, with queries and keys of its own.
    """

    def __init__(self, channels: int, window: int = 0, causal: bool = True) -> None:
        """`window`: frames that time attention sees, the present one included; 0: no time attention."""
        super().__init__()
        self.width, self.window, self.causal = channels // 4, window, causal
        self.frequency = pointwise(channels, 3 * self.width)
        self.time = pointwise(channels, 2 * self.width) if window else None
        self.out = pointwise(self.width, channels)

    def forward(self, x_BCTF: Maps, memory: Memory | None) -> Maps:
        """Same shape out, without the residual."""
        query_BTFE, key_BTFE, value_BTFE = self._heads(self.frequency(x_BCTF), 3)
        seen_BTFE = functional.scaled_dot_product_attention(query_BTFE, key_BTFE, value_BTFE)
        if self.time is not None:
            query_BTFE, key_BTFE = self._heads(self.time(x_BCTF), 2)
            seen_BTFE = self._along_time(query_BTFE, key_BTFE, seen_BTFE, memory)
        return self.out(seen_BTFE.permute(0, 3, 1, 2))

    def _heads(self, x_BCTF: Tensor, count: int) -> tuple[Tensor, ...]:
        """The channels of query, key and value lie interleaved; each [batch, frames, bins, width]."""
        return x_BCTF.unflatten(1, (-1, count)).permute(2, 0, 3, 4, 1).unbind(0)

    def _along_time(self, query: Tensor, key: Tensor, value: Tensor, memory: Memory | None) -> Tensor:
        frames, mask = query.shape[1], None
        if self.causal:
            assert memory is not None
            earlier = self.window - 1
            key, value = memory.behind(key, earlier, 1), memory.behind(value, earlier, 1)
            place = torch.arange(frames, device=key.device)[:, None]
            seen = torch.arange(earlier + frames, device=key.device)[None, :]
            mask = (seen >= place) & (seen <= place + earlier) & (seen >= earlier - memory.frames)
        query, key, value = (each.transpose(1, 2) for each in (query, key, value))
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


class PairedAttention(nn.Module):
    """Two real attentions taken as the parts of a complex map: (A + jB)(x + jy) = Ax - By + j(Ay + Bx)."""

    def __init__(self, channels: int, window: int, causal: bool) -> None:
        super().__init__()
        self.real, self.imaginary = (AxialAttention(channels, window, causal) for _ in range(2))

    def forward(self, z_BPCTF: Float[Tensor, "batch 2 channels frames bins"], memory: Memory | None) -> Tensor:
        """Same shape out, with a residual around."""
        batch = len(z_BPCTF)
        parts = z_BPCTF.transpose(0, 1).flatten(0, 1)
        through_real = self.real(parts, memory).unflatten(0, (2, batch))
        through_imaginary = self.imaginary(parts, memory).unflatten(0, (2, batch))
        real = through_real[0] - through_imaginary[1]
        imaginary = through_real[1] + through_imaginary[0]
        return z_BPCTF + torch.stack([real, imaginary], dim=1)


class FullAttention(nn.Module):
    """Complex queries, keys and values, multiplied out into eight real attentions, along frequency only.

    With A(abc) the attention of parts a and b of queries and keys on part c of the values: the real part is
    A(rrr) - A(rii) - A(iri) - A(iir), the imaginary one A(rri) + A(rir) + A(irr) - A(iii).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels // 4
        self.inward, self.inward_imaginary = (nn.Conv2d(channels, 3 * self.width, 1, bias=False) for _ in range(2))
        self.norm = nn.Sequential(nn.BatchNorm2d(6 * self.width), nn.PReLU(6 * self.width))
        self.outward, self.outward_imaginary = (nn.Conv2d(self.width, channels, 1, bias=False) for _ in range(2))
        self.out_norm = nn.Sequential(nn.BatchNorm2d(2 * channels), nn.PReLU(2 * channels))

    def forward(self, z_BPCTF: Float[Tensor, "batch 2 channels frames bins"], memory: Memory | None) -> Tensor:
        """Same shape out, with a residual around."""
        inner = self.norm(_complex(self.inward, self.inward_imaginary, z_BPCTF).flatten(1, 2))
        query, key, value = inner.unflatten(1, (2, -1, 3)).permute(3, 1, 0, 4, 5, 2).unbind(0)  # each PBTFE
        real, imaginary = torch.zeros_like(value[0]), torch.zeros_like(value[0])
        both = torch.cat([value[0], value[1]], dim=-1)
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            on_real, on_imaginary = functional.scaled_dot_product_attention(query[a], key[b], both).chunk(2, dim=-1)
            turned = a + b  # the power of j that comes with the pair of parts
            real = real + (on_real, -on_imaginary, -on_real)[turned]
            imaginary = imaginary + (on_imaginary, on_real, -on_imaginary)[turned]
        seen_BPCTF = torch.stack([real, imaginary], dim=1).permute(0, 1, 4, 2, 3)
        out = self.out_norm(_complex(self.outward, self.outward_imaginary, seen_BPCTF).flatten(1, 2))
        return z_BPCTF + out.unflatten(1, (2, -1))


def _complex(real: nn.Conv2d, imaginary: nn.Conv2d, z_BPCTF: Tensor) -> Tensor:
    """A complex pointwise map of a pair."""
    weight = torch.cat(
        [torch.cat([real.weight, -imaginary.weight], 1), torch.cat([imaginary.weight, real.weight], 1)], 0
    )
    return functional.conv2d(z_BPCTF.flatten(1, 2), weight).unflatten(1, (2, -1))
