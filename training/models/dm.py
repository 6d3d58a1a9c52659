"""DM: one magnitude decoder read in two ways, as a mask on the noisy magnitude and as the clean magnitude itself."""

from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from training.alarms import MASK_SATURATION
from training.models.base import Enhancer, Estimate, ModelConfig, Polar
from training.models.layers import (
    Conformer,
    DilatedDense,
    LearnableSigmoid,
    PhaseDecoder,
    PlainAttention,
    RelativeAttention,
    TimeFrequencyBlock,
    at_least_single,
    normalised,
    through,
    without_autocast,
)
from training.spectral import Stft, level_gain, magnitude

# Shape letters in this file: B batch, C channels, T frames, F bins.

MASK_CEILING = 2.0

Hidden: TypeAlias = Float[Tensor, "batch channels frames half_bins"]


class Magnitudes(NamedTuple):
    """The compressed magnitudes that DM estimates, each at least zero."""

    fused: Float[Tensor, "batch frames bins"]
    masked: Float[Tensor, "batch frames bins"] | None
    """None where the network only maps."""
    mapped: Float[Tensor, "batch frames bins"] | None
    """None where the network only masks."""
    saturation: Float[Tensor, " batch"] | None = None
    """Share of the mask's values at an end of their range; None where there is no mask."""


class Dm(Enhancer):
    """Dual-path magnitude network for general speech restoration: noise, reverberation and lost bandwidth at once.

    Source: Yang, Kim, Choi, Moon and Chang, "DM: Dual-path Magnitude Network for General Speech Restoration",
    arXiv 2409.08702 (2024); renamed DBP-Net in Computer Speech & Language 100 (2026). With Y the compressed noisy
    magnitude, u the decoder's output and v the mapped one::

        M      = 2 sigmoid(slope_f u)                   masked:  X_mask = M Y
        v      = softplus(map head)                     mapped:  X_map  = v + alpha X_mask
        X      = omega X_mask + (1 - omega) X_map       fused, then the inverse STFT with the noisy phase

    Published size: 2.05 M parameters. Three readings of the paper have it (`training.models.presets`):

    - A, the default: 2,054,002 (2,053,937 with `tie_head=True`); tied decoders and the noisy phase.
    - B: 2,048,535; four conformers without positions, a decoder for each branch, the noisy phase.
    - C: 2,048,851; MP-SENet of 2023 whose magnitude decoder is read both ways, with its phase decoder kept.

    From the paper: the shared trunk, masking beside mapping, decoders that share parameters, the skip with a learnable
    alpha, the fusion weight omega, the noisy phase, the size. Reconstructed, since the paper's body could not be read:
    - front end and blocks of MP-SENet (Interspeech 2023), which has exactly this size; compression exponent 0.3;
    - five time-frequency blocks with CMGAN's relative positions: the depth that meets the size with tied decoders;
    - alpha starts at 1 and omega = sigmoid(w) at 0.5 (HD-DEMUCS learns such a weight too); softplus keeps v above zero.

    Deviations: attention runs along time and along frequency, as papers of this line describe; the published MP-SENet
    code mixes the items of a batch. `tie_head=False` (the default) gives the map a 1x1 head of its own: fully tied, the
    mask logit and the mapped magnitude are one tensor, whose normalisation forgets how loud the utterance is. The
    embeddings of distances start at zero, since training on 2 s never meets the longer ones. Distances beyond 512
    frames (3.2 s) count as 512.
    """

    class Config(ModelConfig):
        """Settings of DM; the defaults are the published size."""

        kind: Literal["dm"] = "dm"
        fft_size: int = Field(default=400, gt=0)
        """STFT window, in samples (25 ms at 16 kHz)."""
        hop_size: int = Field(default=100, gt=0)
        """STFT hop, in samples (6.25 ms at 16 kHz)."""
        compression: float = 0.3
        """Exponent of the magnitude inside the network."""
        channels: int = 64
        dense_depth: int = 4
        """Convolutions in a dilated dense block."""
        blocks: int = 5
        """Time-frequency blocks."""
        heads: int = 4
        """Attention heads; they divide the channels."""
        reach: int = 512
        """Farthest distance with a position of its own, in frames or bins."""
        kernel: int = 31
        """Depthwise convolution of a conformer, in frames or bins; odd."""
        dropout: float = 0.2
        tie_head: bool = False
        """Use the mask's logit as the mapped magnitude too, instead of a 1x1 projection of its own. Where the map has
        a decoder to itself: give it a head built like the mask's."""
        relative_positions: bool = True
        """CMGAN's attention; False: MP-SENet's, which knows no positions."""
        tie_decoders: bool = True
        """One decoder for mask and map."""
        phase_decoder: bool = False
        """Estimate the phase, as MP-SENet does, instead of keeping the noisy one; the encoder then sees it too."""
        branches: Literal["both", "mask", "map"] = "both"
        """An ablation: only the mask, or only the map."""
        skip: bool = True
        """False, an ablation: the map does not see the masked magnitude."""
        activation_checkpointing: bool = False
        """Keep less while training, and compute it again in the backward pass; no part of what the weights mean."""

        @model_validator(mode="after")
        def _fits(self) -> "Dm.Config":
            if self.fft_size % 4:
                raise ValueError(f"fft_size {self.fft_size} must be divisible by 4, for an odd number of bins")
            if 2 * self.hop_size > self.fft_size:
                raise ValueError(f"hop_size {self.hop_size} must be at most half of fft_size {self.fft_size}")
            if self.channels % self.heads:
                raise ValueError(f"heads {self.heads} must divide channels {self.channels}")
            if self.kernel % 2 == 0:
                raise ValueError(f"kernel {self.kernel} must be odd")
            if self.branches != "both" and not self.tie_decoders:
                raise ValueError(f"tie_decoders=False needs both branches, not branches={self.branches!r}")
            return self

        def build(self) -> "Dm":
            """The network, with fresh weights."""
            return Dm(self)

    config: Config
    map_decoder: nn.Module
    mask_head: nn.Module
    map_head: nn.Module
    mask: LearnableSigmoid
    alpha: nn.Parameter
    omega_logit: nn.Parameter

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        width = config.channels
        self.stft = Stft(config.fft_size, config.hop_size)
        self.encoder = nn.Sequential(
            *normalised(nn.Conv2d(1 + config.phase_decoder, width, 1)),
            DilatedDense(width, config.dense_depth),
            *normalised(nn.Conv2d(width, width, (1, 3), stride=(1, 2))),
        )
        self.blocks = nn.Sequential(*(TimeFrequencyBlock(lambda: _conformer(config)) for _ in range(config.blocks)))
        self.decoder = _decoder(config)
        self._build_heads(config)
        self.phase_decoder = (
            PhaseDecoder(width, DilatedDense(width, config.dense_depth), _upsampling(width), 1)
            if config.phase_decoder
            else None
        )

    def forward(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch samples"]:
        """Enhanced waveforms."""
        return self.estimate(noisy).enhanced

    def estimate(self, noisy: Float[Tensor, "batch samples"]) -> Estimate:
        """The enhanced waveform; with both branches, also `masked` and `mapped`; how saturated the mask is."""
        with without_autocast(noisy):
            gain = level_gain(noisy)
            spectrum_BFT = self.stft(noisy * gain)
            noisy_BTF, phase_BTF = magnitude(spectrum_BFT, self.config.compression).mT, spectrum_BFT.angle().mT
        z_BCTF = self.hidden(noisy_BTF, phase_BTF)
        found = self.read(z_BCTF, noisy_BTF)
        phase_BFT = (phase_BTF if self.phase_decoder is None else self._through(self.phase_decoder, z_BCTF)).mT

        def waveform(magnitude_BTF: Float[Tensor, "batch frames bins"]) -> Float[Tensor, "batch samples"]:
            with without_autocast(noisy):
                spectrum = torch.polar(magnitude_BTF.mT ** (1 / self.config.compression), phase_BFT)
                return self.stft.inverse(spectrum, noisy.shape[-1]) / gain

        enhanced = waveform(found.fused)
        branches = (
            {}
            if found.masked is None or found.mapped is None
            else {"masked": waveform(found.masked), "mapped": waveform(found.mapped)}
        )
        health = {} if found.saturation is None else {MASK_SATURATION: found.saturation}
        polar = Polar(found.fused.mT, phase_BFT) if self.phase_decoder else None
        return Estimate(enhanced, branches, polar, health=health)

    def magnitudes(self, noisy_BTF: Float[Tensor, "batch frames bins"]) -> Magnitudes:
        """Clean compressed magnitudes from the noisy ones; for networks that do not look at the phase."""
        return self.read(self.hidden(noisy_BTF, noisy_BTF), noisy_BTF)

    def hidden(
        self, noisy_BTF: Float[Tensor, "batch frames bins"], phase_BTF: Float[Tensor, "batch frames bins"]
    ) -> Hidden:
        """What encoder and blocks make of the noisy magnitude, and of the phase where there is a phase decoder."""
        seen = [noisy_BTF] if self.phase_decoder is None else [noisy_BTF, phase_BTF]
        z_BCTF = self._through(self.encoder, torch.stack(seen, dim=1))
        for block in self.blocks:
            z_BCTF = self._through(block, z_BCTF)
        return z_BCTF

    def read(self, z_BCTF: Hidden, noisy_BTF: Float[Tensor, "batch frames bins"]) -> Magnitudes:
        """The decoder's output as a mask, as a magnitude, and both together."""
        trunk_BCTF = self._through(self.decoder, z_BCTF)
        if self.config.branches == "map":
            mapped_BTF = functional.softplus(_logit(self.map_head, trunk_BCTF))
            return Magnitudes(mapped_BTF, None, mapped_BTF)
        logit_BTF = _logit(self.mask_head, trunk_BCTF)
        masked_BTF = self.mask(logit_BTF) * noisy_BTF
        if self.config.branches == "mask":
            return Magnitudes(masked_BTF, masked_BTF, None, self.mask.saturation(logit_BTF))
        if self.config.tie_decoders:
            map_BTF = logit_BTF if self.config.tie_head else _logit(self.map_head, trunk_BCTF)
        else:
            map_BTF = _logit(self.map_head, self._through(self.map_decoder, z_BCTF))
        mapped_BTF = functional.softplus(map_BTF)
        if self.config.skip:
            mapped_BTF = (mapped_BTF + self.alpha * masked_BTF).clamp(min=0.0)
        omega = torch.sigmoid(self.omega_logit)
        fused_BTF = omega * masked_BTF + (1 - omega) * mapped_BTF
        return Magnitudes(fused_BTF, masked_BTF, mapped_BTF, self.mask.saturation(logit_BTF))

    def _through(self, block: nn.Module, x: Tensor) -> Tensor:
        return through(block, x, recompute=self.config.activation_checkpointing)

    def _build_heads(self, config: Config) -> None:
        """What turns the decoder's output into magnitudes; only what the settings ask for exists."""
        width, both = config.channels, config.branches == "both"
        if not config.tie_decoders:
            self.map_decoder = _decoder(config)
        if config.branches != "map":
            self.mask_head = _mask_head(width)
        if config.branches != "mask" and not (config.tie_head and config.tie_decoders and both):
            self.map_head = _mask_head(width) if config.tie_head else nn.Conv2d(width, 1, 1)
        if config.branches != "map":
            self.mask = LearnableSigmoid(config.fft_size // 2 + 1, MASK_CEILING)
        if both and config.skip:
            self.alpha = nn.Parameter(torch.tensor(1.0))
        if both:
            self.omega_logit = nn.Parameter(torch.tensor(0.0))


def _conformer(config: Dm.Config) -> Conformer:
    width, heads, dropout = config.channels, config.heads, config.dropout
    if config.relative_positions:
        return Conformer(width, lambda: RelativeAttention(width, heads, config.reach, dropout), config.kernel, dropout)
    return Conformer(width, lambda: PlainAttention(width, heads, dropout), config.kernel, dropout)


def _decoder(config: Dm.Config) -> nn.Sequential:
    return nn.Sequential(DilatedDense(config.channels, config.dense_depth), _upsampling(config.channels))


def _upsampling(width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, width, (1, 3), stride=(1, 2))


def _mask_head(width: int) -> nn.Sequential:
    return nn.Sequential(*normalised(nn.Conv2d(width, 1, 1)), nn.Conv2d(1, 1, 1))


def _logit(head: nn.Module, trunk_BCTF: Tensor) -> Tensor:
    """One number a bin, in 32 bits at least."""
    return at_least_single(head(trunk_BCTF).squeeze(1))
