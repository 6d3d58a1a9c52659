"""Runs that begin with what others made: weights taken over, teachers; RaD-Net 2's four steps in a row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simulation.errors import BadSetting, CheckpointIncompatible, NotThere
from training.batches import Batches
from training.beginnings import check_beginnings, take_over
from training.checkpoint import load_version, save_version, weights_digest
from training.cookbook import recipe as from_cookbook
from training.loop import Run, Seat, train
from training.models.rad_net2 import RadNet2
from training.objectives import Adversarial, PowerLaw
from training.objectives.spectrum_judges import BandJudge, ResolutionJudge
from training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]

NARROW: dict[str, Any] = {
    "sample_rate": 16000,
    "window_size": 240,
    "hop_size": 120,
    "fft_size": 256,
    "repairing": {"channels": 4, "stacks": 1, "dilations": (1, 2), "depth": 1},
    "denoising": {"features": 4, "channels": (4, 4), "squeezed": 4, "depth": 1},
}
STAGE_1 = {"denoising": None}
WINDOWS = {"fft_size": 240, "hop_size": 120}
JUDGES = ResolutionJudge.Config(window_sizes=(64,), channels=2), BandJudge.Config(window_sizes=(256,), channels=2)


def narrow(**changes: Any) -> RadNet2.Config:
    """A small RaD-Net 2 at 16 kHz."""
    return RadNet2.Config.model_validate(NARROW | changes)


def go_on(run: Run, corpus: object, save: Callable[[Run], None] = lambda run: None) -> Run:
    """A run in this process, to its end."""
    batches = Batches(corpus, run.recipe)  # type: ignore[arg-type]
    train(run, batches, [], Seat(), save, lambda progress: None, lambda *looked: {})
    return run


def released(run: Run, folder: Path) -> str:
    """The address of its version."""
    save_version(run.released, str(folder), {})
    return str(folder)


def test_the_four_steps_follow_one_another(tones: object, small_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Teacher; student, which stops and goes on bit for bit; stage 2 behind the student, which stays; both together."""
    few = {"network": "rad_net2", "warmup_steps": 0, "batch_size": 2, "segment_s": 0.1, "checkpoint_every": 1}
    alone = PowerLaw.Config.model_validate(WINDOWS)

    def recipe(model: RadNet2.Config, distances: PowerLaw.Config = alone, **changes: Any) -> Recipe:
        judged = Adversarial.Config(spectral=distances, judges=JUDGES)
        return small_recipe(**few | {"model": model, "objective": judged, "steps": 2} | changes)

    first = go_on(Run(recipe(narrow(sees_both_sides=True, **STAGE_1))), tones)
    teacher = released(first, tmp_path / "teacher")

    taught = PowerLaw.Config.model_validate(WINDOWS | {"distillation": {"teacher": teacher}})
    second, states = recipe(narrow(**STAGE_1), taught), dict[int, Path]()

    def save(run: Run) -> None:
        states[run.step] = tmp_path / f"{run.step}.pt"
        torch.save(run.state(), states[run.step])

    whole, resumed = go_on(Run(second), tones, save), Run(second)
    resumed.resume(torch.load(states[1], weights_only=True))
    go_on(resumed, tones)
    assert weights_digest(resumed.released) == weights_digest(whole.released)
    assert whole.history[-1]["train/taught_features"] > 0
    student = released(whole, tmp_path / "student")

    third = go_on(Run(recipe(narrow(frozen_repairing=True), begins_with=student)), tones)
    both = released(third, tmp_path / "both")
    stages, fixed = load_version(both), load_version(student)
    assert isinstance(stages, RadNet2) and isinstance(fixed, RadNet2)
    assert weights_digest(stages.repairing) == weights_digest(fixed.repairing)
    assert third.history[-1]["train/judge/bands_fake"] > 0

    fourth = Run(recipe(narrow(), begins_with=both))
    assert weights_digest(fourth.learner.model) == weights_digest(stages)
    go_on(fourth, tones)
    assert isinstance(fourth.released, RadNet2)
    assert weights_digest(fourth.released.repairing) != weights_digest(fixed.repairing)


def test_what_has_no_place_in_a_version_begins_fresh(tmp_path: Path) -> None:
    """Stage 1 out of the version, statistics too; stage 2 as it was drawn."""
    torch.manual_seed(1)
    first = narrow(**STAGE_1).build().train()
    first(0.1 * torch.randn(2, 2400))
    address = str(tmp_path / "stage-1")
    save_version(first, address, {})
    both = narrow().build()
    assert both.denoising is not None
    before = weights_digest(both.denoising)
    take_over(both, address)
    assert weights_digest(both.repairing) == weights_digest(first.repairing)
    assert weights_digest(both.denoising) == before


def test_weights_without_a_place_are_answered(tmp_path: Path) -> None:
    """A whole network for its first stage alone, and one of another width: the first names, and how many more."""
    both, wide = str(tmp_path / "both"), str(tmp_path / "wide")
    save_version(narrow().build(), both, {})
    save_version(narrow(**STAGE_1, repairing=NARROW["repairing"] | {"channels": 5}).build(), wide, {})
    model = narrow(**STAGE_1).build()
    before = weights_digest(model)
    for address, named in ((both, "denoising."), (wide, "repairing.")):
        with pytest.raises(CheckpointIncompatible, match=rf"no place of that shape for {named}.* and \d+ more"):
            take_over(model, address)
    assert weights_digest(model) == before


@pytest.mark.parametrize("name", ["rad_net2_repairing", "rad_net2", "rad_net2_joint"])
def test_an_address_that_is_open_is_answered_before_anything_is_trained(name: str) -> None:
    """With the command that writes the recipe down, to be filled in."""
    with pytest.raises(BadSetting, match=f"unmuffle recipes {name} > {name}.json"):
        check_beginnings(from_cookbook(name))


def test_a_version_that_is_not_there_is_answered_before_anything_is_trained(
    small_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Be it the one to begin with or a teacher; a recipe that needs none passes."""
    nowhere = str(tmp_path / "nowhere")
    objective = {"kind": "power_law", "distillation": {"teacher": nowhere}}
    judged = {"kind": "adversarial", "spectral": objective, "judges": [each.model_dump() for each in JUDGES]}
    for changes in ({"begins_with": nowhere}, {"objective": objective}, {"objective": judged}):
        with pytest.raises(NotThere, match="There is no model at"):
            Run(small_recipe(**changes))
    check_beginnings(small_recipe())


def test_a_student_differs_from_what_it_is_compared_with_in_its_teacher_alone() -> None:
    """So that the difference is what distillation gives."""
    taught, untaught = from_cookbook("rad_net2_repairing"), from_cookbook("rad_net2_untaught")
    assert isinstance(taught.objective, Adversarial.Config) and isinstance(taught.objective.spectral, PowerLaw.Config)
    assert taught.objective.spectral.distillation is not None
    spectral = taught.objective.spectral.model_copy(update={"distillation": None})
    objective = taught.objective.model_copy(update={"spectral": spectral})
    assert taught.model_copy(update={"name": untaught.name, "objective": objective}) == untaught


def test_the_smoke_recipe_teaches_its_network() -> None:
    """Losses are finite and every weight has a gradient, of both stages."""
    torch.manual_seed(0)
    found = from_cookbook("rad_net2_smoke")
    model, clean = found.model.build().train(), 0.05 * torch.randn(1, 4800)
    losses = found.objective.build().losses(model, clean + 0.02 * torch.randn(1, 4800), clean)
    losses.total.sum().backward()
    assert losses.total.isfinite().all()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
