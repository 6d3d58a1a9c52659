"""Ways of learning. A new one is a file of its own and one line here."""

from training.objectives.base import MODEL, Learner, Losses, Objective, ObjectiveConfig
from training.objectives.regression import Regression

AnyObjective = Regression.Config

__all__ = ["MODEL", "AnyObjective", "Learner", "Losses", "Objective", "ObjectiveConfig", "Regression"]
