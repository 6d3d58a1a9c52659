"""Teachers beside any objective: layers by name, maps between widths, several at once, lessons that are kept."""

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from simulation.errors import BadSetting
from training.batches import Batches
from training.beside import accompanied
from training.checkpoint import save_version
from training.cookbook import recipe as from_cookbook
from training.loop import Run, Seat, train
from training.models import GruMask
from training.models.base import Estimate
from training.models.rad_net2 import RadNet2
from training.objectives import MODEL, Learner, Taught
from training.objectives import distillation as module
from training.objectives import distillation_lessons as lessons_module
from training.objectives.distillation import Distillation, answering, banded, overheard
from training.objectives.distillation_lessons import HOPS, Lessons
from training.recipe import Recipe
from training.run import maker_of
from training.teaching import distillation_of, learns_from_clean, taught_by, without_clean

Fill = Callable[[torch.nn.Module], None]
NARROW: dict[str, Any] = {
    "sample_rate": 16000,
    "window_size": 240,
    "hop_size": 120,
    "fft_size": 256,
    "repairing": {"channels": 4, "stacks": 1, "dilations": (1, 2), "depth": 2},
    "denoising": None,
}
ALONE = {"kind": "regression", "fft_size": 240, "hop_size": 120}


def network(fill: Fill, both_sides: bool = False, channels: int = 4) -> RadNet2:
    """A narrow stage 1 with weights by rule."""
    repairing = NARROW["repairing"] | {"channels": channels}
    model = RadNet2.Config.model_validate(NARROW | {"sees_both_sides": both_sides, "repairing": repairing}).build()
    fill(model)
    return model.eval()


@pytest.fixture
def teachers(tmp_path: Path, fill: Fill) -> list[str]:
    """Addresses of two versions that see both sides, the second one's output three times the first one's."""
    found = []
    for place, factor in enumerate((1.0, 3.0)):
        model = network(fill, both_sides=True)
        with torch.no_grad():
            for ups in (model.repairing.up_real, model.repairing.up_imaginary):
                last = ups[-1].gated.value
                last.weight *= factor
                last.bias *= factor
        found.append(str(tmp_path / f"teacher-{place}"))
        save_version(model, found[-1], {})
    return found


def taught(teacher: str, clean: float = 1.0, **distillation: Any) -> Taught:
    """An objective with that teacher."""
    settings = {"alone": ALONE, "clean": clean, "distillation": {"teacher": teacher} | distillation}
    return Taught.Config.model_validate(settings).build()


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal numbers, always the same."""
    return 0.05 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_teachers_stand_beside_any_objective(teachers: list[str], fill: Fill) -> None:
    """The total is the objective's own, half the same against the teacher's output, and the features."""
    student, noisy, clean = network(fill), noise(2, 2400), noise(2, 2400, seed=2)
    objective = taught(teachers[0])
    losses, alone = objective.losses(student, noisy, clean), objective.alone.losses(student, noisy, clean)
    said = objective.distillation.asked(student, noisy)
    output = objective.alone.losses(student, noisy, said.enhanced)
    assert torch.allclose(losses.parts["taught_output"], output.total)
    features = losses.parts["taught_features"]
    assert features.min() > 0.01
    assert torch.allclose(losses.total, alone.total + 0.5 * output.total + features)
    assert alone.parts.keys() < losses.parts.keys()


def test_a_step_asks_the_student_once(teachers: list[str], fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses against the clean, the teacher's output and its features share one pass; afterwards it answers itself."""
    student, objective, calls = network(fill), taught(teachers[0]), []
    monkeypatch.setattr(
        RadNet2, "estimate", lambda self, noisy, ask=RadNet2.estimate: calls.append(self) or ask(self, noisy)
    )
    objective.losses(student, noise(1, 2400), noise(1, 2400, seed=2))
    assert [each is student for each in calls] == [False, True]
    with answering(student, student.estimate(noise(1, 240))):
        pass
    assert "estimate" not in vars(student)


def test_without_a_clean_side_the_teacher_alone_is_learnt_from(teachers: list[str], fill: Fill) -> None:
    """With `clean` at 0, losses are the same whatever stands there."""
    student, noisy, objective = network(fill), noise(1, 2400), taught(teachers[0], clean=0.0)
    one, other = (objective.losses(student, noisy, noise(1, 2400, seed=seed)) for seed in (2, 3))
    assert torch.equal(one.total, other.total) and set(one.parts) == {"taught_output", "taught_features"}


def test_several_teachers_are_averaged(teachers: list[str], fill: Fill) -> None:
    """Outputs and features alike: of one output and thrice that, twice that."""
    student, noisy = network(fill), noise(2, 2400)
    said = [taught(each).distillation.asked(student, noisy) for each in teachers]
    both = taught(teachers[0], others=(teachers[1],)).distillation.asked(student, noisy)
    assert torch.allclose(said[1].enhanced, 3 * said[0].enhanced, rtol=1e-4, atol=1e-6)
    assert torch.allclose(both.enhanced, 2 * said[0].enhanced, rtol=1e-4, atol=1e-6)
    for feature, *each in zip(both.features, *(one.features for one in said), strict=True):
        assert torch.allclose(feature, torch.stack(each).mean(0))


def test_layers_are_heard_by_name(teachers: list[str], fill: Fill) -> None:
    """What the parts of these names give, in this order, each tensor of it; complex pairs become channels."""
    student, noisy = network(fill), noise(1, 2400)
    names = ("repairing.stacks.0", "repairing.down.1")
    distillation = taught(teachers[0], layers=[(name, name) for name in names]).distillation
    shown = student.estimate(noisy).features
    heard = distillation.estimate(student, noisy).features
    assert len(heard) == 2 and torch.equal(heard[0], shown[3]) and torch.equal(heard[1], shown[1])
    pair = torch.nn.Identity()
    with overheard(pair, [""]) as found:
        pair((torch.zeros(1, 2, 3, 4, 5), None))
    assert [each.shape for each in found[""]] == [(1, 6, 4, 5)]
    with pytest.raises(BadSetting, match=r"no part named 'repairing\.sideways'"):
        taught(teachers[0], layers=[("repairing.sideways", names[0])]).distillation.estimate(student, noisy)


def test_between_widths_a_map_is_learnt(teachers: list[str], fill: Fill) -> None:
    """It learns with the student, is in checkpoints and not in the version, and moves neither statistics nor chance."""
    student, objective = network(fill, channels=6).train(), taught(teachers[0])
    before = {name: value.clone() for name, value in student.state_dict().items()}
    chance = torch.get_rng_state()
    Distillation.meet(objective.distillation, student)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    objective.distillation.maps.clear()
    torch.set_rng_state(chance)
    learner = Learner(student, taught(teachers[0]))
    maps = learner.objective.distillation.maps
    assert maps["0"].weight.shape == (4, 6, 1) and maps["3"].weight.shape == (4, 6, 1)
    learning = learner.objective.trained(student, MODEL)
    assert all(any(each is one for one in learning) for each in maps.parameters())
    assert any("maps.0" in name for name in learner.state_dict())
    losses = learner(noise(2, 2400), noise(2, 2400, seed=2))
    losses.total.sum().backward()
    assert maps["0"].weight.grad is not None and maps["0"].weight.grad.any()
    Learner(student, learner.objective)
    assert learner.objective.distillation.maps is maps and maps["0"].weight.grad is not None


def test_features_of_other_lengths_are_brought_together() -> None:
    """A frame or two more are cut off, twice the rate is resampled; other channels without a map are answered."""
    distillation, enhanced = Distillation.Config(teacher="somewhere").build(), noise(1, 10)
    student = Estimate(enhanced, {}, features=(torch.ones(1, 3, 10, 5),))
    for frames in (12, 20):
        teacher = Estimate(enhanced, {}, features=(torch.ones(1, 3, frames, 5),))
        assert distillation.features(student, teacher).item() == 0
    with pytest.raises(BadSetting, match="there is no map between them"):
        distillation.features(student, Estimate(enhanced, {}, features=(torch.ones(1, 4, 10, 5),)))
    with pytest.raises(BadSetting, match="Expected as many of each"):
        distillation.features(student, Estimate(enhanced, {}))
    assert banded(torch.arange(4.0).view(1, 1, 1, 4), 2).flatten().tolist() == [0.5, 2.5]
    assert banded(torch.ones(1, 1, 4), 2).shape == (1, 1, 4)


def test_the_end_of_a_piece_may_be_left_out(teachers: list[str], fill: Fill) -> None:
    """There a teacher that sees both sides misses its future: what it says there changes nothing."""
    student, noisy, clean = network(fill), noise(1, 2400), noise(1, 2400, seed=2)
    objective = taught(teachers[0], ends_s=0.05, features=0.0)
    said = objective.distillation.asked(student, noisy)
    losses = []
    for factor in (1.0, 100.0):
        end = torch.ones(2400).index_fill(0, torch.arange(1600, 2400), factor)
        objective.distillation.asked = lambda *_, end=end: said._replace(enhanced=said.enhanced * end)  # type: ignore[method-assign,misc]
        losses.append(objective.losses(student, noisy, clean).total)
    assert torch.equal(*losses)


def test_diffusion_needs_something_that_compares_outputs() -> None:
    """Its losses know no output; a paragraph says what to give."""
    with pytest.raises(ValidationError, match="give `measure`"):
        Taught.Config.model_validate({"alone": {"kind": "diffusion"}})
    with pytest.raises(ValidationError, match="nothing would be learnt from the teacher"):
        Distillation.Config(features=0, output=0)


# ---- lessons


def mixture(samples: int, seed: int = 5) -> Any:
    """One, as a corpus gives it."""
    noisy = noise(samples, seed=seed).numpy()
    return SimpleNamespace(noisy=noisy, clean=np.zeros_like(noisy), sample_rate=16000)


def test_lessons_are_what_teachers_say_of_whole_mixtures(teachers: list[str], fill: Fill) -> None:
    """Output and features of the whole; a piece is cut out of them at whole frames, with zeros behind the end."""
    lessons = Lessons.of(taught(teachers[0], lessons="kept").config.distillation)
    assert lessons is not None
    whole = lessons(mixture(4800))
    said = taught(teachers[0]).distillation.asked(network(fill), torch.from_numpy(mixture(4800).noisy)[None])
    assert torch.equal(whole["enhanced"], said.enhanced[0])
    assert torch.allclose(whole["feature_00"].float(), said.features[0][0], rtol=1e-3, atol=1e-6)
    assert set(whole[HOPS].tolist()) == {120} and lessons.grid(whole) == 120
    piece = lessons.cut(whole, 1200, 2400)
    assert torch.equal(piece["enhanced"], whole["enhanced"][1200:3600])
    assert torch.equal(piece["feature_00"], whole["feature_00"][:, 10:31].float())
    behind = lessons.cut(whole, 3600, 2400)
    assert behind["enhanced"].shape == (2400,) and not behind["enhanced"][1200:].any()
    assert behind["feature_00"].shape == piece["feature_00"].shape


def test_which_lessons_are_meant_follows_from_weights_and_questions(
    teachers: list[str], fill: Fill, tmp_path: Path
) -> None:
    """The same weights elsewhere mean the same lessons; other weights, layers or bands others."""
    corpus = "0" * 64

    def meant(teacher: str, **changes: Any) -> str:
        lessons = Lessons.of(taught(teacher, lessons="kept", **changes).config.distillation)
        assert lessons is not None
        return lessons.derivation(corpus).digest()

    save_version(network(fill, both_sides=True), str(tmp_path / "copy"), {})
    assert meant(teachers[0]) == meant(str(tmp_path / "copy")) == meant(teachers[0], output=2.0)
    others = [{"bands": 3}, {"layers": [("repairing.down.0", "repairing.down.0")]}, {"others": (teachers[1],)}]
    others.append({"features": 0.0})
    assert len({meant(teachers[0]), meant(teachers[1]), *(meant(teachers[0], **each) for each in others)}) == 6


def test_kept_lessons_take_the_teachers_place(teachers: list[str], fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are those of asking, and no teacher is loaded; batches without lessons are answered."""
    kept = taught(teachers[0], lessons="kept")
    maker = kept.maker(network(fill))
    assert isinstance(maker, Lessons) and isinstance(pickle.loads(pickle.dumps(maker)), Lessons)
    assert taught(teachers[0]).maker(network(fill)) is None
    heard = mixture(2400)
    piece = maker.cut(maker(heard), 0, 2400)
    noisy = torch.from_numpy(heard.noisy)[None]
    asked = taught(teachers[0]).losses(network(fill), noisy, noisy)
    monkeypatch.setattr(module, "load_version", lambda address: pytest.fail("a teacher was asked"))
    with pytest.raises(BadSetting, match="nothing of them came"):
        kept.losses(network(fill), noisy, noisy)
    kept.beside = {name: tensor[None] for name, tensor in piece.items()}
    found = kept.losses(network(fill), noisy, noisy)
    assert torch.allclose(found.total, asked.total, rtol=1e-4)


# ---- whose recipe


def test_a_recipe_gets_its_teachers_where_it_keeps_a_place(teachers: list[str]) -> None:
    """In `taught`, in `power_law` below judges, or else beside its objective, with another name."""
    distilled = taught_by(from_cookbook("renet_distilled_smoke"), teachers)
    assert distilled.name == "renet_distilled_smoke"
    kept = distillation_of(distilled)
    assert kept is not None and kept.teachers == tuple(teachers) and kept.lessons == "kept" and kept.layers
    repairing = distillation_of(taught_by(from_cookbook("rad_net2_repairing"), teachers[:1]))
    assert repairing is not None and repairing.teacher == teachers[0] and repairing.features == 1.0
    plain = taught_by(from_cookbook("gru_smoke"), teachers[:1])
    assert plain.name == "gru_smoke_taught" and isinstance(plain.objective, Taught.Config)
    assert plain.objective.alone == from_cookbook("gru_smoke").objective and not plain.objective.distillation.features
    one_step = taught_by(from_cookbook("gp_unified_one_step"), teachers[:1])
    assert one_step.begins_with == teachers[0]
    with pytest.raises(BadSetting, match="no teacher can stand beside"):
        taught_by(from_cookbook("mp_senet_2024"), teachers)


def test_a_recipe_for_recordings_without_a_clean_side_looks_at_none(teachers: list[str]) -> None:
    """And says so in its name; teachers are filled in as in any other."""
    recipe = taught_by(without_clean(from_cookbook("gru_smoke")), teachers[:1])
    assert recipe.name == "gru_smoke_unlabelled" and not learns_from_clean(recipe)
    assert isinstance(recipe.objective, Taught.Config) and recipe.objective.distillation.teacher == teachers[0]
    assert learns_from_clean(from_cookbook("gru_smoke"))


def test_students_differ_from_what_they_are_compared_with_in_the_teacher_alone() -> None:
    """So that the difference is what distillation gives."""
    for name, alone in (("renet_distilled_smoke", "renet_causal_smoke"), ("renet_distilled", "renet_causal")):
        student, other = from_cookbook(name), from_cookbook(alone)
        assert isinstance(student.objective, Taught.Config) and student.objective.alone == other.objective
        assert Recipe.model_validate(student.model_dump() | {"name": alone, "objective": other.objective}) == other


# ---- a run with lessons


def recurrent(both_sides: bool) -> GruMask:
    """A recurrent mask of a few units, always the same."""
    torch.manual_seed(0)
    return GruMask.Config(width=8, layers=1, sees_both_sides=both_sides).build().eval()


def test_a_recurrent_mask_may_see_both_sides(tmp_path: Path) -> None:
    """Its output changes before its input does, it cannot stream, and its features have a causal one's shapes."""
    noisy, changed = noise(1, 4000), noise(1, 4000)
    changed[:, 3000:] *= -2
    student, teacher = recurrent(False), recurrent(True)
    with torch.no_grad():
        firsts = [int((model(noisy) != model(changed))[0].nonzero()[0]) for model in (student, teacher)]
    assert firsts[0] >= 3000 - student.latency_samples > firsts[1]
    assert student.causal and not teacher.causal
    with pytest.raises(NotImplementedError, match="not causal"):
        teacher.stream(None, noisy)
    shapes = [[tuple(each.shape) for each in model.estimate(noisy).features] for model in (student, teacher)]
    assert shapes[0] == shapes[1] and [shape[1] for shape in shapes[0]] == [8, 8]
    with pytest.raises(ValidationError, match="must be even"):
        GruMask.Config(width=7, sees_both_sides=True)


def test_a_second_student_learns_from_what_the_first_one_heard(
    tones: Any, small_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Teachers are asked for every row once; for the second student nobody loads them, and it learns from the same."""
    tones.digest = "0" * 64
    teacher, store = str(tmp_path / "teacher"), (tmp_path / "store").as_uri()
    save_version(recurrent(True), teacher, {})
    alone = {"kind": "regression", "hop_size": 200}
    objective = Taught.Config.model_validate({"alone": alone, "distillation": {"teacher": teacher, "lessons": "kept"}})
    heard, asked = [], []
    for seed in (0, 1):
        recipe = small_recipe(objective=objective, steps=2, warmup_steps=0, seed=seed)
        maker = maker_of(recipe)
        assert isinstance(maker, Lessons)
        batches = Batches(accompanied({"train": tones}, maker, store)["train"], recipe)
        run = Run(recipe)
        train(run, batches, [], Seat(), lambda run: None, lambda progress: None, lambda *looked: {})
        heard.append(run.history[-1]["train/taught_features"])
        asked.append(maker.asked)
        if seed == 0:
            batch = batches.load(0)
            said = Taught(objective).distillation.asked(recurrent(False), batch.noisy)
            assert batch.beside["feature_01"].shape == (5, 8, 33)
            middle = slice(10, 20)  # far from the ends of a piece, where only the lesson knows what lies beyond
            apart = (batch.beside["feature_01"] - said.features[1][:, :, :33])[:, :, middle].abs().mean()
            assert apart < 0.2 * said.features[1].abs().mean()
            monkeypatch.setattr(module, "load_version", lambda address: pytest.fail("a teacher was asked"))
            monkeypatch.setattr(lessons_module, "load_version", lambda address: pytest.fail("a teacher was asked"))
    assert asked == [7, 0] and all(0 < each < 10 for each in heard)
