"""Adversarial: beside the distances to the clean speech, networks that judge the enhanced one, and learn to."""

from typing import Annotated, Literal, cast

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from simulation.errors import BadSetting
from training.derivation import Maker
from training.models.base import Enhancer
from training.models.layers import without_autocast
from training.objectives.base import MODEL, Losses, Objective, ObjectiveConfig, PerItem
from training.objectives.judges import Judge
from training.objectives.metric_judge import MetricJudge
from training.objectives.period_judge import PeriodJudge
from training.objectives.power_law import PowerLaw
from training.objectives.spectral import Spectral
from training.objectives.spectrum_judges import BandJudge, ResolutionJudge
from training.objectives.waiting import Waiting
from training.pesq_worker import SAMPLE_RATE

JUDGE = "judge"
"""The phase in which the judges learn."""

AnyDistances = Annotated[Spectral.Config | PowerLaw.Config, Field(discriminator="kind")]
"""What judges may stand beside."""

AnyJudge = Annotated[
    MetricJudge.Config | PeriodJudge.Config | ResolutionJudge.Config | BandJudge.Config, Field(discriminator="kind")
]
"""The judges. A new one is a file of its own and one line here."""


class Adversarial(Objective):
    """What the distances say, and judges that learn beside the model; first the judges take their step, then the model.

    The judges learn from the clean speech of now and from what the model made `delay_steps` steps ago. So PESQ can be
    computed by processes beside the training without its speed having any influence, and the judges' phase needs no
    forward pass of the model; pairs that wait survive a checkpoint.

    Sources: MP-SENet and RENet's code; `training.objectives.papers` has their weights. Deviations: theirs judge the
    newest output (and wait for its PESQ); one optimiser moves all judges, and their gradient is clipped as one, where
    RENet clips that of the multi-period discriminator at 10 and no other.
    """

    class Config(ObjectiveConfig):
        """The distances, and who judges."""

        kind: Literal["adversarial"] = "adversarial"
        spectral: AnyDistances = Spectral.Config()
        judges: tuple[AnyJudge, ...] = (MetricJudge.Config(),)
        delay_steps: int = Field(default=1, gt=0)
        """Steps between what the model made and what the judges learn of it."""

        @model_validator(mode="after")
        def _each_kind_once(self) -> "Adversarial.Config":
            kinds = [judge.kind for judge in self.judges]
            if not kinds or len(set(kinds)) < len(kinds):
                raise ValueError(f"judges {kinds}: expected at least one, each kind once; without any, use `spectral`")
            return self

        def build(self) -> "Adversarial":
            """The objective."""
            return Adversarial(self)

        def versions(self) -> list[str]:
            """Those of the distances."""
            return self.spectral.versions()

        def wants_beside(self) -> bool:
            """What the distances do."""
            return self.spectral.wants_beside()

    phases = (JUDGE, MODEL)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.spectral = config.spectral.build()
        self.judges = nn.ModuleDict({judge.kind: judge.build() for judge in config.judges})
        self.waiting = Waiting(config.delay_steps)

    def meet(self, model: Enhancer) -> None:
        """So do the distances."""
        self.spectral.meet(model)

    def maker(self, model: Enhancer) -> Maker | None:
        """That of the distances."""
        return self.spectral.maker(model)

    def trained(self, model: Enhancer, phase: str) -> list[nn.Parameter]:
        """With the model what learns in the distances; the judges by themselves."""
        return [*model.parameters(), *self.spectral.parameters()] if phase == MODEL else list(self.judges.parameters())

    def step_begins(self, step: int) -> None:
        """The batch that has waited long enough is due."""
        self.waiting.begin(step)

    def step_ends(self) -> None:
        """What the model made waits from now on."""
        made = self.waiting.end()
        if made is not None:
            for judge in self._panel():
                judge.expect(made)

    def losses(
        self,
        model: Enhancer,
        noisy: Float[Tensor, "batch samples"],
        clean: Float[Tensor, "batch samples"],
        phase: str = MODEL,
    ) -> Losses:
        """See the class."""
        if "metric" in self.judges and model.sample_rate != SAMPLE_RATE:
            raise BadSetting(
                f"The metric judge learns PESQ, which is defined at {SAMPLE_RATE} Hz; the model has "
                f"{model.sample_rate} Hz. Leave that judge out of the objective, or train a model of {SAMPLE_RATE} Hz."
            )
        return self._judging(noisy, clean) if phase == JUDGE else self._modelling(model, noisy, clean)

    def _modelling(self, model: Enhancer, noisy: Tensor, clean: Tensor) -> Losses:
        """What the model minimises; what it made is put aside for the judges."""
        self.spectral.beside = self.beside
        (total, parts), enhanced, wanted = self.spectral.answer(model, noisy, clean)
        for judge in self._panel():
            persuasion, more = judge.persuade(enhanced, wanted)
            total, parts = total + persuasion, parts | more
        if self.training:
            self.waiting.put(wanted.waveform, enhanced.waveform)
        return Losses(total, parts)

    def _judging(self, noisy: Tensor, clean: Tensor) -> Losses:
        """What the judges minimise."""
        with without_autocast(noisy):
            now = self.spectral.heard(clean * self.spectral.level(noisy))
            waited = self.waiting.take(now.waveform)
            made = None if waited is None else (self.spectral.heard(waited[:, 0]), self.spectral.heard(waited[:, 1]))
        total, parts = now.waveform.new_zeros(len(clean)), dict[str, PerItem]()
        for judge in self._panel():
            loss, more = judge.learn(now, made)
            total, parts = total + loss, parts | more
        return Losses(total, parts)

    def _panel(self) -> list[Judge]:
        return [cast(Judge, judge) for judge in self.judges.values()]
