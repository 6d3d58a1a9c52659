"""The step that lets versions teach a student: lessons, its training, and what was lost and saved against them."""

import re
from typing import Any

from components.compute import Compute, launch, say
from components.specs import DistilSpec, Input
from components.stage import Result, Stage
from components.train import fitted_and_registered, recipe_of
from simulation import storage
from simulation.errors import BadSetting
from simulation.virtual import open_corpora

REPORT = "distillation.json"
"""What a student lost and saved against its teachers: `training.distillation_report`."""


def pair_of(text: str) -> tuple[tuple[str, ...], str]:
    """Teachers and the student's recipe out of "TEACHER:STUDENT" or "TEACHER,TEACHER:STUDENT"; BadSetting."""
    parts = re.split(r":(?!//)", text)  # the colon of an address is none
    if len(parts) != 2 or not all(part.strip() for part in parts):
        raise BadSetting(
            f"{text!r} is not TEACHER:STUDENT. Expected a version, or several with commas between them (champion, "
            "dm/3, an address), a colon, and a recipe, such as champion:gru_smoke."
        )
    return tuple(name.strip() for name in parts[0].split(",") if name.strip()), parts[1].strip()


def version_input(name: str, use: str) -> Input:
    """A version that a person named (champion, dm/3, an address), as an input."""
    from training.checkpoint import version_record
    from training.tracking import Tracking

    if "#" in name:
        return Input.of(name)
    address = Tracking().resolve(name, use).address
    return Input(address=address, sha256=version_record(address).weights_sha256)


def distilled(
    teachers: tuple[Input, ...],
    student: str,
    corpus: Input,
    store: str,
    parent: str = "",
    again: int = 0,
    unlabelled: bool = False,
) -> Result:
    """Let these versions teach the recipe, or answer from the result; `unlabelled`: from what they say alone.

    `outputs` hold the version's "<address>#<digest>", its name, for how many rows the teachers were asked, and the
    address of the report.
    """
    from training.teaching import taught_by, without_clean

    recipe = without_clean(recipe_of(student)) if unlabelled else recipe_of(student)
    taught_by(recipe, [each.address for each in teachers])  # what cannot be taught is answered here
    settings = recipe.model_dump(mode="json") | {"seed": recipe.seed + again}
    spec = DistilSpec(teachers=teachers, recipe=settings, corpus=corpus, parent=parent, again=again)
    return launch(spec, store)


def with_student(
    pair: str, trained: dict[str, Input], corpus: Input, use: str, store: str, parent: str = "", again: int = 0
) -> list[Input]:
    """The versions of a pipeline run, by recipe, and behind them the student that "TEACHER:STUDENT" asks for.

    A teacher may be a recipe of this very run: the version that was just trained. An empty pair asks for no student.
    """
    versions = list(trained.values())
    if not pair:
        return versions
    names, student = pair_of(pair)
    teachers = tuple(trained[name] if name in trained else version_input(name, use) for name in names)
    return [*versions, Input.of(distilled(teachers, student, corpus, store, parent, again).outputs["version"])]


def check_pair(pair: str, recipes: tuple[str, ...], use: str) -> None:
    """Before anything is trained: UnmuffleError where somebody of a pair is not there, or is for another use."""
    from training.teaching import taught_by

    names, name = pair_of(pair)
    student = recipe_of(name)
    if student.use != use:
        raise BadSetting(f"The recipe {name} is for {student.use}, not for {use}; give --use {student.use}.")
    taught_by(student, names)
    for teacher in names:
        if teacher not in recipes:
            version_input(teacher, use)


def run(spec: DistilSpec, stage: Stage) -> dict[str, Any]:
    """The stage: give lessons, fit on Ray Train, register the version, compare it with its teachers."""
    from components.live import said_cluster
    from components.record import recorded
    from training.distillation_report import compared
    from training.recipe import Recipe
    from training.teaching import give_lessons, learns_from_clean, taught_by
    from training.tracking import Tracking

    recipe = taught_by(Recipe.parse(spec.recipe, "recipe"), [each.address for each in spec.teachers])
    tracking, name = Tracking(), f"distil {recipe.name}"
    with said_cluster(name), recorded(tracking, stage, name, spec.parent) as run_id:
        corpora = open_corpora(spec.corpus.address, spec.corpus.sha256)
        learnt_from = {split: corpora[split] for split in ("train", "valid")}
        workers = Compute.current().workers
        asked = give_lessons(recipe, learnt_from, stage.store, workers, lambda line: say(f"{name}: {line}"))
        say(f"{name}: teachers were asked for {sum(asked.values())} rows")
        version = fitted_and_registered(recipe, spec.corpus, stage, tracking, run_id, name)
        tracking.tag(run_id, {"teachers": ", ".join(each.address for each in spec.teachers)})
        say(f"{name}: comparing {version.name} with its teachers")
        report = compared(
            version.address,
            [each.address for each in spec.teachers],
            corpora["test"],
            clean=learns_from_clean(recipe),
            workers=workers,
        )
        stage.check()
        address = storage.join(stage.folder, REPORT)
        storage.replace(address, report.canonical())
        tracking.artifact(run_id, report.canonical(), REPORT)
        tracking.metrics(run_id, report.figures(), recipe.steps)
    student = Input(address=version.address, sha256=version.weights_sha256)
    return {"version": str(student), "name": version.name, "run_id": run_id, "asked": asked, "report": address}
