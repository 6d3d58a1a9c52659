"""Regression: the enhanced waveform and its spectrum should be the clean ones."""

from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional

from training.models.base import Enhancer
from training.models.layers import without_autocast
from training.objectives.base import MODEL, Losses, Objective, ObjectiveConfig, PerItem
from training.spectral import Stft, compressed, level_gain, magnitude

RATIO_FLOOR = 1e-8
"""Energy added on both sides of a ratio, relative to the noisy energy: finite for silent or perfect items."""

ENVELOPE_FRAMES = 30
"""Frames over which envelopes are compared, as in STOI (375 ms at a hop of 200 samples)."""

ACTIVE_SHARE = 1e-4
"""Pieces of clean speech below this share of the loudest piece's energy (-40 dB) do not count."""

LOG_FLOOR = 1e-6
"""Power below which a bin counts as this in the log-spectral distance, both signals scaled by the noisy one's level:
about what 16 bits leave of an utterance at -32 dBFS."""


class Regression(Objective):
    """Magnitude, complex and waveform distances, as CMGAN and MP-SENet weigh them, and the SI-SDR.

    With S the spectrum whose magnitude X is raised to `compression`, both signals scaled by the noisy one's level::

        magnitude  mean (X - X')^2              complex  2 mean over real and imaginary part of (S - S')^2
        time       mean |x - x'|                si_sdr   negative SI-SDR, in dB
        branch     the magnitude distance of each whole estimate that a part of the network makes
        envelope   1 - correlation of third-octave envelopes over 30 frames, where the clean speech is active
        log_spectral  mean over frames of the root mean square over bins of log10 |S|^2 - log10 |S'|^2

    Source: MP-SENet (Interspeech 2023), CMGAN; no adversarial term. The envelope term is what STOI measures (Taal et
    al. 2011, with frames as in `fft_size` and `hop_size` and without its clipping): it costs a network dearly to remove
    speech together with the noise. Deviation: distances are measured on the spectrum
    of the enhanced waveform instead of the network's own output, so any network can be trained, and an inconsistent
    spectrum (which MP-SENet's second version penalises by a term of its own) is penalised by itself.
    """

    class Config(ObjectiveConfig):
        """Weights of the terms, and the spectrum that they are measured on."""

        kind: Literal["regression"] = "regression"
        fft_size: int = 400
        """STFT window, in samples."""
        hop_size: int = 100
        """STFT hop, in samples."""
        sample_rate: int = 16000
        """Hz; places the third octaves."""
        compression: float = 0.3
        """Exponent of the magnitude."""
        magnitude: float = 0.9
        complex: float = 0.1
        time: float = 0.2
        branch: float = 0.45
        """Weight of each branch's magnitude distance: half of the main one, so that neither branch starves."""
        si_sdr: float = 0.0
        """Weight of the negative SI-SDR in dB."""
        envelope: float = 0.0
        log_spectral: float = 0.0
        """Weight of the log-spectral distance; 0: it is not computed."""

        def build(self) -> "Regression":
            """The objective."""
            return Regression(self)

    bands: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stft = Stft(config.fft_size, config.hop_size)
        self.register_buffer("bands", third_octaves(config.fft_size, config.sample_rate), persistent=False)

    def losses(
        self,
        model: Enhancer,
        noisy: Float[Tensor, "batch samples"],
        clean: Float[Tensor, "batch samples"],
        phase: str = MODEL,
    ) -> Losses:
        """See the class; the weighted sum is the total."""
        estimate = model.estimate(noisy)
        with without_autocast(noisy):
            losses = self._losses(estimate.enhanced, estimate.branches, clean, level_gain(noisy))
        return Losses(losses.total, losses.parts | dict(estimate.health))

    def _losses(self, enhanced: Tensor, branches: dict[str, Tensor], clean: Tensor, gain: Tensor) -> Losses:
        wanted = self.stft(clean * gain)
        found = self.stft(enhanced * gain)
        parts = {
            "magnitude": self._magnitude(found, wanted),
            "complex": self._complex(found, wanted),
            "time": ((enhanced - clean) * gain).abs().mean(-1),
            "si_sdr": -si_sdr_db(enhanced * gain, clean * gain),
            "envelope": 1 - envelope_correlation(found, wanted, self.bands),
        }
        parts |= {f"branch_{name}": self._magnitude(self.stft(each * gain), wanted) for name, each in branches.items()}
        if self.config.log_spectral:
            parts["log_spectral"] = log_spectral_distance(found, wanted)
        weighted = [self._weight(name) * part for name, part in parts.items()]
        return Losses(torch.stack(weighted).sum(0), parts)

    def _weight(self, name: str) -> float:
        return getattr(self.config, "branch" if name.startswith("branch_") else name)

    def _magnitude(self, found: Tensor, wanted: Tensor) -> Tensor:
        exponent = self.config.compression
        return (magnitude(found, exponent) - magnitude(wanted, exponent)).square().mean((-2, -1))

    def _complex(self, found: Tensor, wanted: Tensor) -> Tensor:
        exponent = self.config.compression
        difference = compressed(found, exponent) - compressed(wanted, exponent)
        return (difference.real.square() + difference.imag.square()).mean((-2, -1))


def log_spectral_distance(
    found: Complex[Tensor, "batch bins frames"], wanted: Complex[Tensor, "batch bins frames"]
) -> PerItem:
    """In log10 of power, as the metric `lsd` has it, on the spectrum of the objective."""
    logs = [(each.real.square() + each.imag.square() + LOG_FLOOR).log10() for each in (found, wanted)]
    return ((logs[0] - logs[1]).square().mean(1) + RATIO_FLOOR).sqrt().mean(-1)


def envelope_correlation(found: Tensor, wanted: Tensor, bands: Float[Tensor, "bins bands"]) -> PerItem:
    """Mean correlation of the envelopes of two spectra [batch, bins, frames], where the wanted one is active."""
    shapes, active = [], torch.empty(0)
    for spectrum in (found, wanted):
        power = magnitude(spectrum).square().mT @ bands
        pieces = power.sqrt().mT.unfold(-1, min(ENVELOPE_FRAMES, power.shape[1]), 1)
        shapes.append(functional.normalize(pieces - pieces.mean(-1, keepdim=True), dim=-1, eps=1e-6))
        energy = pieces.square().sum((1, 3))
        active = (energy > ACTIVE_SHARE * energy.amax(-1, keepdim=True)).to(energy)
    correlation = (shapes[0] * shapes[1]).sum(-1).mean(1)
    return (correlation * active).sum(-1) / active.sum(-1).clamp(min=1.0)


def third_octaves(fft_size: int, sample_rate: int) -> Float[Tensor, "bins bands"]:
    """Which bin belongs to which of STOI's 15 third octaves, from 150 Hz up."""
    frequency_hz = torch.linspace(0, sample_rate / 2, fft_size // 2 + 1)[:, None]
    centre_hz = 150 * 2 ** (torch.arange(15) / 3)
    return ((frequency_hz >= centre_hz * 2 ** (-1 / 6)) & (frequency_hz < centre_hz * 2 ** (1 / 6))).float()


def si_sdr_db(enhanced: Float[Tensor, "batch samples"], clean: Float[Tensor, "batch samples"]) -> PerItem:
    """Scale-invariant signal-to-distortion ratio of each item (Le Roux et al. 2019), without mean removal."""
    scale = (enhanced * clean).sum(-1, keepdim=True) / (clean.square().sum(-1, keepdim=True) + RATIO_FLOOR)
    target = scale * clean
    floor = RATIO_FLOOR * clean.shape[-1]
    return 10 * ((target.square().sum(-1) + floor) / ((enhanced - target).square().sum(-1) + floor)).log10()
