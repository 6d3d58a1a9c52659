"""What judges that tell clean waveforms from enhanced ones have in common."""

from collections.abc import Callable, Sequence

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from training.objectives.base import Losses
from training.objectives.gan import Form, Judgement, fake_loss, feature_loss, persuasion_loss, real_loss
from training.objectives.judges import Heard, Judge, JudgeConfig


class WaveformJudgeConfig(JudgeConfig):
    """How a judge weighs and what form its losses have."""

    weight: float = Field(default=1.0, gt=0)
    feature: float = Field(default=2.0, ge=0)
    """Weight of feature matching beside persuasion."""
    form: Form = "least_squares"


class WaveformJudge(Judge):
    """A discriminator of several parts, with the losses of `gan.py`.

    The model minimises weight (persuasion + feature (feature matching)). Names of parts begin with the judge's kind.
    """

    def __init__(self, config: WaveformJudgeConfig, discriminator: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.discriminator: Callable[..., Sequence[Judgement]] = discriminator

    def persuade(self, enhanced: Heard, clean: Heard) -> Losses:
        """Be taken for clean, layer by layer."""
        judged = self.discriminator(enhanced.waveform)
        with torch.no_grad():
            wanted = self.discriminator(clean.waveform)
        persuasion, feature = persuasion_loss(judged, self.config.form), feature_loss(judged, wanted)
        total = self.config.weight * (persuasion + self.config.feature * feature)
        kind = self.config.kind
        return Losses(total, {f"{kind}_persuasion": persuasion, f"{kind}_feature": feature})

    def learn(self, clean: Heard, made: tuple[Heard, Heard] | None) -> Losses:
        """Take the clean for clean and the enhanced for enhanced."""
        real = real_loss(self.discriminator(clean.waveform), self.config.form)
        fake = torch.zeros_like(real)
        if made is not None:
            fake = fake_loss(self.discriminator(made[1].waveform), self.config.form)
            fake = functional.pad(fake, (0, len(real) - len(fake)))
        return Losses(real + fake, {f"{self.config.kind}_real": real, f"{self.config.kind}_fake": fake})
