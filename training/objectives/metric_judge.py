"""A judge that guesses PESQ, which has no gradient, and is asked to guess the best for what the model made."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from training.models.layers import without_autocast
from training.objectives.base import Losses
from training.objectives.discriminators import MetricDiscriminator
from training.objectives.judges import Heard, Judge, JudgeConfig
from training.objectives.pesq_scores import PesqScores
from training.objectives.waiting import Pairs

LOWEST_PESQ, PESQ_SPAN = 1.0, 3.5
"""A score is brought to about [0, 1] by (PESQ - 1) / 3.5, as in CMGAN and MP-SENet."""


class MetricJudge(Judge):
    """MP-SENet's metric discriminator: D(m, m') of the compressed magnitudes of clean and enhanced speech.

    It minimises (D(m, m) - 1)^2 + (D(m, m') - (PESQ - 1) / 3.5)^2; the model minimises weight (D(m, m') - 1)^2.

    Source: MP-SENet, after CMGAN and MetricGAN. Deviation: where PESQ has no score (silence, no speech in the piece),
    the item is left out of the second term and counted as `pesq_failed`; the published code leaves out its whole batch.
    In single precision whatever autocast says: it is small, and spectral norms do not survive 16 bits. These take one
    power iteration with each forward pass, so a share in several pieces (`accumulate`) is not quite the share at once.
    """

    class Config(JudgeConfig):
        """Settings; the defaults are MP-SENet's."""

        kind: Literal["metric"] = "metric"
        weight: float = Field(default=0.05, gt=0)
        channels: int = Field(default=16, gt=0)
        dropout: float = Field(default=0.3, ge=0, lt=1)

        def build(self) -> "MetricJudge":
            """The judge."""
            return MetricJudge(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.discriminator = MetricDiscriminator(config.channels, config.dropout)
        self.scores = PesqScores()

    def persuade(self, enhanced: Heard, clean: Heard) -> Losses:
        """The guess for what the model made should be the best."""
        with without_autocast(clean.magnitude):
            metric = (self.discriminator(clean.magnitude, enhanced.magnitude) - 1).square()
        return Losses(self.config.weight * metric, {"metric": metric})

    def learn(self, clean: Heard, made: tuple[Heard, Heard] | None) -> Losses:
        """Guess 1 for the clean beside itself, and the scaled PESQ for what the model made."""
        with without_autocast(clean.magnitude):
            real = (self.discriminator(clean.magnitude, clean.magnitude) - 1).square()
            fake, failed = torch.zeros_like(real), torch.zeros_like(real)
            pesq = torch.full_like(real, torch.nan)
            if made is not None:
                missing = (0, len(real) - len(made[0].waveform))
                found = self._pesq(made[0].waveform, made[1].waveform)
                error = self.discriminator(made[0].magnitude, made[1].magnitude) - self._scaled(found)
                fake = functional.pad(error.square() * found.isfinite(), missing)
                failed = functional.pad(found.isnan().to(real), missing)
                pesq = functional.pad(found, missing, value=torch.nan)
        parts = {"metric_real": real, "metric_fake": fake, "pesq": pesq, "pesq_failed": failed}
        return Losses(real + fake, parts)

    def expect(self, pairs: Pairs) -> None:
        """Start computing their PESQ."""
        for clean, enhanced in pairs.cpu():
            self.scores.ask(clean, enhanced)

    def _pesq(self, clean: Tensor, enhanced: Tensor) -> Float[Tensor, " items"]:
        """Of each pair, NaN where there is none; waits for scores that are on their way."""
        expected = [self.scores.ask(*pair) for pair in zip(clean.cpu(), enhanced.cpu(), strict=True)]
        return clean.new_tensor([self.scores.wait(score) for score in expected])

    def _scaled(self, pesq: Float[Tensor, " items"]) -> Float[Tensor, " items"]:
        return ((pesq - LOWEST_PESQ) / PESQ_SPAN).nan_to_num()
