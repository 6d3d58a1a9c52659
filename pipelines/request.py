"""What a person asks of one run of the pipeline: the one list of its parameters, with what each means.

Commands make their options of these fields, Kubeflow's pipelines have parameters of the same names, and the key of a
run is their digest. Importing this is quick.
"""

import hashlib
from typing import Any

from pydantic import Field, field_validator

from simulation.schema import Schema, canonical_json

RECIPES = ("dm_smoke", "gru_smoke")
"""What is trained where nobody says."""


class Request(Schema):
    """The parameters of `retrain` that identify a run."""

    scenario: str = "sample"
    """Scenario to simulate: a name (see `unmuffle scenarios`), or the address of one as JSON."""
    recipes: tuple[str, ...] = RECIPES
    """Recipes to train, comma-separated: names (see `unmuffle recipes`), or addresses of such as JSON."""
    distil: str = ""
    """TEACHER:STUDENT, as for `unmuffle distil`; a teacher may be one of the recipes."""
    gate_corpus: str = ""
    """<address>#<digest> to gate on. Default: the use's pinned one."""
    use: str = "denoise-16k"
    """What the model is for; each use has one champion."""
    policy: str = ""
    """What it takes to win: quality, realtime, or a JSON file. Default: the use's."""
    hours: float = Field(default=0.0, ge=0)
    """Hours of training audio; 0: the scenario's own size."""
    seed: int = Field(default=0, ge=0)
    """Seed of every number that is drawn; 0: the scenario's own."""
    again: int = Field(default=0, ge=0)
    """Train once more, with a seed higher by this."""

    @field_validator("recipes", mode="before")
    @classmethod
    def _listed(cls, recipes: Any) -> Any:
        """As typed, with commas, or as a list."""
        names = recipes.split(",") if isinstance(recipes, str) else recipes
        return tuple(name.strip() for name in names if name.strip())

    def key(self) -> str:
        """Logical key of the run: asking for the same thing twice continues the same MLflow run."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json"))).hexdigest()[:16]
