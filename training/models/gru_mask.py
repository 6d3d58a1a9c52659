"""A causal recurrent mask: the small baseline that every scorecard carries."""

from typing import Literal

import torch
from jaxtyping import Complex, Float
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import Enhancer, Estimate, ModelConfig
from training.models.streaming import Heard, Memory, streamed
from training.spectral import LEVEL_FLOOR, CausalStft

# Shape letters in this file: B batch, F frequency bins, K frames, D hidden width.

FEATURE_FLOOR = 1e-4
"""Power (relative to the mean heard so far) below which the features stop following the input."""


class GruMask(Enhancer):
    """Real mask on the short-time spectrum from a recurrent network over frames; the noisy phase is kept.

    Our own baseline, after the common recurrent mask estimators; no paper. The input of the recurrence is the log power
    of each bin relative to the mean power of everything heard so far, so the input level does not matter and no frame
    needs the future. `forward` is one call of `stream` over the whole utterance: they cannot disagree. With
    `sees_both_sides`, the recurrence runs both ways, at half the width each: a teacher whose features have the shape of
    its causal student's.
    """

    causal = True

    class Config(ModelConfig):
        """Settings of the recurrent mask."""

        kind: Literal["gru_mask"] = "gru_mask"
        fft_size: int = 400
        """Frame, in samples (25 ms at 16 kHz)."""
        hop_size: int = 200
        """From frame to frame, in samples (12.5 ms at 16 kHz)."""
        width: int = 192
        """Units in each recurrent layer."""
        layers: int = 2
        """Recurrent layers."""
        mask_floor: float = 0.0
        """Smallest value of the mask: how much noise is left in, at least."""
        sees_both_sides: bool = False
        """A teacher: each frame knows those behind it and those to come, and it cannot stream."""

        @model_validator(mode="after")
        def _whole_overlap(self) -> "GruMask.Config":
            if self.fft_size % self.hop_size or self.fft_size == self.hop_size:
                raise ValueError(f"fft_size {self.fft_size} must be 2, 3, ... times hop_size {self.hop_size}")
            if self.sees_both_sides and self.width % 2:
                raise ValueError(f"width {self.width} must be even for a recurrence that runs both ways")
            return self

        def build(self) -> "GruMask":
            """The network, with fresh weights."""
            return GruMask(self)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        bins = config.fft_size // 2 + 1
        both = config.sees_both_sides
        self.causal, self.latency_samples = not both, 0 if both else config.fft_size - 1
        self.stft = CausalStft(config.fft_size, config.hop_size)
        self.encoder = nn.Linear(bins, config.width)
        width = config.width // 2 if both else config.width
        self.memory = nn.GRU(config.width, width, config.layers, batch_first=True, bidirectional=both)
        self.decoder = nn.Linear(config.width, bins)

    def forward(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch samples"]:
        """Enhanced waveforms."""
        return self.estimate(noisy).enhanced

    def estimate(self, noisy: Float[Tensor, "batch samples"]) -> Estimate:
        """The enhanced waveform; as features what encoder and recurrence give, [batch, width, frames]."""
        features = list[Tensor]()

        def enhance(spectrum_BFK: Tensor, memory: Memory) -> Tensor:
            return self._enhanced(spectrum_BFK, memory, features)

        _, enhanced = streamed(self.stft, enhance, None, functional.pad(noisy, (0, self.config.fft_size - 1)))
        return Estimate(enhanced[:, : noisy.shape[-1]], {}, features=tuple(features))

    def stream(
        self, state: Heard | None, chunk: Float[Tensor, "batch chunk"]
    ) -> tuple[Heard, Float[Tensor, "batch ready"]]:
        """See `Enhancer.stream`; exact up to the rounding of sums."""
        if not self.causal:
            return super().stream(state, chunk)
        return streamed(self.stft, self._enhanced, state, chunk)

    def _enhanced(
        self, spectrum_BFK: Complex[Tensor, "batch bins frames"], memory: Memory, features: list[Tensor] | None = None
    ) -> Complex[Tensor, "batch bins frames"]:
        return self._mask(spectrum_BFK, memory, features) * spectrum_BFK

    def _mask(
        self, spectrum_BFK: Complex[Tensor, "batch bins frames"], memory: Memory, features: list[Tensor] | None
    ) -> Float[Tensor, "batch bins frames"]:
        power_BKF = (spectrum_BFK.real.square() + spectrum_BFK.imag.square()).mT
        heard_BK = memory.earlier(power_BKF.new_zeros(len(power_BKF), 1)) + power_BKF.mean(-1).cumsum(-1)
        memory.keep(heard_BK[:, -1:])
        count_K = torch.arange(1, heard_BK.shape[-1] + 1, device=heard_BK.device) + memory.frames
        mean_BK = heard_BK / count_K + LEVEL_FLOOR * self.config.fft_size
        features_BKF = (power_BKF / mean_BK.unsqueeze(-1) + FEATURE_FLOOR).log10() / 2 + 1
        encoded_BKD = self.encoder(features_BKF).relu()
        hidden_BKD = memory.through(self.memory, encoded_BKD) if self.causal else self.memory(encoded_BKD)[0]
        if features is not None:
            features += [encoded_BKD.mT, hidden_BKD.mT]
        mask_BKF = self.decoder(hidden_BKD).sigmoid()
        floor = self.config.mask_floor
        return (floor + (1 - floor) * mask_BKF).mT
