"""TEA-PSE's terms in closed form, at the level of the clean speech, and a teacher beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from simulation.errors import BadSetting, NotThere
from training.checkpoint import save_version
from training.models.base import Enhancer, Estimate, ModelConfig
from training.models.rad_net2 import RadNet2
from training.objectives import Adversarial, Learner, PowerLaw
from training.objectives.power_law import asymmetric_distance, complex_distance, magnitude_distance
from training.objectives.spectrum_judges import BandJudge, ResolutionJudge

NARROW: dict[str, Any] = {
    "window_size": 240,
    "hop_size": 120,
    "fft_size": 256,
    "repairing": {"channels": 4, "stacks": 1, "dilations": (1, 2), "depth": 2},
    "denoising": None,
}
WINDOWS = {"fft_size": 240, "hop_size": 120}


class Scaled(Enhancer):
    """Its input times a weight."""

    def __init__(self, gain: float) -> None:
        super().__init__(ModelConfig(kind="scaled", sample_rate=48000))
        self.gain = torch.nn.Parameter(torch.tensor(gain, dtype=torch.float64))

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """Louder or softer."""
        return self.gain * noisy


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal numbers in double precision, always the same."""
    return 0.05 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def power_law(**changes: Any) -> PowerLaw:
    """In double precision, with the windows of the narrow network."""
    return PowerLaw.Config.model_validate(WINDOWS | changes).build().double()


def test_the_terms_have_their_closed_forms() -> None:
    """Two bins and two frames: sums over bins, means over frames; asymmetry counts what is missing alone."""
    wanted = torch.tensor([[[2.0 + 0j, 0.0], [1.0j, 3.0]]])
    found = torch.tensor([[[1.0 + 0j, 0.0], [2.0, 1.0]]])
    assert magnitude_distance(found, wanted).item() == pytest.approx(((1 + 1) + (0 + 4)) / 2)
    assert complex_distance(found, wanted).item() == pytest.approx(((1 + 5) + (0 + 4)) / 2)
    assert asymmetric_distance(found, wanted).item() == pytest.approx((1 + 4) / 2)


def test_a_level_that_is_wrong_costs_and_its_ratio_is_known() -> None:
    """Half as loud: 1 - sqrt(0.5) of each compressed magnitude is missing; twice as loud, nothing is missing."""
    clean = random(2, 4800)
    soft, loud = (power_law().losses(Scaled(gain), clean, clean).parts for gain in (0.5, 2.0))
    assert torch.allclose(soft["magnitude"], soft["asymmetry"]) and torch.allclose(soft["magnitude"], soft["complex"])
    ratio = ((2**0.5 - 1) / (1 - 0.5**0.5)) ** 2
    assert torch.allclose(
        loud["magnitude"] / soft["magnitude"], torch.full((2,), ratio, dtype=torch.float64), rtol=1e-3
    )
    assert not loud["asymmetry"].any()


def test_louder_speech_weighs_more() -> None:
    """Nothing is brought to a common level: ten times the amplitude is ten times the loss, since squares of roots."""
    clean = random(1, 4800)
    one, ten = (power_law().losses(Scaled(0.5), gain * clean, gain * clean).total for gain in (1.0, 10.0))
    assert (ten / one).item() == pytest.approx(10, rel=1e-3)


def test_a_weight_of_zero_leaves_a_term_out_and_the_others_add_up() -> None:
    """The SI-SNR comes only when it is asked for, and does not hear the level."""
    clean = random(2, 4800)
    noisy = clean + random(2, 4800, seed=2)
    losses = power_law(asymmetry=0.0, magnitude=2.0, si_snr=0.1).losses(Scaled(0.5), noisy, clean)
    assert set(losses.parts) == {"magnitude", "complex", "si_snr"}
    parts = losses.parts
    assert torch.allclose(losses.total, 2 * parts["magnitude"] + parts["complex"] + 0.1 * parts["si_snr"])
    again = power_law(si_snr=0.1).losses(Scaled(0.25), noisy, clean).parts["si_snr"]
    assert torch.allclose(again, parts["si_snr"], atol=1e-3)
    with pytest.raises(ValidationError, match="nothing would be learnt"):
        power_law(magnitude=0, complex=0, asymmetry=0)


def test_silence_has_finite_gradients() -> None:
    """Roots have an infinite slope at zero, which a floor takes away."""
    model = Scaled(0.5)
    silence = torch.zeros(1, 2400, dtype=torch.float64)
    power_law().losses(model, silence, silence).total.sum().backward()
    assert model.gain.grad is not None and model.gain.grad.isfinite()


# ---- a teacher


def network(fill: Callable[[torch.nn.Module], None], both_sides: bool = True) -> RadNet2:
    """A narrow stage 1 with weights by rule."""
    model = RadNet2.Config.model_validate(NARROW | {"sees_both_sides": both_sides}).build()
    fill(model)
    return model.eval()


@pytest.fixture
def teacher(tmp_path: Path, fill: Callable[[torch.nn.Module], None]) -> str:
    """Address of a version that sees both sides."""
    save_version(network(fill), str(tmp_path / "teacher"), {})
    return str(tmp_path / "teacher")


def taught(teacher: str, **changes: Any) -> PowerLaw:
    """An objective with that teacher."""
    return power_law(distillation={"teacher": teacher} | changes)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(teacher: str, fill: Any) -> None:
    """The teacher's weights and padding on both sides: features and output are those of the teacher, exactly."""
    parts = taught(teacher).losses(network(fill).double(), random(2, 2400), random(2, 2400, seed=2)).parts
    assert parts["taught_features"].tolist() == [0, 0] and parts["taught_output"].tolist() == [0, 0]


def test_a_causal_student_with_the_same_weights_has(teacher: str, fill: Any) -> None:
    """Distances to the teacher are weighed beside those to the clean speech: 1 and 0.5."""
    noisy, clean = random(2, 2400), random(2, 2400, seed=2)
    student = network(fill, both_sides=False).double()
    losses, alone = (each.losses(student, noisy, clean) for each in (taught(teacher), power_law()))
    features, output = losses.parts["taught_features"], losses.parts["taught_output"]
    assert features.min() > 0.01 and output.min() > 0
    assert torch.allclose(losses.total, alone.total + features + 0.5 * output)


def test_features_are_compared_in_sizes_of_the_teacher(teacher: str) -> None:
    """Twice the teacher's features are as far from them as nothing is: by one; so large maps do not drown small."""
    distillation = taught(teacher).distillation
    assert distillation is not None
    features = (random(2, 3, 4, 5), 100 * random(2, 6))
    one = Estimate(random(2, 10), {}, features=features)
    for factor in (0.0, 2.0):
        other = one._replace(features=tuple(factor * each for each in features))
        assert torch.allclose(distillation.features(other, one), torch.ones(2, dtype=torch.float64), rtol=1e-4)


def test_a_teacher_is_no_part_of_what_is_trained_or_saved(teacher: str, fill: Any) -> None:
    """Not among parameters and states; in eval mode, without gradients and unmoved while the student trains."""
    student, objective = network(fill, both_sides=False).double(), taught(teacher)
    learner = Learner(student, objective).train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    learner(random(2, 2400), random(2, 2400, seed=2)).total.sum().backward()
    assert objective.distillation is not None
    master = objective.distillation._teachers[0]
    assert not master.training and all(each.grad is None for each in master.parameters())
    assert all(
        torch.equal(value.double(), master.state_dict()[name]) for name, value in network(fill).state_dict().items()
    )
    assert [name for name in learner.state_dict() if not name.startswith("model.")] == []
    assert sum(1 for _ in learner.parameters()) == sum(1 for _ in student.parameters())
    assert any(not torch.equal(value, before[name]) for name, value in student.state_dict().items())  # statistics


def test_losses_are_those_of_each_item(teacher: str, fill: Any) -> None:
    """An item costs alone what it costs among others, with a teacher too."""
    noisy, clean, objective = random(3, 2400), random(3, 2400, seed=2), taught(teacher).eval()
    student = network(fill, both_sides=False).double()
    together = objective.losses(student, noisy, clean)
    alone = [objective.losses(student, noisy[place : place + 1], clean[place : place + 1]) for place in range(3)]
    assert torch.allclose(together.total, torch.cat([each.total for each in alone]))


def test_teachers_that_cannot_teach_are_answered(teacher: str, tmp_path: Path, fill: Any) -> None:
    """One that is not there, one of another size, and a student that shows no features, which can learn the output."""
    noisy, clean = random(1, 2400), random(1, 2400, seed=2)
    student = network(fill, both_sides=False).double()
    with pytest.raises(NotThere, match="no model"):
        taught(str(tmp_path / "nobody")).losses(student, noisy, clean)
    wide = RadNet2.Config.model_validate(NARROW | {"repairing": NARROW["repairing"] | {"channels": 5}}).build().double()
    with pytest.raises(BadSetting, match="there is no map between them"):
        taught(teacher).losses(wide.eval(), noisy, clean)
    with pytest.raises(BadSetting, match="features are none"):
        taught(teacher).losses(Scaled(0.5), noisy, clean)
    assert taught(teacher, features=0.0).losses(Scaled(0.5), noisy, clean).parts["taught_output"].item() > 0
    slow = Scaled(0.5)
    slow.config = ModelConfig(kind="scaled", sample_rate=16000)
    with pytest.raises(BadSetting, match="Name a teacher of the student's rate"):
        taught(teacher).losses(slow, noisy, clean)
    with pytest.raises(ValidationError, match="nothing would be learnt from the teacher"):
        taught(teacher, features=0.0, output=0.0)


# ---- judges beside it


def test_both_spectrum_judges_stand_beside_the_distances(teacher: str, fill: Any) -> None:
    """Each has its names; the model minimises the distances and 1 (persuasion + 2 feature matching) of each."""
    judges = (
        ResolutionJudge.Config(window_sizes=(64, 128), channels=2),
        BandJudge.Config(window_sizes=(256,), channels=2),
    )
    torch.manual_seed(0)
    config = Adversarial.Config(spectral=PowerLaw.Config.model_validate(WINDOWS), judges=judges)
    objective, student = config.build().double(), network(fill, both_sides=False).double()
    noisy, clean = random(2, 2400), random(2, 2400, seed=2)
    for step in range(2):
        objective.step_begins(step)
        judging, modelling = (objective.losses(student, noisy, clean, phase) for phase in objective.phases)
        objective.step_ends()
    assert set(judging.parts) == {"resolutions_real", "resolutions_fake", "bands_real", "bands_fake"}
    assert torch.allclose(judging.total, torch.stack(list(judging.parts.values())).sum(0))
    assert judging.parts["bands_fake"].min() > 0
    parts = modelling.parts
    wanted = objective.spectral.losses(student, noisy, clean).total
    for kind in ("resolutions", "bands"):
        wanted = wanted + parts[f"{kind}_persuasion"] + 2 * parts[f"{kind}_feature"]
    assert torch.allclose(modelling.total, wanted)


def test_judges_hear_how_loud_it_is() -> None:
    """The same speech at another level is judged otherwise: nothing is normalised on its way to them."""
    torch.manual_seed(0)
    judges = (BandJudge.Config(window_sizes=(256,), channels=2),)
    objective = Adversarial.Config(spectral=PowerLaw.Config.model_validate(WINDOWS), judges=judges).build().double()
    clean = random(1, 2400)
    scores = []
    for gain in (1.0, 10.0):
        objective.step_begins(0)
        scores.append(objective.losses(Scaled(1.0), gain * clean, gain * clean, "judge").parts["bands_real"])
    assert (scores[0] - scores[1]).abs().item() > 1e-5  # fresh judges say little; equal levels would give 1e-8
