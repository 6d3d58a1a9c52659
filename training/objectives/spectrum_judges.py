"""Judges that look at spectra of several window sizes: at each as a whole, or band by band."""

from typing import Literal

from training.objectives.spectrum_discriminators import BANDS, CHANNELS, WHOLE, WINDOW_SIZES, SpectrumDiscriminators
from training.objectives.waveform_judge import WaveformJudge, WaveformJudgeConfig


class ResolutionJudge(WaveformJudge):
    """The multi-resolution discriminator, which RaD-Net names; its structure is a reconstruction."""

    class Config(WaveformJudgeConfig):
        """Settings; least squares and a doubled feature matching, as HiFi-GAN has them, are a reconstruction too."""

        kind: Literal["resolutions"] = "resolutions"
        window_sizes: tuple[int, ...] = WINDOW_SIZES
        """In samples; the hop is a quarter."""
        channels: int = CHANNELS

        def build(self) -> "ResolutionJudge":
            """The judge."""
            return ResolutionJudge(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config, SpectrumDiscriminators(config.window_sizes, WHOLE, config.channels))


class BandJudge(WaveformJudge):
    """The multi-band discriminator, which RaD-Net names; its structure is a reconstruction."""

    class Config(WaveformJudgeConfig):
        """Settings; as those of `ResolutionJudge`."""

        kind: Literal["bands"] = "bands"
        window_sizes: tuple[int, ...] = WINDOW_SIZES
        """In samples; the hop is a quarter."""
        bands: tuple[tuple[float, float], ...] = BANDS
        """Edges, as shares of half the sample rate."""
        channels: int = CHANNELS

        def build(self) -> "BandJudge":
            """The judge."""
            return BandJudge(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config, SpectrumDiscriminators(config.window_sizes, config.bands, config.channels))
