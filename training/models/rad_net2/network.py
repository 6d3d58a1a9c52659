"""The two stages as one network that answers sample by sample, 20 ms behind."""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Complex, Float
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from training.models.base import Enhancer, Estimate, ModelConfig, Streamer
from training.models.layers import without_autocast
from training.models.rad_net2.denoising import Denoising, DenoisingNet
from training.models.rad_net2.realtime import FrameByFrame
from training.models.rad_net2.repairing import KERNEL, LEVELS, STRIDE, ComNet, Repairing
from training.models.rad_net2.temporal import halvings
from training.models.streaming import Heard, Memory, streamed
from training.spectral import CausalStft

# Shape letters in this file: B batch, T frames, F bins.

SILENCE_FLOOR = 1e-5
"""RMS (-100 dBFS) below which a frame is taken for silence, and stays it."""


class Stages(NamedTuple):
    """What the stages make of a spectrum; alone, the first one makes the enhanced one too."""

    repaired: Complex[Tensor, "batch bins frames"]
    enhanced: Complex[Tensor, "batch bins frames"]


class RadNet2(Enhancer):
    """A repairing network and a denoising network behind it; the first may stand alone, and may see both sides.

    Source: RaD-Net 2 (arXiv 2406.07498), of which the abstract and summaries were at hand: two causal stages at 48 kHz,
    20 ms in all, the first one COM-Net, taught by a network that sees both sides, the second one with complex axial
    self-attention in its feature coders. Stage 1 has 3,985,524 parameters, stage 2 4,563,674; no size is published.
    See `Repairing` and `Denoising` for what is a reconstruction.

    Ours: 20 ms windows every 10 ms, zeros to 1024 samples, square-root Hann windows on both sides; spectra as of
    windows with an energy of one; the highest bin is left to stage 1; a frame below -100 dBFS stays silent, which
    biases would not let it. Nothing knows the level of the whole: it is for the network to mend.
    """

    class Config(ModelConfig):
        """Settings of both stages."""

        kind: Literal["rad_net2"] = "rad_net2"
        sample_rate: int = 48000
        window_size: int = Field(default=960, gt=0)
        """STFT window, in samples (20 ms)."""
        hop_size: int = Field(default=480, gt=0)
        """STFT hop, in samples (10 ms)."""
        fft_size: int = Field(default=1024, gt=0)
        sees_both_sides: bool = False
        """The teacher: the first stage with convolutions and norms over past and future; as many parameters."""
        repairing: Repairing = Repairing()
        denoising: Denoising | None = Denoising()
        """None: the first stage alone."""
        frozen_repairing: bool = False
        """The first stage does not learn, nor do its statistics: the third training step."""

        @model_validator(mode="after")
        def _fits(self) -> "RadNet2.Config":
            bins = self.fft_size // 2
            if self.window_size % self.hop_size or self.fft_size < self.window_size or self.fft_size % 2:
                raise ValueError("window_size must be some times hop_size, and fft_size even and no smaller")
            if halvings(bins + 1, 3, 7, 4)[-1] < 1:
                raise ValueError(f"fft_size {self.fft_size} leaves no bins after three convolutions; 254 is the least")
            if self.denoising is not None:
                if self.sees_both_sides:
                    raise ValueError("sees_both_sides is for the first stage alone; set denoising to null")
                if bins % 2 ** (len(self.denoising.channels) + 1):
                    raise ValueError(f"{bins} bins cannot be halved {len(self.denoising.channels) + 1} times")
            return self

        def build(self) -> "RadNet2":
            """The network, with fresh weights."""
            return RadNet2(self)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.causal = not config.sees_both_sides
        self.latency_samples = config.window_size - 1 if self.causal else 0
        self.stft = CausalStft(config.window_size, config.hop_size, config.fft_size)
        bins = config.fft_size // 2
        self.repairing = ComNet(config.repairing, bins + 1)
        self.denoising = None if config.denoising is None else DenoisingNet(config.denoising, bins)

    def forward(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch samples"]:
        """Enhanced waveforms."""
        if self.causal:
            return self._whole(noisy, self._enhanced)
        return self._whole(noisy, lambda spectrum_BFT, _: self._enhanced(spectrum_BFT, None))

    def estimate(self, noisy: Float[Tensor, "batch samples"]) -> Estimate:
        """The enhanced waveform; as a branch the repaired one that stage 2 begins from; the features of stage 1.

        Features are those of `ComNet.examined`: of equal shapes for a student and the teacher of its size.
        """
        found, features = list[Stages](), list[Tensor]()

        def both(spectrum_BFT: Tensor, memory: Memory) -> Tensor:
            found.append(self._stages(spectrum_BFT, memory if self.causal else None, features))
            return found[0].enhanced

        enhanced = self._whole(noisy, both)
        branches = {} if self.denoising is None else {"repaired": self._whole(noisy, lambda *_: found[0].repaired)}
        return Estimate(enhanced, branches, features=tuple(features))

    def stream(
        self, state: Heard | None, chunk: Float[Tensor, "batch chunk"]
    ) -> tuple[Heard, Float[Tensor, "batch ready"]]:
        """See `Enhancer.stream`; exact up to the rounding of sums."""
        if not self.causal:
            return super().stream(state, chunk)
        return streamed(self.stft, self._enhanced, state, chunk)

    def streamer(self, compiled: bool = True) -> FrameByFrame | Streamer:
        """`stream` of these weights as they stand now, made for little work a frame: a `FrameByFrame`.

        `compiled`: by a C++ compiler where one is found; else, or without one, in PyTorch: the same answers, later.
        Attention along time and its full form are not in it: networks with these give their `stream`.
        """
        denoising = self.config.denoising
        if not self.causal or (denoising is not None and (denoising.window or denoising.attention == "full")):
            return super().streamer()
        widths = halvings(self.config.fft_size // 2 + 1, LEVELS, KERNEL, STRIDE)
        return FrameByFrame(self.stft, self.repairing, self.denoising, widths, SILENCE_FLOOR, compiled)

    def train(self, mode: bool = True) -> "RadNet2":
        """Training mode, but for a first stage that is frozen."""
        super().train(mode)
        if self.config.frozen_repairing:
            self.repairing.eval()
        return self

    def learning_rate_scales(self) -> dict[str, float]:
        """A frozen first stage does not learn."""
        return {"repairing.": 0.0} if self.config.frozen_repairing else {}

    def _whole(self, noisy: Tensor, enhance: Any) -> Tensor:
        """An utterance: one chunk, and zeros until its end has come out."""
        _, enhanced = streamed(self.stft, enhance, None, functional.pad(noisy, (0, self.config.window_size - 1)))
        return enhanced[:, : noisy.shape[-1]]

    def _enhanced(self, spectrum_BFT: Complex[Tensor, "batch bins frames"], memory: Memory | None) -> Tensor:
        return self._stages(spectrum_BFT, memory).enhanced

    def _stages(
        self,
        spectrum_BFT: Complex[Tensor, "batch bins frames"],
        memory: Memory | None,
        features: list[Tensor] | None = None,
    ) -> Stages:
        """Features are put into the list, and let go where there is none."""
        x_BCTF = self._parts(spectrum_BFT)
        loud_B1T1 = x_BCTF.square().mean((1, 3), keepdim=True).sqrt()
        loud_B1T1 = loud_B1T1 / (loud_B1T1 + SILENCE_FLOOR)
        if features is None:
            repaired_BCTF = self.repairing(x_BCTF, memory)
        else:
            repaired_BCTF, found = self.repairing.examined(x_BCTF, memory)
            features += found
        repaired_BCTF = repaired_BCTF * loud_B1T1
        if self.denoising is None:
            repaired_BFT = self._spectrum(repaired_BCTF)
            return Stages(repaired_BFT, repaired_BFT)
        assert memory is not None
        low_BCTF, top_BCTF = repaired_BCTF[..., :-1], repaired_BCTF[..., -1:]
        enhanced_BCTF = torch.cat([self.denoising(low_BCTF, memory) * loud_B1T1, top_BCTF], dim=-1)
        return Stages(self._spectrum(repaired_BCTF), self._spectrum(enhanced_BCTF))

    def _parts(self, spectrum_BFT: Tensor) -> Tensor:
        """[batch, 2, frames, bins], as of a window with an energy of one."""
        return torch.view_as_real(spectrum_BFT).permute(0, 3, 2, 1) / self._root_energy()

    def _spectrum(self, x_BCTF: Tensor) -> Tensor:
        with without_autocast(x_BCTF):
            wide = x_BCTF.float() if x_BCTF.dtype in (torch.bfloat16, torch.float16) else x_BCTF
            return torch.view_as_complex((wide * self._root_energy()).permute(0, 3, 2, 1).contiguous())

    def _root_energy(self) -> Tensor:
        return self.stft.window.square().sum().sqrt()
