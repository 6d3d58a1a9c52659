"""Networks from magnitude and phase to magnitude and phase: the way from a waveform to them and back."""

import torch
from jaxtyping import Complex, Float
from pydantic import Field, model_validator
from torch import Tensor

from training.models.base import Enhancer, Estimate, ModelConfig, Polar
from training.models.layers import without_autocast
from training.spectral import Stft, level_gain, magnitude, phase


class PolarConfig(ModelConfig):
    """What these networks share: the front end of MP-SENet, at 16 kHz 25 ms every 6.25 ms."""

    fft_size: int = Field(default=400, gt=0)
    """STFT window, in samples. Weights that belong to a bin cannot be carried over to another number of bins."""
    hop_size: int = Field(default=100, gt=0)
    """STFT hop, in samples."""
    compression: float = Field(default=0.3, gt=0)
    """Exponent of the magnitude inside the network."""
    phase_floors: bool = True
    """Add small constants before taking the angle, as MP-SENet's and RENet's code do: quiet bins turn towards 0."""
    retrieve_phase: bool = False
    """Phase retrieval: the network is told phase 0, and the magnitude that came in is kept."""

    @model_validator(mode="after")
    def _frames_overlap(self) -> "PolarConfig":
        if self.fft_size % 4:
            raise ValueError(f"fft_size {self.fft_size} must be divisible by 4, for an odd number of bins")
        if 2 * self.hop_size > self.fft_size:
            raise ValueError(f"hop_size {self.hop_size} must be at most half of fft_size {self.fft_size}")
        return self

    @property
    def bins(self) -> int:
        """Frequency bins of a frame."""
        return self.fft_size // 2 + 1


class PolarEnhancer(Enhancer):
    """An enhancer around a network that maps (compressed magnitude, phase) to the same of the clean speech.

    The waveform is brought to a mean power of one before, and to its level after. Front end and inverse are in single
    precision at least, whatever autocast says: neither angles nor roots of small powers survive 16 bits.
    """

    config: PolarConfig

    def __init__(self, config: PolarConfig) -> None:
        super().__init__(config)
        self.stft = Stft(config.fft_size, config.hop_size)

    def polar(self, noisy: Polar) -> Polar:
        """The network itself."""
        raise NotImplementedError

    def forward(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch samples"]:
        """Enhanced waveforms."""
        return self.estimate(noisy).enhanced

    def estimate(self, noisy: Float[Tensor, "batch samples"]) -> Estimate:
        """The enhanced waveform, and the spectrum that it was made from."""
        with without_autocast(noisy):
            gain = level_gain(noisy)
            heard = self.analysed(self.stft(noisy * gain))
        if self.config.retrieve_phase:
            heard = Polar(heard.magnitude, torch.zeros_like(heard.phase))
        found = self.polar(heard)
        if self.config.retrieve_phase:
            found = Polar(heard.magnitude, found.phase)
        with without_autocast(noisy):
            enhanced = self.stft.inverse(self.synthesised(found), noisy.shape[-1]) / gain
        return Estimate(enhanced, {}, found)

    def analysed(self, spectrum: Complex[Tensor, "batch bins frames"]) -> Polar:
        """Compressed magnitude and phase of a spectrum."""
        angle = phase(spectrum) if self.config.phase_floors else spectrum.angle()
        return Polar(magnitude(spectrum, self.config.compression), angle)

    def synthesised(self, found: Polar) -> Complex[Tensor, "batch bins frames"]:
        """The spectrum of these."""
        return torch.polar(found.magnitude ** (1 / self.config.compression), found.phase)
