"""Who teaches whom: a student's recipe with its teachers filled in, and lessons given before it begins."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from simulation.cluster import fraction
from simulation.errors import BadSetting
from training.derived import derive
from training.objectives import Adversarial, Diffusion, PowerLaw, Regression, Spectral, Taught
from training.objectives.distillation import Distillation
from training.objectives.distillation_lessons import Lessons
from training.recipe import Recipe

SUFFIX = "_taught"
"""Of the name of a recipe that kept no place for a teacher."""


def taught_by(recipe: Recipe, teachers: Sequence[str]) -> Recipe:
    """The recipe with the versions at these addresses as its teachers, whose lessons are kept.

    They get the place that the recipe keeps for them (objective `taught`, `power_law` with a distillation); where it
    keeps none, their output stands beside its objective at half its weight, and the name says so. A recipe that begins
    with a version, and does not say which, begins with the first teacher. Raises BadSetting for an objective that no
    teacher can stand beside.
    """
    if not teachers:
        raise BadSetting("No teacher is named. Give TEACHER:STUDENT, such as champion:renet_distilled.")
    begins = teachers[0] if recipe.begins_with == "" else recipe.begins_with
    kept = distillation_of(recipe)
    named = (kept or Distillation.Config(features=0.0)).model_copy(
        update={"teacher": teachers[0], "others": tuple(teachers[1:]), "lessons": "kept"}
    )
    name = recipe.name + SUFFIX if kept is None else recipe.name
    objective = beside(recipe, named) if kept is None else _with(recipe.objective, named)
    return recipe.model_copy(update={"name": name, "objective": objective, "begins_with": begins})


def without_clean(recipe: Recipe) -> Recipe:
    """The same for recordings that have no clean side: only what teachers say is learnt."""
    objective = recipe.objective
    if not isinstance(objective, Taught.Config):
        objective = beside(recipe, Distillation.Config(features=0.0))
    return recipe.model_copy(
        update={"name": f"{recipe.name}_unlabelled", "objective": objective.model_copy(update={"clean": 0.0})}
    )


def learns_from_clean(recipe: Recipe) -> bool:
    """Whether the clean side of a corpus is looked at: not by students of recordings that have none."""
    return not isinstance(recipe.objective, Taught.Config) or recipe.objective.clean > 0


def distillation_of(recipe: Recipe) -> Distillation.Config | None:
    """The place that a recipe keeps for teachers."""
    objective: Any = recipe.objective
    if isinstance(objective, Adversarial.Config):
        objective = objective.spectral
    return getattr(objective, "distillation", None)


def beside(recipe: Recipe, distillation: Distillation.Config) -> Taught.Config:
    """What a recipe learns by, with teachers beside it."""
    objective = recipe.objective
    if not isinstance(objective, Regression.Config | Spectral.Config | PowerLaw.Config | Diffusion.Config):
        raise BadSetting(
            f"The recipe {recipe.name} learns by the objective {objective.kind}, which no teacher can stand beside. "
            "Expected regression, spectral, power_law, diffusion or taught; or adversarial over power_law with a "
            "`distillation`."
        )
    measure = Regression.Config() if isinstance(objective, Diffusion.Config) else None
    return Taught.Config(alone=objective, measure=measure, distillation=distillation)


def _with(objective: Any, distillation: Distillation.Config) -> Any:
    if isinstance(objective, Adversarial.Config):
        return objective.model_copy(update={"spectral": _with(objective.spectral, distillation)})
    return objective.model_copy(update={"distillation": distillation})


# ---- lessons --------------------------------------------------------------------------------------------------------


def give_lessons(
    recipe: Recipe, corpora: Mapping[str, Any], store: str, workers: int, say: Callable[[str], None]
) -> dict[str, int]:
    """Let the teachers of a recipe say what is not in the store yet, on Ray; for how many rows of each split they were
    asked, none where somebody else learnt from them before."""
    settings = distillation_of(recipe)
    maker = None if settings is None else Lessons.of(settings)
    if maker is None:
        return {}
    task, asked = ray.remote(derive).options(num_cpus=fraction(workers)), {}
    for split, corpus in corpora.items():
        derivation = maker.derivation(corpus.digest)
        say(f"lessons of {split}: {derivation.address(store)}")
        shares = [task.remote(corpus, derivation, store, maker, rank=rank, world=workers) for rank in range(workers)]
        asked[split] = sum(ray.get(shares)) + derive(corpus, derivation, store, maker)
    return asked
