"""Ways of learning. A new one is a file of its own and one line here."""

from typing import Annotated

from pydantic import Field

from training.objectives.adversarial import Adversarial
from training.objectives.base import MODEL, Learner, Losses, Objective, ObjectiveConfig
from training.objectives.contrast import Contrast
from training.objectives.diffusion import Diffusion
from training.objectives.distillation_objective import Taught
from training.objectives.power_law import PowerLaw
from training.objectives.regression import Regression
from training.objectives.spectral import Spectral

AnyObjective = Annotated[
    Regression.Config
    | Spectral.Config
    | PowerLaw.Config
    | Contrast.Config
    | Adversarial.Config
    | Diffusion.Config
    | Taught.Config,
    Field(discriminator="kind"),
]

__all__ = [
    "MODEL",
    "Adversarial",
    "AnyObjective",
    "Contrast",
    "Diffusion",
    "Learner",
    "Losses",
    "Objective",
    "ObjectiveConfig",
    "PowerLaw",
    "Regression",
    "Spectral",
    "Taught",
]
