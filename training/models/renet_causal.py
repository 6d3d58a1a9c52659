"""RENet frame by frame: running norms, attention over the frames just past, and a state between chunks."""

from typing import Literal

import torch
from jaxtyping import Complex, Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from training.models import streaming
from training.models.base import Enhancer, Polar
from training.models.equivariant import ComplexConvolution, ComplexLayer, modulus
from training.models.layers import at_least_single, without_autocast
from training.models.renet import (
    ANGLE_FLOOR,
    HybridAttention,
    HybridBlock,
    InteractiveConvolution,
    InteractiveDense,
    ReNetConfig,
    StreamNorms,
    Streams,
    summed,
)
from training.models.streaming import Heard, streamed
from training.spectral import LEVEL_FLOOR, CausalStft, magnitude, phase

# Shape letters in this file: B batch, C channels, T frames, F bins; S sequences, L places, D hidden width.

PRIOR_FRAMES, PRIOR_POWER = 10, 0.01
"""A running norm starts as if it had heard ten frames of this mean power."""
POWER_FLOOR, LARGEST_GAIN = 1e-6, 6.0
"""Mean power below which a running norm stops turning up, and the most it turns up."""


class Memory(streaming.Memory):
    """What the layers keep from one chunk to the next, and how many frames back they look."""

    def __init__(self, frames: int, window: int, kept: tuple[Tensor, ...]) -> None:
        super().__init__(kept, frames)
        self.window = window


class CausalReNet(Enhancer):
    """RENet without a look ahead.

    Source: the streaming variant in the repository of RENet's authors (`ReNet` has the paper); no size or result of it
    is published. Ours has 1,586,833 parameters. From there: norms that run over 100 frames, as if ten frames of RMS 0.1
    had been heard before, at most six-fold; attention along time to the 100 newest frames; two recurrent layers that
    read forward; two convolutions of four frames, both looking back, in the phase's feed-forward; frequency blocks as
    they are; a hop of 200 samples.

    Deviations: frames are not centred (`CausalStft`: square-root Hann windows on both sides), so what waits is one
    window less a sample; the level is the mean power of the last 100 frames, undone frame by frame. Parity with the
    authors' streaming code was not shown.
    """

    class Config(ReNetConfig):
        """Settings of the causal RENet; the defaults are the standard size."""

        kind: Literal["renet_causal"] = "renet_causal"
        hop_size: int = Field(default=200, gt=0)
        """STFT hop, in samples (12.5 ms at 16 kHz)."""
        window: int = Field(default=100, gt=1)
        """Frames that norms and attention look back over, the present one included (1.25 s)."""

        @model_validator(mode="after")
        def _hops_fit(self) -> "CausalReNet.Config":
            if self.fft_size % self.hop_size:
                raise ValueError(f"fft_size {self.fft_size} must be some times hop_size {self.hop_size}")
            return self

        def build(self) -> "CausalReNet":
            """The network, with fresh weights."""
            return CausalReNet(self)

    config: Config
    causal = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        bins, half = config.bins, (config.bins + 1) // 2
        streams = config.phase_channels, config.magnitude_channels
        self.latency_samples = config.fft_size - 1
        self.stft = CausalStft(config.fft_size, config.hop_size)
        self.first = CausalConvolution(config, (1, 1), (1, 1), bins, gated=False)
        self.encoder = CausalDense(config, bins)
        self.down = CausalConvolution(config, streams, (1, 3), half, stride=2, padding=1)
        self.blocks = nn.ModuleList(CausalBlock(config) for _ in range(config.blocks))
        self.decoder = CausalDense(config, half)
        self.up = CausalConvolution(config, streams, (1, 3), 2 * half, padding=1, upsample=True)
        self.magnitude_head = nn.Conv2d(config.magnitude_channels, 1, (1, 2))
        self.phase_head = ComplexConvolution(config.phase_channels, 1, (1, 2), bias=not config.equivariant)

    def forward(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch samples"]:
        """Enhanced waveforms."""
        _, enhanced = self.stream(None, functional.pad(noisy, (0, self.latency_samples)))
        return enhanced[:, : noisy.shape[-1]]

    def stream(
        self, state: Heard | None, chunk: Float[Tensor, "batch chunk"]
    ) -> tuple[Heard, Float[Tensor, "batch ready"]]:
        """See `Enhancer.stream`; exact up to the rounding of sums."""
        return streamed(
            self.stft, self._enhanced, state, chunk, lambda kept, frames: Memory(frames, self.config.window, kept)
        )

    def _enhanced(
        self, spectrum_BFT: Complex[Tensor, "batch bins frames"], memory: Memory
    ) -> Complex[Tensor, "batch bins frames"]:
        """Brought to a level, through the network, and back to it."""
        exponent = self.config.compression
        with without_autocast(spectrum_BFT):
            gain_B1T = self._level_gain(spectrum_BFT, memory)
            levelled_BFT = spectrum_BFT * gain_B1T
            angle_BFT = phase(levelled_BFT) if self.config.phase_floors else levelled_BFT.angle()
            heard = Polar(magnitude(levelled_BFT, exponent), angle_BFT)
        if self.config.retrieve_phase:
            heard = Polar(heard.magnitude, torch.zeros_like(heard.phase))
        found = self.polar(heard, memory)
        if self.config.retrieve_phase:
            found = Polar(heard.magnitude, found.phase)
        with without_autocast(spectrum_BFT):
            return torch.polar(found.magnitude ** (1 / exponent), found.phase) / gain_B1T

    def polar(self, noisy: Polar, memory: Memory) -> Polar:
        """Mapped magnitude and estimated phase of the frames of a chunk."""
        phase_BTF = noisy.phase.mT
        x = Streams(torch.stack([phase_BTF.cos(), phase_BTF.sin()], 1).unsqueeze(2), noisy.magnitude.mT.unsqueeze(1))
        x = self.down(self.encoder(self.first(x, memory), memory), memory)
        for block in self.blocks:
            x = block(x, memory)
        x = self.up(self.decoder(x, memory), memory)
        magnitude_BTF = at_least_single(self.magnitude_head(x.magnitude).squeeze(1).relu())
        real_BTF, imaginary_BTF = at_least_single(self.phase_head(x.phase).squeeze(2)).unbind(1)
        return Polar(magnitude_BTF.mT, torch.atan2(imaginary_BTF + ANGLE_FLOOR, real_BTF + ANGLE_FLOOR).mT)

    def _level_gain(self, spectrum_BFT: Tensor, memory: Memory) -> Tensor:
        """[batch, 1, frames]: brings the mean power of the newest frames to one, counted as of the waveform."""
        power_B1T = (spectrum_BFT.real.square() + spectrum_BFT.imag.square()).mean(1, keepdim=True)
        energy = self.stft.window.square().sum()
        return (running_sum(power_B1T, memory) / heard_frames(power_B1T, memory) / energy + LEVEL_FLOOR).rsqrt()


def heard_frames(like: Tensor, memory: Memory) -> Tensor:
    """[frames]: how many frames of the window each frame has behind it, itself included."""
    count = torch.arange(1, like.shape[-1] + 1, device=like.device) + memory.frames
    return count.clamp(max=memory.window)


def running_sum(power_BCT: Tensor, memory: Memory) -> Tensor:
    """Sum over the window that ends with each frame; what was not heard counts nothing."""
    return memory.behind(power_BCT, memory.window - 1, 2).unfold(2, memory.window, 1).sum(-1)


def running_gain(power_BCT: Tensor, memory: Memory, floor: float) -> Tensor:
    """One over the root of the running mean power, as far as prior, floors and the largest gain allow."""
    counted_T = heard_frames(power_BCT, memory) + PRIOR_FRAMES
    mean_BCT = (running_sum(power_BCT, memory) + PRIOR_FRAMES * PRIOR_POWER) / counted_T
    return torch.rsqrt(mean_BCT.clamp(min=POWER_FLOOR) + floor).clamp(max=LARGEST_GAIN)


class CausalConvolution(InteractiveConvolution):
    """MPICM with norms over the frames just past; gains and biases are those of the norms over utterances."""

    def forward(self, x: Streams, memory: Memory) -> Streams:  # type: ignore[override]
        """The frames of a chunk, behind those it still needs."""
        if self.past:
            x = Streams(memory.behind(x.phase, self.past, 3), memory.behind(x.magnitude, self.past, 2))
        phase_BPCTF, magnitude_BCTF = map(at_least_single, self.convolved(*x))
        phase_gain_BCT = running_gain(modulus(phase_BPCTF, 1).square().mean(-1), memory, self.phase_norm.FLOOR)
        gain_BCT = running_gain(magnitude_BCTF.square().mean(-1), memory, self.magnitude_norm.FLOOR)
        phase_BPCTF = self.phase_norm.gain * phase_BPCTF * phase_gain_BCT[:, None, :, :, None]
        magnitude_BCTF = self.magnitude_norm.gain * magnitude_BCTF * gain_BCT.unsqueeze(-1) + self.magnitude_norm.bias
        return self.interacted(phase_BPCTF, functional.silu(magnitude_BCTF))


class CausalDense(InteractiveDense):
    """The dense block, of causal convolutions."""

    convolution = CausalConvolution


class CausalBlock(HybridBlock):
    """A causal layer along time, the whole one along frequency."""

    def time_layer(self, config: ReNetConfig) -> nn.Module:
        """Along time."""
        return CausalLayer(config)


class CausalLayer(nn.Module):
    """HADF that sees the frames of a window that ends with its own."""

    def __init__(self, config: ReNetConfig) -> None:
        super().__init__()
        magnitudes = config.magnitude_channels
        self.norms, self.middle_norms, self.last_norms = (StreamNorms(config) for _ in range(3))
        self.attention = WindowedAttention(config)
        self.memory = nn.GRU(magnitudes, 2 * magnitudes, num_layers=2, batch_first=True)
        self.out = nn.Linear(2 * magnitudes, magnitudes)
        self.phase_feed_forward = CausalGlu(config.phase_channels, config.glu_width, bias=not config.equivariant)

    def forward(self, x: Streams, memory: Memory) -> Streams:
        """Sequences in, sequences of the same shapes out."""
        x = summed(x, self.attention(self.norms(x), memory))
        normed = self.middle_norms(x)
        magnitude_SLC = self.out(functional.leaky_relu(memory.through(self.memory, normed.magnitude)))
        return self.last_norms(summed(x, Streams(self.phase_feed_forward(normed.phase, memory), magnitude_SLC)))


class WindowedAttention(HybridAttention):
    """Hybrid attention to the newest places."""

    def forward(self, x: Streams, memory: Memory) -> Streams:  # type: ignore[override]
        """A place sees itself and those before it, as many as the window has and as were heard."""
        earlier = memory.window - 1
        key_SHLE, value_SHLE = memory.behind(self.key(x), earlier, 2), memory.behind(self.value(x), earlier, 2)
        return self.attended(self.query(x), key_SHLE, value_SHLE, self._seen(x.phase, memory))

    def _seen(self, like: Tensor, memory: Memory) -> Tensor:
        """[places, earlier + places]: True where a place may look."""
        earlier, places = memory.window - 1, like.shape[1]
        place = torch.arange(places, device=like.device)[:, None]
        seen = torch.arange(earlier + places, device=like.device)[None, :]
        return (seen >= place) & (seen <= place + earlier) & (seen >= earlier - memory.frames)


class CausalGlu(nn.Module):
    """The gated feed-forward of the phase, of two convolutions that look back three places."""

    REACH = 3

    def __init__(self, channels: int, width: int, bias: bool = False) -> None:
        super().__init__()
        self.up = ComplexLayer((2 * width, channels, self.REACH + 1), bias)
        self.norm = nn.LayerNorm(width)
        self.down = ComplexLayer((channels, width, self.REACH + 1))

    def forward(self, z_SLPC: Float[Tensor, "sequences places 2 channels"], memory: Memory) -> Tensor:
        """Same shape out."""
        x_SPCL = memory.behind(z_SLPC.flatten(-2).mT, self.REACH, 2)
        hidden = functional.conv1d(x_SPCL, self.up.block(), self.up.bias).unflatten(1, (2, -1))
        value_SPDL, gate_SPDL = hidden.chunk(2, dim=2)
        gate_SDL = functional.silu(self.norm(modulus(gate_SPDL, 1).mT)).mT
        gated = memory.behind((value_SPDL * gate_SDL.unsqueeze(1)).flatten(1, 2), self.REACH, 2)
        return functional.conv1d(gated, self.down.block()).mT.unflatten(-1, (2, -1))
