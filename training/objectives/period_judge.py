"""A judge that looks at every second, third, fifth, ... sample of a waveform."""

from typing import Literal

from pydantic import Field

from training.objectives.discriminators import PERIOD_CHANNELS, PERIODS, MultiPeriodDiscriminator
from training.objectives.gan import Form
from training.objectives.waveform_judge import WaveformJudge, WaveformJudgeConfig


class PeriodJudge(WaveformJudge):
    """The multi-period discriminator of HiFi-GAN, as RENet's code uses it."""

    class Config(WaveformJudgeConfig):
        """Settings; the defaults are RENet's for universal enhancement."""

        kind: Literal["periods"] = "periods"
        weight: float = Field(default=0.05, gt=0)
        feature: float = Field(default=1.0, ge=0)
        """Weight of feature matching beside persuasion: 1 in RENet's code, 2 in HiFi-GAN."""
        form: Form = "hinge"
        periods: tuple[int, ...] = PERIODS
        """In samples."""
        channels: tuple[int, ...] = PERIOD_CHANNELS

        def build(self) -> "PeriodJudge":
            """The judge."""
            return PeriodJudge(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config, MultiPeriodDiscriminator(config.periods, config.channels))
