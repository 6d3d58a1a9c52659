"""MP-SENet: a mask on the magnitude and, beside it, the phase itself. The baseline of its line."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Complex, Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from training.models.base import Polar
from training.models.layers import (
    Conformer,
    DilatedDense,
    LearnableSigmoid,
    Maps,
    PhaseDecoder,
    PlainAttention,
    SubPixelConvolution,
    TimeFrequencyBlock,
    Transformer,
    normalised,
    through,
)
from training.models.polar import PolarConfig, PolarEnhancer

# Shape letters in this file: B batch, C channels, T frames, F bins.

MASK_CEILING = 2.0


class MpSenet(PolarEnhancer):
    """Magnitude and phase denoised in parallel, in two editions.

    Source: Lu, Ai and Ling, "MP-SENet: A Speech Enhancement Model with Parallel Denoising of Magnitude and Phase
    Spectra", Interspeech 2023, arXiv 2305.13686 (edition 2023), and "Explicit Estimation of Magnitude and Phase Spectra
    in Parallel for High-Quality Speech Enhancement", Neural Networks 2025, arXiv 2308.08926 (edition 2024)::

        X   = M Y,  M = 2 sigmoid(slope_f u)     from the mask decoder; Y, X compressed magnitudes
        phi = atan2(I, R)                        from the phase decoder's two last convolutions

    Published sizes: 2.05 M (2023), 2.26 M (2024), 1.99 M (2024, phase decoder only, as RENet's authors count it).
    Ours: 2,048,849, 2,263,372 and 1,991,362.

    - 2023: convolutions three frames tall, conformers without positions, transposed convolutions; the mask's head
      normalises its one channel; plain modulus and angle.
    - 2024: two frames tall (the past only), transformers with a recurrent feed-forward, sub-pixel convolutions; floors
      inside modulus and angle.

    Deviation: sequences stand along time and along frequency, as the papers say. In the published code attention (and
    in 2024 the recurrent layer) runs along the first axis instead, so that an item depends on its batch;
    `batch_first=False` does as that code does, which the published weights were presumably trained with.
    Floors of 1e-9 stay out of the 2024 edition's last atan2, which has none in the code either.
    """

    class Config(PolarConfig):
        """Settings of MP-SENet; the defaults are the 2024 edition at its published size."""

        kind: Literal["mp_senet"] = "mp_senet"
        edition: Literal["2023", "2024"] = "2024"
        channels: int = Field(default=64, gt=0)
        dense_depth: int = 4
        """Convolutions in a dilated dense block."""
        blocks: int = 4
        """Time-frequency blocks."""
        heads: int = 4
        """Attention heads; they divide the channels."""
        kernel: int = 31
        """Depthwise convolution of a conformer (edition 2023), in frames or bins; odd."""
        dropout: float = 0.2
        """Inside the conformers (edition 2023); the transformers have none."""
        batch_first: bool = True
        """False: attend along the first axis, as the published code does."""
        mask_decoder: bool = True
        """False: the phase decoder only; the magnitude that came in is kept."""
        activation_checkpointing: bool = False
        """Keep less while training, and compute it again in the backward pass; no part of what the weights mean."""

        @model_validator(mode="after")
        def _fits(self) -> "MpSenet.Config":
            if self.channels % self.heads:
                raise ValueError(f"heads {self.heads} must divide channels {self.channels}")
            if self.kernel % 2 == 0:
                raise ValueError(f"kernel {self.kernel} must be odd")
            return self

        def build(self) -> "MpSenet":
            """The network, with fresh weights."""
            return MpSenet(self)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        width = config.channels
        self.encoder = nn.Sequential(
            *normalised(nn.Conv2d(2, width, 1)),
            _dense(config),
            *normalised(nn.Conv2d(width, width, (1, 3), stride=(1, 2), padding=(0, int(config.edition == "2024")))),
        )
        self.blocks = nn.Sequential(*(TimeFrequencyBlock(_layer(config)) for _ in range(config.blocks)))
        self.mask_decoder = MaskDecoder(config) if config.mask_decoder else None
        self.phase_decoder = _phase_decoder(config)

    def polar(self, noisy: Polar) -> Polar:
        """Masked magnitude and estimated phase."""
        z_BCTF = self._through(self.encoder, torch.stack([noisy.magnitude.mT, noisy.phase.mT], dim=1))
        for block in self.blocks:
            z_BCTF = self._through(block, z_BCTF)
        phase_BFT = self._through(self.phase_decoder, z_BCTF).mT
        if self.mask_decoder is None:
            return Polar(noisy.magnitude, phase_BFT)
        return Polar(noisy.magnitude * self._through(self.mask_decoder, z_BCTF).mT, phase_BFT)

    def _through(self, block: nn.Module, x: Tensor) -> Tensor:
        return through(block, x, recompute=self.config.activation_checkpointing)

    def analysed(self, spectrum: Complex[Tensor, "batch bins frames"]) -> Polar:
        """Compressed magnitude and phase; without floors in the edition of 2023."""
        if self.config.edition == "2023":
            return Polar(spectrum.abs() ** self.config.compression, spectrum.angle())
        return super().analysed(spectrum)


class MaskDecoder(nn.Module):
    """A mask between 0 and 2 for each bin of each frame."""

    def __init__(self, config: MpSenet.Config) -> None:
        super().__init__()
        width = config.channels
        self.dense = _dense(config)
        if config.edition == "2023":
            self.head = nn.Sequential(_transposed(width), *normalised(nn.Conv2d(width, 1, 1)), nn.Conv2d(1, 1, 1))
        else:
            self.head = nn.Sequential(*normalised(SubPixelConvolution(width, width)), nn.Conv2d(width, 1, (1, 2)))
        self.mask = LearnableSigmoid(config.bins, MASK_CEILING)

    def forward(self, z_BCTF: Maps) -> Float[Tensor, "batch frames mask_bins"]:
        """The mask."""
        return self.mask(self.head(self.dense(z_BCTF)).squeeze(1))


def _dense(config: MpSenet.Config) -> DilatedDense:
    return DilatedDense(config.channels, config.dense_depth, 3 if config.edition == "2023" else 2)


def _phase_decoder(config: MpSenet.Config) -> PhaseDecoder:
    width = config.channels
    if config.edition == "2023":
        return PhaseDecoder(width, _dense(config), _transposed(width), reach=1)
    return PhaseDecoder(width, _dense(config), SubPixelConvolution(width, width), reach=2)


def _transposed(width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, width, (1, 3), stride=(1, 2))


def _layer(config: MpSenet.Config) -> Callable[[], nn.Module]:
    if config.edition == "2024":
        return partial(Transformer, config.channels, config.heads, 0.0, config.batch_first)
    attention = partial(PlainAttention, config.channels, config.heads, config.dropout, config.batch_first)
    return partial(Conformer, config.channels, attention, config.kernel, config.dropout)
