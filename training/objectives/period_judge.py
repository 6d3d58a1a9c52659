"""A judge that tells clean waveforms from enhanced ones."""

from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional

from training.objectives.base import Losses
from training.objectives.discriminators import PERIOD_CHANNELS, PERIODS, MultiPeriodDiscriminator
from training.objectives.gan import Form, fake_loss, feature_loss, persuasion_loss, real_loss
from training.objectives.judges import Heard, Judge, JudgeConfig


class PeriodJudge(Judge):
    """The multi-period discriminator of HiFi-GAN, as RENet's code uses it: `gan.py` has the losses.

    The model minimises weight (persuasion + feature (feature matching)).
    """

    class Config(JudgeConfig):
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
        super().__init__()
        self.config = config
        self.discriminator = MultiPeriodDiscriminator(config.periods, config.channels)

    def persuade(self, enhanced: Heard, clean: Heard) -> Losses:
        """Be taken for clean, layer by layer."""
        judged = self.discriminator(enhanced.waveform)
        with torch.no_grad():
            wanted = self.discriminator(clean.waveform)
        parts = {"persuasion": persuasion_loss(judged, self.config.form), "feature": feature_loss(judged, wanted)}
        return Losses(self.config.weight * (parts["persuasion"] + self.config.feature * parts["feature"]), parts)

    def learn(self, clean: Heard, made: tuple[Heard, Heard] | None) -> Losses:
        """Take the clean for clean and the enhanced for enhanced."""
        real = real_loss(self.discriminator(clean.waveform), self.config.form)
        fake = torch.zeros_like(real)
        if made is not None:
            fake = fake_loss(self.discriminator(made[1].waveform), self.config.form)
            fake = functional.pad(fake, (0, len(real) - len(fake)))
        return Losses(real + fake, {"periods_real": real, "periods_fake": fake})
