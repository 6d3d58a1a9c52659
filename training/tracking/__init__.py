"""The one door to MLflow: runs, their numbers, and the registry of versions."""

from training.registry import Version
from training.tracking.connection import without_password
from training.tracking.runs import PENDING
from training.tracking.versions import Tracking

__all__ = ["PENDING", "Tracking", "Version", "without_password"]
