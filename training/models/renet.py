"""RENet: magnitude and phase side by side, where the phase stream turns with the phase of its input."""

import math
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import Polar
from training.models.equivariant import ComplexConvolution, ComplexGlu, ComplexLinear, ComplexRmsNorm, modulus
from training.models.layers import RecurrentFeedForward, SubPixelConvolution, at_least_single, interleaved, through
from training.models.polar import PolarConfig, PolarEnhancer

# Shape letters in this file: B batch, P the pair (real, imaginary), C channels, T frames, F bins; S sequences, L places
# in a sequence, H heads, E width of a head.

GATE_CEILING = 3.0
ANGLE_FLOOR = 1e-9
"""Added to both parts before the last atan2: the one thing in RENet that is not exactly equivariant."""

Points: TypeAlias = Float[Tensor, "batch 2 frames bins"]


class Streams(NamedTuple):
    """Features of the phase, which turn, and of the magnitude, which do not."""

    phase: Tensor
    """[batch, 2, channels, frames, bins], or as sequences [sequences, places, 2, channels]."""
    magnitude: Tensor
    """[batch, channels, frames, bins], or as sequences [sequences, places, channels]."""


class ReNetConfig(PolarConfig):
    """What RENet and its causal form share; the defaults are the standard size."""

    kind: str
    phase_floors: bool = False
    magnitude_channels: int = Field(default=48, gt=0)
    phase_channels: int = Field(default=16, gt=0)
    """Complex ones."""
    blocks: int = 4
    """Time-frequency blocks."""
    heads: int = 4
    magnitude_head: int = 12
    """Width of an attention head's part for the magnitude."""
    phase_head: int = 6
    """Complex width of its part for the phase."""
    glu_width: int = 64
    """Hidden complex channels of the phase's feed-forward."""
    dense_depth: int = 4
    """Convolutions in a dense block."""
    equivariant: bool = True
    """False, an ablation: complex convolutions and maps have biases."""
    interaction: bool = True
    """False, an ablation: no gates between the streams (MPICM)."""
    hybrid: bool = True
    """False, an ablation: each stream attends by itself (HADF)."""


class ReNet(PolarEnhancer):
    """Global rotation equivariant phase modelling: turn the phases of the input, and those of the output turn alike.

    Source: Wang, Li, Yao and Li, "Global Rotation Equivariant Phase Modeling for Speech Enhancement with Deep
    Magnitude-Phase Interaction", arXiv 2602.08556 (2026). The phase enters as e^(i phi) and passes complex-linear maps
    without bias, real norms and real gates only; the magnitude stream sees moduli of it only (`equivariant.py`).

    Published sizes: 1.55 M (standard), 0.90 M and 22.89 GMAC per second of audio (small). Ours: 1,549,969 and 900,529.

    From the authors' code: all blocks, sizes and constants; the magnitude is mapped, not masked. Reconstructed: the
    switches `equivariant`, `interaction` and `hybrid`, since the paper's ablations could not be read; each takes away
    the least that undoes the idea.

    Deviation: the phase of the input is its angle, without the floor of 1e-5 that the authors' front end adds to the
    real part (`phase_floors=True` puts it back, as their weights want it): in the quiet bins of real speech that floor
    costs the polarity f(-x) = -f(x) 5e-3 instead of 2e-6. In the network itself there is none: outputs in double
    precision equal those of the authors' code to 1e-10, and its floors are kept: 1e-9 inside a modulus and again 1e-7
    (phase) or 1e-5 (magnitude) inside the norms over an utterance, 1e-10 and 1e-9 inside those over channels, 1e-9 at
    the last atan2.
    """

    class Config(ReNetConfig):
        """Settings of RENet; the defaults are the standard size."""

        kind: Literal["renet"] = "renet"
        activation_checkpointing: bool = False
        """Keep less while training, and compute it again in the backward pass; no part of what the weights mean."""

        def build(self) -> "ReNet":
            """The network, with fresh weights."""
            return ReNet(self)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        bins, half = config.bins, (config.bins + 1) // 2
        streams = config.phase_channels, config.magnitude_channels
        self.first = InteractiveConvolution(config, (1, 1), (1, 1), bins, gated=False)
        self.encoder = InteractiveDense(config, bins)
        self.down = InteractiveConvolution(config, streams, (1, 3), half, stride=2, padding=1)
        self.blocks = nn.ModuleList(HybridBlock(config) for _ in range(config.blocks))
        self.decoder = InteractiveDense(config, half)
        self.up = InteractiveConvolution(config, streams, (1, 3), 2 * half, padding=1, upsample=True)
        self.magnitude_head = nn.Conv2d(config.magnitude_channels, 1, (1, 2))
        self.phase_head = ComplexConvolution(config.phase_channels, 1, (1, 2), bias=not config.equivariant)

    def polar(self, noisy: Polar) -> Polar:
        """Mapped magnitude and estimated phase."""
        magnitude_BFT, point_BPTF = self.points(noisy)
        real_BTF, imaginary_BTF = point_BPTF.unbind(1)
        return Polar(magnitude_BFT, torch.atan2(imaginary_BTF + ANGLE_FLOOR, real_BTF + ANGLE_FLOOR).mT)

    def points(self, noisy: Polar) -> tuple[Float[Tensor, "batch bins frames"], Points]:
        """The magnitude, and the complex numbers whose angle is the phase."""
        phase_BTF = noisy.phase.mT
        x = Streams(torch.stack([phase_BTF.cos(), phase_BTF.sin()], 1).unsqueeze(2), noisy.magnitude.mT.unsqueeze(1))
        x = self.first(x)
        for block in (self.encoder, self.down, *self.blocks, self.decoder, self.up):
            x = through(block, x, recompute=self.config.activation_checkpointing)
        magnitude_BTF = self.magnitude_head(x.magnitude).squeeze(1).relu()
        return at_least_single(magnitude_BTF).mT, at_least_single(self.phase_head(x.phase).squeeze(2))


class InteractiveConvolution(nn.Module):
    """MPICM: a convolution in each stream, norms over the utterance, and gates from each stream on the other.

    With z'' and m'' the streams after their norms, and A, B convolutions of 1x1::

        z = 3 sigmoid(s_z (B m'' + b)) z''        m = 3 sigmoid(s_m (A |z''| + a)) m''

    All gates are 1 before training: A and B start at zero, a and b at -ln 2.
    """

    def __init__(
        self,
        config: ReNetConfig,
        inputs: tuple[int, int],
        kernel: tuple[int, int],
        bins: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        upsample: bool = False,
        gated: bool = True,
    ) -> None:
        """`inputs` are the channels of phase and magnitude that come in, `bins` the frequency bins that go out."""
        super().__init__()
        phases, magnitudes = config.phase_channels, config.magnitude_channels
        maps = SubPixelConvolution.FACTOR if upsample else 1
        self.past = dilation * (kernel[0] - 1)
        self.upsample, self.gated = upsample, gated and config.interaction
        self.phase = ComplexConvolution(
            inputs[0], maps * phases, kernel, stride, padding, dilation, bias=not config.equivariant
        )
        self.magnitude = nn.Conv2d(
            inputs[1], maps * magnitudes, kernel, (1, stride), (0, padding), dilation=(dilation, 1)
        )
        self.phase_norm = PhaseNorm(phases, bins)
        self.magnitude_norm = MagnitudeNorm(magnitudes)
        if self.gated:
            self.phase_gate = Gate(magnitudes, phases, bins)
            self.magnitude_gate = Gate(phases, magnitudes, bins)

    def forward(self, x: Streams) -> Streams:
        """Zeros stand before the first frame, so no frame sees a later one except through the norms."""
        phase, magnitude = self.convolved(*(functional.pad(each, (0, 0, self.past, 0)) for each in x))
        return self.interacted(self.phase_norm(phase), functional.silu(self.magnitude_norm(magnitude)))

    def convolved(self, phase: Tensor, magnitude: Tensor) -> Streams:
        """Each stream by itself, as many frames fewer as lie in the past."""
        phase, magnitude = self.phase(phase), self.magnitude(magnitude)
        if self.upsample:
            phase = interleaved(phase.flatten(0, 1)).unflatten(0, (-1, 2))
            magnitude = interleaved(magnitude)
        return Streams(phase, magnitude)

    def interacted(self, phase: Tensor, magnitude: Tensor) -> Streams:
        """Each stream through the gate that the other one sets."""
        if not self.gated:
            return Streams(phase, magnitude)
        return Streams(
            self.phase_gate(magnitude).unsqueeze(1) * phase, self.magnitude_gate(modulus(phase, 1)) * magnitude
        )


class PhaseNorm(nn.Module):
    """Each channel divided by the root mean square of its moduli over an utterance; a real gain for each bin."""

    FLOOR = 1e-7

    def __init__(self, channels: int, bins: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, bins))

    def forward(self, z_BPCTF: Float[Tensor, "batch 2 channels frames bins"]) -> Tensor:
        """Same shape out."""
        z_BPCTF = at_least_single(z_BPCTF)
        power_BC = modulus(z_BPCTF, 1).square().mean((-2, -1))
        return self.gain * z_BPCTF * torch.rsqrt(power_BC + self.FLOOR)[:, None, :, None, None]


class MagnitudeNorm(nn.Module):
    """Each channel divided by its root mean square over an utterance; a gain and a bias for each channel."""

    FLOOR = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, m_BCTF: Float[Tensor, "batch channels frames bins"]) -> Tensor:
        """Same shape out."""
        m_BCTF = at_least_single(m_BCTF)
        power_BC = m_BCTF.square().mean((-2, -1), keepdim=True)
        return self.gain * m_BCTF * torch.rsqrt(power_BC + self.FLOOR) + self.bias


class Gate(nn.Module):
    """`3 sigmoid(slope * convolution)`: between 0 and 3, 1 before training."""

    def __init__(self, in_channels: int, out_channels: int, bins: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(in_channels, out_channels, 1)
        self.slope = nn.Parameter(torch.ones(out_channels, 1, bins))
        nn.init.zeros_(self.mix.weight)
        nn.init.constant_(self.mix.bias, -math.log(2))  # type: ignore[arg-type]  # there is one

    def forward(self, x_BCTF: Float[Tensor, "batch channels frames bins"]) -> Tensor:
        """[batch, out_channels, frames, bins]."""
        return GATE_CEILING * torch.sigmoid(self.slope * self.mix(x_BCTF))


class InteractiveDense(nn.Module):
    """Densely connected interactive convolutions that look back 1, 2, 4, 8, ... frames; the newest stands in front."""

    convolution: type[InteractiveConvolution] = InteractiveConvolution

    def __init__(self, config: ReNetConfig, bins: int) -> None:
        super().__init__()
        phases, magnitudes = config.phase_channels, config.magnitude_channels
        self.layers = nn.ModuleList(
            self.convolution(
                config,
                ((place + 1) * phases, (place + 1) * magnitudes),
                (2, 3),
                bins,
                padding=1,
                dilation=2**place,
            )
            for place in range(config.dense_depth)
        )

    def forward(self, x: Streams, *memory: object) -> Streams:
        """Same shapes out; a memory is handed on to the convolutions of the causal form."""
        seen = newest = x
        for layer in self.layers:
            newest = layer(seen, *memory)
            phase, magnitude = (
                torch.cat([newest.phase, seen.phase], 2),
                torch.cat([newest.magnitude, seen.magnitude], 1),
            )
            seen = Streams(phase, magnitude)
        return newest


class HybridBlock(nn.Module):
    """A hybrid layer along time (each bin alone), then one along frequency (each frame alone); residuals around."""

    def __init__(self, config: ReNetConfig) -> None:
        super().__init__()
        self.time = self.time_layer(config)
        self.frequency = HybridLayer(config)

    def time_layer(self, config: ReNetConfig) -> nn.Module:
        """The layer along time, which the causal form replaces."""
        return HybridLayer(config)

    def forward(self, x: Streams, *memory: object) -> Streams:
        """Same shapes out; a memory is handed on to the layer along time of the causal form."""
        batch, _, _, frames, bins = x.phase.shape
        phase_SLPC = x.phase.permute(0, 4, 3, 1, 2).flatten(0, 1)
        magnitude_SLC = x.magnitude.permute(0, 3, 2, 1).flatten(0, 1)
        x = summed(self.time(Streams(phase_SLPC, magnitude_SLC), *memory), Streams(phase_SLPC, magnitude_SLC))
        x = Streams(*(each.unflatten(0, (batch, bins)).transpose(1, 2).flatten(0, 1) for each in x))
        x = summed(self.frequency(x), x)
        phase, magnitude = (each.unflatten(0, (batch, frames)) for each in x)
        return Streams(phase.permute(0, 3, 4, 1, 2), magnitude.permute(0, 3, 1, 2))


class HybridLayer(nn.Module):
    """HADF: one attention over both streams, then a feed-forward for each; a residual around each, norms at the end."""

    def __init__(self, config: ReNetConfig) -> None:
        super().__init__()
        phases, magnitudes = config.phase_channels, config.magnitude_channels
        self.norms = StreamNorms(config)
        self.attention = HybridAttention(config)
        self.middle_norms = StreamNorms(config)
        self.magnitude_feed_forward = RecurrentFeedForward(magnitudes)
        self.phase_feed_forward = ComplexGlu(phases, config.glu_width, bias=not config.equivariant)
        self.last_norms = StreamNorms(config)

    def forward(self, x: Streams) -> Streams:
        """Sequences in, sequences of the same shapes out."""
        x = summed(x, self.attention(self.norms(x)))
        normed = self.middle_norms(x)
        fed = Streams(self.phase_feed_forward(normed.phase), self.magnitude_feed_forward(normed.magnitude))
        return self.last_norms(summed(x, fed))


class StreamNorms(nn.Module):
    """Root-mean-square norms over channels, one for each stream."""

    def __init__(self, config: ReNetConfig) -> None:
        super().__init__()
        self.phase = ComplexRmsNorm(config.phase_channels)
        self.magnitude = nn.RMSNorm(config.magnitude_channels, eps=1e-9)

    def forward(self, x: Streams) -> Streams:
        """Same shapes out."""
        return Streams(self.phase(x.phase), self.magnitude(at_least_single(x.magnitude)))


class HybridAttention(nn.Module):
    """One attention map for both streams: its logits are Re(q k^H) of the phase plus q k^T of the magnitude.

    That is a scaled dot product of [Re q, Im q, q_m] with the same of k. The conjugate makes the logits deaf to a
    rotation of everything; the values turn.
    """

    def __init__(self, config: ReNetConfig) -> None:
        super().__init__()
        heads, bias = config.heads, not config.equivariant
        self.hybrid, self.widths = config.hybrid, (2 * config.phase_head, config.magnitude_head)
        self.query, self.key, self.value = (Projection(config) for _ in range(3))
        self.phase_out = ComplexLinear(heads * config.phase_head, config.phase_channels, bias)
        self.magnitude_out = nn.Linear(heads * config.magnitude_head, config.magnitude_channels)

    def forward(self, x: Streams) -> Streams:
        """Sequences in, sequences of the same shapes out."""
        return self.attended(self.query(x), self.key(x), self.value(x), None)

    def attended(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Streams:
        """What the places of the query make of those of key and value; `seen` says which of them they may see."""
        if self.hybrid:
            found = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
            phase_SHLE, magnitude_SHLE = found.split(self.widths, dim=-1)
        else:
            parts = zip(*(each.split(self.widths, dim=-1) for each in (query, key, value)), strict=True)
            phase_SHLE, magnitude_SHLE = (
                functional.scaled_dot_product_attention(q, k, v, attn_mask=seen) for q, k, v in parts
            )
        phase_SLPC = phase_SHLE.unflatten(-1, (2, -1)).permute(0, 2, 3, 1, 4).flatten(-2)
        magnitude_SLC = magnitude_SHLE.transpose(1, 2).flatten(-2)
        return Streams(self.phase_out(phase_SLPC), self.magnitude_out(magnitude_SLC))


class Projection(nn.Module):
    """Queries, keys or values of both streams, [sequences, heads, places, 2 phase_head + magnitude_head]."""

    def __init__(self, config: ReNetConfig) -> None:
        super().__init__()
        self.heads = config.heads
        bias = not config.equivariant
        self.phase = ComplexLinear(config.phase_channels, config.heads * config.phase_head, bias)
        self.magnitude = nn.Linear(config.magnitude_channels, config.heads * config.magnitude_head, bias=False)

    def forward(self, x: Streams) -> Tensor:
        """Real part, imaginary part and magnitude side by side."""
        phase_SLPHE = self.phase(x.phase).unflatten(-1, (self.heads, -1))
        magnitude_SLHE = self.magnitude(x.magnitude).unflatten(-1, (self.heads, -1))
        return torch.cat([phase_SLPHE.permute(0, 3, 1, 2, 4).flatten(-2), magnitude_SLHE.transpose(1, 2)], dim=-1)


def summed(one: Streams, other: Streams) -> Streams:
    """A residual in each stream."""
    return Streams(one.phase + other.phase, one.magnitude + other.magnitude)
