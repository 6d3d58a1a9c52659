"""BSP-MPNet: the stretched magnitude and the phase each get a mask, from convolutions and an SSL model's features."""

import math
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from training.contrast import BAND_EDGES, contrast_weights
from training.models.base import Enhancer, Estimate, ModelConfig, Polar
from training.models.bsp_mpnet.inside import EQUAL, STRETCHED, alike, contrast, picture, untaught
from training.models.bsp_mpnet.rema import Rema
from training.models.bsp_mpnet.ssl import Separation, Ssl, aligned
from training.models.layers import at_least_single, without_autocast
from training.spectral import Stft

# Shape letters in this file: B batch, T frames, F bins, D features.

CEILING = 12.0
"""Of the stretched magnitude, log(1 + |X|): masks of 2 nearly square |X|, which must not overflow."""


STILL: dict[str, tuple[str, ...]] = {"frozen": ("ssl.",), "partial": ("ssl.network.feature_extractor.",), "entire": ()}
"""Parameters that do not learn, by the way of fine-tuning; as BSSE-SE names these."""


class Masked(NamedTuple):
    """What the network made of an utterance."""

    enhanced: Float[Tensor, "batch samples"]
    found: Polar
    """Masked magnitude (stretched, logarithmic) and phase."""
    magnitude_mask: Float[Tensor, "batch frames bins"]
    phase_mask: Float[Tensor, "batch frames bins"] | None
    """None: the network has no phase path."""


class BspMpnet(Enhancer):
    """Masks on the stretched magnitude and on the phase, one path each.

    Source: Mattursun, Wang, Yu and Ma, "Magnitude-Phase Dual-Path Speech Enhancement Network based on Self-Supervised
    Embedding and Perceptual Contrast Stretch Boosting", ICME 2025, arXiv 2503.21571. Only its abstract and summaries
    were at hand. From them: the transform (32, 25 and 6.25 ms), the order of the parts, separate layer weights and
    gates (equations 3 to 5), masks on both paths. Reconstructed: all sizes; those of the decoder are BSS-CFFMA's (arXiv
    2408.06851, the first author's model before), those of the encoders our own. No size is published; ours without
    the SSL model is 16,018,628 for a base model and one block::

        m = W log(1 + |X|)                       perceptual contrast stretching, also of the target
        M = 2 sigmoid(slope_f u)                 from REMA(concat(encoder(m), SSL features)); the same for p
        m' = M m,  p' = M_p p,  x' = istft((exp(m') - 1) exp(j p'))

    There is no division by W at the end: the stretched contrast is heard. With a mask of 1 this is contrast stretching
    and nothing else, so a network has to beat that baseline before it means anything. W depends on the level, so the
    waveform is taken as it is. Multiplying a phase that is wrapped makes a jump of it at pi; with `phase_mask =
    "residual"` the mask says how far to turn instead: p' = p + pi (M_p - 1).
    """

    class Config(ModelConfig):
        """Settings of BSP-MPNet; the defaults are WavLM base, one block."""

        kind: Literal["bsp_mpnet"] = "bsp_mpnet"
        fft_size: int = 512
        """Length of the transform, in samples."""
        window_size: int = 400
        """Window, in samples (25 ms); zeros on both sides fill the transform."""
        hop_size: int = Field(default=100, gt=0)
        """From frame to frame, in samples."""
        stretched: bool = True
        """Perceptual contrast stretching of what comes in and of the target; False: W is 1."""
        phase_path: bool = True
        """False: the noisy phase is kept."""
        phase_mask: Literal["literal", "residual"] = "literal"
        """literal: times the phase, as in the paper; residual: the phase is turned."""
        channels: tuple[int, ...] = (32, 64, 32)
        """Of the convolutions of an encoder, before the last one, which has one."""
        width: int = Field(default=512, gt=0)
        """Of a decoder."""
        heads: int = Field(default=4, gt=0)
        recurrent_width: int = Field(default=128, ge=0)
        """Of a decoder's recurrent layers, in each direction; 0: none."""
        blocks: int = Field(default=1, gt=0)
        """REMA blocks in a decoder."""
        dropout: float = 0.1
        ssl: Ssl = Ssl()
        layer_weights: Literal["learnt", "fixed"] = "learnt"
        """Of the SSL model's layers; fixed: all the same."""
        fine_tuning: Literal["frozen", "partial", "entire"] = "partial"
        """What learns of the SSL model: nothing, all but its convolutions, everything."""
        ssl_learning_rate: float = Field(default=0.1, gt=0)
        """Of the SSL model, relative to that of the rest."""

        @model_validator(mode="after")
        def _fits(self) -> "BspMpnet.Config":
            if self.sample_rate != 16000:
                raise ValueError(f"sample_rate {self.sample_rate} must be 16000, that of the SSL models")
            if self.stretched and self.bins not in BAND_EDGES:
                raise ValueError(f"fft_size {self.fft_size} must be 512 or 400, for which stretching has weights")
            if not 2 * self.hop_size <= self.window_size <= self.fft_size:
                raise ValueError(f"window_size {self.window_size} must be between twice the hop and fft_size")
            if self.width % (2 * self.heads):
                raise ValueError(f"heads {self.heads} must divide half of width {self.width}")
            return self

        @property
        def bins(self) -> int:
            """Frequency bins of a frame."""
            return self.fft_size // 2 + 1

        def build(self) -> "BspMpnet":
            """The network, with fresh weights."""
            return BspMpnet(self)

    config: Config
    contrast: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.stft = Stft(config.fft_size, config.hop_size, config.window_size)
        weights = contrast_weights(config.bins, config.bins) if config.stretched else [1.0] * config.bins
        self.register_buffer("contrast", torch.tensor(weights, dtype=torch.float32)[:, None], persistent=False)
        self.ssl = config.ssl.build()
        self.magnitude = MaskPath(config)
        self.phase = MaskPath(config) if config.phase_path else None
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not name.startswith(STILL[config.fine_tuning]))

    @property
    def frozen(self) -> bool:
        """Whether nothing of the SSL model learns."""
        return self.config.fine_tuning == "frozen"

    def forward(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch samples"]:
        """Enhanced waveforms, stretched."""
        return self.masked(noisy).enhanced

    def estimate(self, noisy: Float[Tensor, "batch samples"]) -> Estimate:
        """The enhanced waveform, stretched; the network's own spectrum is another objective's business."""
        return Estimate(self(noisy), {})

    def masked(self, noisy: Float[Tensor, "batch samples"]) -> Masked:
        """The enhanced waveform, the spectrum that it was made from, and the masks."""
        with without_autocast(noisy):
            heard = self.analysed(noisy)
        embedded = self.embedded(noisy)
        mask_BTF = self.magnitude(heard.magnitude.mT, *embedded)
        turn_BTF = None if self.phase is None else self.phase(heard.phase.mT, *embedded)
        with without_autocast(noisy):
            magnitude = (at_least_single(mask_BTF).mT * heard.magnitude).clamp(max=CEILING)
            found = Polar(magnitude, heard.phase if turn_BTF is None else self._turned(heard.phase, turn_BTF))
            enhanced = self.synthesised(found, noisy.shape[-1])
        return Masked(enhanced, found, mask_BTF, turn_BTF)

    def embedded(self, noisy: Float[Tensor, "batch samples"]) -> tuple[Tensor, Tensor | None]:
        """The SSL model's layers [layers, batch, ssl_frames, features], and where in them the waveforms start.

        They are those that the corpus holds beside the waveforms, where it does (`training.embeddings`).
        """
        if self.beside:
            return self.beside["layers"].permute(2, 0, 1, 3), self.beside["start"]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.ssl(noisy), None

    def analysed(self, waveform: Float[Tensor, "batch samples"]) -> Polar:
        """Stretched logarithmic magnitude, and phase."""
        spectrum = self.stft(waveform)
        return Polar(self.contrast * spectrum.abs().log1p(), spectrum.angle())

    def synthesised(self, found: Polar, samples: int) -> Float[Tensor, "batch samples"]:
        """The waveform of these. The stretching stays in."""
        return self.stft.inverse(torch.polar(found.magnitude.expm1(), found.phase), samples)

    def _turned(self, phase_BFT: Tensor, mask_BTF: Tensor) -> Tensor:
        mask_BFT = at_least_single(mask_BTF).mT
        if self.config.phase_mask == "literal":
            return mask_BFT * phase_BFT
        turned = phase_BFT + math.pi * (mask_BFT - 1)
        return turned - 2 * math.pi * (turned / (2 * math.pi)).round()

    @property
    def paths(self) -> "dict[str, MaskPath]":
        """By name; there may be no phase path."""
        return {"magnitude": self.magnitude} | ({} if self.phase is None else {"phase": self.phase})

    def remarks(self) -> tuple[str, ...]:
        """That its output is stretched, that its SSL model is no release, and which path weighs all layers alike."""
        config = self.config
        weighs = config.layer_weights == "learnt" and config.ssl.kind != "absent"
        learnt = {name: each.separation for name, each in self.paths.items()} if weighs else {}
        return (
            *((STRETCHED,) if config.stretched else ()),
            *((untaught(config.ssl, self.frozen),) if config.ssl.source is None else ()),
            *(alike(name, each) for name, each in learnt.items() if contrast(each) < EQUAL),
        )

    def pictures(self, noisy: Float[Tensor, "batch samples"]) -> dict[str, bytes]:
        """Layer weights and masks."""
        masked = self.masked(noisy)
        masks = {"magnitude": masked.magnitude_mask, "phase": masked.phase_mask}
        separations = {name: path.separation for name, path in self.paths.items()}
        return {
            "layers-and-masks": picture(separations, {name: mask for name, mask in masks.items() if mask is not None})
        }

    def learning_rate_scales(self) -> dict[str, float]:
        """Of the SSL model, or of the part of it that learns."""
        still = dict.fromkeys(STILL[self.config.fine_tuning], 0.0)
        return {"ssl.": self.config.ssl_learning_rate} | still

    def train(self, mode: bool = True) -> "BspMpnet":
        """Training mode, but for an SSL model that is frozen: its features shall not be drawn by lot."""
        super().train(mode)
        if self.frozen:
            self.ssl.eval()
        return self


class MaskPath(nn.Module):
    """Encoder, features, decoder: the mask of the magnitude, or of the phase."""

    def __init__(self, config: BspMpnet.Config) -> None:
        super().__init__()
        self.hop_size = config.hop_size
        self.encoder = encoder((1, *config.channels, 1))
        self.separation = Separation(config.ssl, config.layer_weights == "learnt")
        features = config.bins + config.ssl.width
        self.decoder = Rema(
            features, config.bins, config.width, config.heads, config.recurrent_width, config.blocks, config.dropout
        )

    def forward(
        self,
        x_BTF: Float[Tensor, "batch frames bins"],
        layers_NBSD: Float[Tensor, "layers batch ssl_frames features"],
        start_B: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch frames bins"]:
        """The mask."""
        coarse_BTF = self.encoder(x_BTF[:, None])[:, 0]
        told_BTD = aligned(self.separation(layers_NBSD), x_BTF.shape[1], self.hop_size, start_B)
        return self.decoder(torch.cat([coarse_BTF, told_BTD], dim=-1))


def encoder(channels: tuple[int, ...]) -> nn.Sequential:
    """Convolutions of 3 by 3, each with batch normalisation and a slope for each channel; as many bins out."""
    layers: list[Any] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.PReLU(after)]
    return nn.Sequential(*layers)
