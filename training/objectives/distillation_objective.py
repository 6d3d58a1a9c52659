"""Taught: what any network learns by itself, and beside it what teachers say of the same noisy speech."""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from training.derivation import Maker
from training.models.base import Enhancer
from training.models.layers import without_autocast
from training.objectives.base import MODEL, Losses, Objective, ObjectiveConfig, PerItem
from training.objectives.diffusion import Diffusion
from training.objectives.distillation import Distillation, answering
from training.objectives.distillation_lessons import Lessons
from training.objectives.power_law import PowerLaw
from training.objectives.regression import Regression
from training.objectives.spectral import Spectral

AnyMeasure = Annotated[Regression.Config | Spectral.Config | PowerLaw.Config, Field(discriminator="kind")]
"""What can say how far a student's output is from a teacher's."""

AnyAlone = Annotated[
    Regression.Config | Spectral.Config | PowerLaw.Config | Diffusion.Config, Field(discriminator="kind")
]
"""What teachers may stand beside. (`Adversarial` takes them with its `power_law` distances.)"""


class Taught(Objective):
    """The weighted sum of three::

        clean            the objective `alone`, against the clean speech
        taught_output    the objective `measure`, with the teachers' output in the clean speech's place
        taught_features  see `Distillation`

    With `clean` at 0 the clean side of a corpus is not looked at: recordings without one can be learnt from, as far as
    the teachers are right about them.
    """

    class Config(ObjectiveConfig):
        """What it learns without teachers, and who they are."""

        kind: Literal["taught"] = "taught"
        alone: AnyAlone = Regression.Config()
        clean: float = Field(default=1.0, ge=0)
        measure: AnyMeasure | None = None
        """None: `alone`; to be given where that compares no outputs (diffusion)."""
        distillation: Distillation.Config = Distillation.Config()

        @model_validator(mode="after")
        def _measures_outputs(self) -> "Taught.Config":
            if self.measure is None and isinstance(self.alone, Diffusion.Config):
                raise ValueError("diffusion compares no outputs; give `measure`, such as {'kind': 'regression'}")
            return self

        def build(self) -> "Taught":
            """The objective."""
            return Taught(self)

        def versions(self) -> list[str]:
            """The teachers, and those of the objective without them."""
            return [*self.alone.versions(), *self.distillation.teachers]

        def wants_beside(self) -> bool:
            """Whether lessons are kept."""
            return self.distillation.lessons == "kept"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.alone = config.alone.build()
        measure = config.alone if config.measure is None else config.measure
        assert not isinstance(measure, Diffusion.Config)  # the settings see to that
        self.measure = measure.build()
        self.distillation = config.distillation.build()

    def meet(self, model: Enhancer) -> None:
        """Maps between features are made."""
        self.distillation.meet(model)

    def maker(self, model: Enhancer) -> Maker | None:
        """The teachers, where they are to speak once."""
        return Lessons.of(self.config.distillation)

    def losses(
        self,
        model: Enhancer,
        noisy: Float[Tensor, "batch samples"],
        clean: Float[Tensor, "batch samples"],
        phase: str = MODEL,
    ) -> Losses:
        """See the class."""
        weights, distillation = self.config.distillation, self.distillation
        lesson = distillation.lesson(self.beside, model, noisy)
        estimate = distillation.estimate(model, noisy)
        parts, terms = dict[str, PerItem](), list[PerItem]()
        with answering(model, estimate):
            if self.config.clean:
                alone = self.alone.losses(model, noisy, clean)
                parts |= alone.parts
                terms.append(self.config.clean * alone.total)
        with without_autocast(noisy):
            found, wanted = (
                distillation.learnt(each, noisy.shape[-1], model.sample_rate) for each in (estimate, lesson)
            )
            if weights.output:
                with answering(model, found):
                    heard = noisy[:, : found.enhanced.shape[-1]]
                    parts["taught_output"] = self.measure.losses(model, heard, wanted.enhanced).total
                terms.append(weights.output * parts["taught_output"])
            if weights.features:
                parts["taught_features"] = distillation.features(found, wanted)
                terms.append(weights.features * parts["taught_features"])
        return Losses(torch.stack(terms).sum(0), parts)
