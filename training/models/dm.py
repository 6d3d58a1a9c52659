"""DM: one magnitude decoder read in two ways, as a mask on the noisy magnitude and as the clean magnitude itself."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import Enhancer, Estimate, ModelConfig
from training.models.layers import DilatedDense, LearnableSigmoid, TimeFrequencyBlock
from training.spectral import Stft, level_gain, magnitude

# Shape letters in this file: B batch, C channels, T frames, F bins.

MASK_CEILING = 2.0


class Magnitudes(NamedTuple):
    """The compressed magnitudes that DM estimates, each at least zero."""

    fused: Float[Tensor, "batch frames bins"]
    masked: Float[Tensor, "batch frames bins"]
    mapped: Float[Tensor, "batch frames bins"]


class Dm(Enhancer):
    """Dual-path magnitude network for general speech restoration: noise, reverberation and lost bandwidth at once.

    Source: Yang, Kim, Choi, Moon and Chang, "DM: Dual-path Magnitude Network for General Speech Restoration",
    arXiv 2409.08702 (2024); renamed DBP-Net in Computer Speech & Language 100 (2026). With Y the compressed noisy
    magnitude, u the decoder's output and v the mapped one::

        M      = 2 sigmoid(slope_f u)                   masked:  X_mask = M Y
        v      = softplus(map head)                     mapped:  X_map  = v + alpha X_mask
        X      = omega X_mask + (1 - omega) X_map       fused, then the inverse STFT with the noisy phase

    Published size: 2.05 M parameters. Ours: 2,053,937 with `tie_head=True`, 2,054,002 with `tie_head=False`.

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
        """Use the mask's logit as the mapped magnitude too, instead of a 1x1 projection of its own."""

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
            return self

        def build(self) -> "Dm":
            """The network, with fresh weights."""
            return Dm(self)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        width, bins = config.channels, config.fft_size // 2 + 1
        self.stft = Stft(config.fft_size, config.hop_size)
        self.encoder = nn.Sequential(
            *_convolution(nn.Conv2d(1, width, 1)),
            DilatedDense(width, config.dense_depth),
            *_convolution(nn.Conv2d(width, width, (1, 3), stride=(1, 2))),
        )
        self.blocks = nn.Sequential(
            *(
                TimeFrequencyBlock(width, config.heads, config.reach, config.kernel, config.dropout)
                for _ in range(config.blocks)
            )
        )
        self.decoder = nn.Sequential(
            DilatedDense(width, config.dense_depth), nn.ConvTranspose2d(width, width, (1, 3), stride=(1, 2))
        )
        self.mask_head = nn.Sequential(*_convolution(nn.Conv2d(width, 1, 1)), nn.Conv2d(1, 1, 1))
        self.map_head = None if config.tie_head else nn.Conv2d(width, 1, 1)
        self.mask = LearnableSigmoid(bins, MASK_CEILING)
        self.alpha = nn.Parameter(torch.tensor(1.0))
        self.omega_logit = nn.Parameter(torch.tensor(0.0))

    def forward(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch samples"]:
        """Enhanced waveforms."""
        return self.estimate(noisy).enhanced

    def estimate(self, noisy: Float[Tensor, "batch samples"]) -> Estimate:
        """The enhanced waveform; the branches are `masked` and `mapped`."""
        gain = level_gain(noisy)
        spectrum_BFT = self.stft(noisy * gain)
        found = self.magnitudes(magnitude(spectrum_BFT, self.config.compression).mT)
        phase_BFT = spectrum_BFT.angle()

        def waveform(magnitude_BTF: Float[Tensor, "batch frames bins"]) -> Float[Tensor, "batch samples"]:
            spectrum = torch.polar(magnitude_BTF.mT ** (1 / self.config.compression), phase_BFT)
            return self.stft.inverse(spectrum, noisy.shape[-1]) / gain

        return Estimate(waveform(found.fused), {"masked": waveform(found.masked), "mapped": waveform(found.mapped)})

    def magnitudes(self, noisy_BTF: Float[Tensor, "batch frames bins"]) -> Magnitudes:
        """Clean compressed magnitudes from the noisy ones."""
        trunk_BCTF = self.decoder(self.blocks(self.encoder(noisy_BTF.unsqueeze(1))))
        logit_BTF = self.mask_head(trunk_BCTF).squeeze(1)
        map_BTF = logit_BTF if self.map_head is None else self.map_head(trunk_BCTF).squeeze(1)
        masked_BTF = self.mask(logit_BTF) * noisy_BTF
        mapped_BTF = (functional.softplus(map_BTF) + self.alpha * masked_BTF).clamp(min=0.0)
        omega = torch.sigmoid(self.omega_logit)
        return Magnitudes(omega * masked_BTF + (1 - omega) * mapped_BTF, masked_BTF, mapped_BTF)


def _convolution(layer: nn.Conv2d) -> tuple[nn.Module, ...]:
    return layer, nn.InstanceNorm2d(layer.out_channels, affine=True), nn.PReLU(layer.out_channels)
