"""Regression: the enhanced waveform and its spectrum should be the clean ones."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from training.models.base import Enhancer
from training.objectives.base import Losses, Objective, ObjectiveConfig, PerItem
from training.spectral import Stft, compressed, level_gain, magnitude

RATIO_FLOOR = 1e-8
"""Energy added on both sides of a ratio, relative to the noisy energy: finite for silent or perfect items."""


class Regression(Objective):
    """Magnitude, complex and waveform distances, as CMGAN and MP-SENet weigh them, and the SI-SDR.

    With S the spectrum whose magnitude X is raised to `compression`, both signals scaled by the noisy one's level::

        magnitude  mean (X - X')^2              complex  2 mean over real and imaginary part of (S - S')^2
        time       mean |x - x'|                si_sdr   negative SI-SDR, in dB
        branch     the magnitude distance of each whole estimate that a part of the network makes

    Source: MP-SENet (Interspeech 2023), CMGAN; no adversarial term. Deviation: distances are measured on the spectrum
    of the enhanced waveform instead of the network's own output, so any network can be trained, and an inconsistent
    spectrum (which MP-SENet's second version penalises by a term of its own) is penalised by itself.
    """

    class Config(ObjectiveConfig):
        """Weights of the terms; a term of weight 0 is not computed."""

        kind: Literal["regression"] = "regression"
        fft_size: int = 400
        """STFT window, in samples."""
        hop_size: int = 100
        """STFT hop, in samples."""
        compression: float = 0.3
        """Exponent of the magnitude."""
        magnitude: float = 0.9
        complex: float = 0.1
        time: float = 0.2
        branch: float = 0.45
        """Weight of each branch's magnitude distance: half of the main one, so that neither branch starves."""
        si_sdr: float = 0.0
        """Weight of the negative SI-SDR in dB."""

        def build(self) -> "Regression":
            """The objective."""
            return Regression(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stft = Stft(config.fft_size, config.hop_size)

    def losses(
        self, model: Enhancer, noisy: Float[Tensor, "batch samples"], clean: Float[Tensor, "batch samples"]
    ) -> Losses:
        """See the class; the weighted sum is the total."""
        gain = level_gain(noisy)
        enhanced, branches = model.estimate(noisy)
        wanted = self.stft(clean * gain)
        found = self.stft(enhanced * gain)
        parts = {
            "magnitude": self._magnitude(found, wanted),
            "complex": self._complex(found, wanted),
            "time": ((enhanced - clean) * gain).abs().mean(-1),
            "si_sdr": -si_sdr_db(enhanced * gain, clean * gain),
        }
        parts |= {f"branch_{name}": self._magnitude(self.stft(each * gain), wanted) for name, each in branches.items()}
        total = sum(self._weight(name) * part for name, part in parts.items())
        return Losses(total, parts)

    def _weight(self, name: str) -> float:
        return getattr(self.config, name.partition("_")[0] if name.startswith("branch_") else name)

    def _magnitude(self, found: Tensor, wanted: Tensor) -> Tensor:
        exponent = self.config.compression
        return (magnitude(found, exponent) - magnitude(wanted, exponent)).square().mean((-2, -1))

    def _complex(self, found: Tensor, wanted: Tensor) -> Tensor:
        exponent = self.config.compression
        difference = compressed(found, exponent) - compressed(wanted, exponent)
        return (difference.real.square() + difference.imag.square()).mean((-2, -1))


def si_sdr_db(enhanced: Float[Tensor, "batch samples"], clean: Float[Tensor, "batch samples"]) -> PerItem:
    """Scale-invariant signal-to-distortion ratio of each item (Le Roux et al. 2019), without mean removal."""
    scale = (enhanced * clean).sum(-1, keepdim=True) / (clean.square().sum(-1, keepdim=True) + RATIO_FLOOR)
    target = scale * clean
    floor = RATIO_FLOOR * clean.shape[-1]
    return 10 * ((target.square().sum(-1) + floor) / ((enhanced - target).square().sum(-1) + floor)).log10()
