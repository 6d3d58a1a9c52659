"""The papers' objectives: which terms, with which weights, on which spectrum."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from simulation.errors import BadSetting
from training.models import Dm, MpSenet
from training.models.base import Enhancer, Estimate, ModelConfig, Polar
from training.objectives import Learner, Losses, Spectral, papers

PHASES = ("instantaneous_phase", "group_delay", "instantaneous_frequency")


class Fixed(Enhancer):
    """A network that always answers the same."""

    def __init__(self, answer: Estimate) -> None:
        super().__init__(ModelConfig(kind="fixed"))
        self.answer = answer

    def estimate(self, noisy: torch.Tensor) -> Estimate:
        """The answer."""
        return self.answer


def losses_of(answer: Estimate, noisy: torch.Tensor, clean: torch.Tensor, **weights: Any) -> Losses:
    """Losses of a fixed answer."""
    return Spectral.Config.model_validate(weights).build().losses(Fixed(answer), noisy, clean)


@pytest.fixture
def clean() -> torch.Tensor:
    """[3, 3200]."""
    return 0.1 * torch.randn(3, 3200, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def noisy(clean: torch.Tensor) -> torch.Tensor:
    """The same with white noise, brought to a power of one, so that level normalisation does nothing."""
    mixed = clean + 0.05 * torch.randn(3, 3200, generator=torch.Generator().manual_seed(1))
    return mixed / mixed.square().mean(-1, keepdim=True).sqrt()


def weights_of(config: Any) -> dict[str, float]:
    """Weight of each part that the model minimises."""
    spectral = config.spectral
    weights = {name: getattr(spectral, name) for name in ("magnitude", "complex", "consistency", "time")}
    weights |= {"phase": spectral.phase, "omnidirectional": spectral.omnidirectional} | spectral.branches
    for judge in config.judges:
        weights[judge.kind] = judge.weight
    return {name: weight for name, weight in weights.items() if weight}


MP_SENET = {"magnitude": 0.9, "phase": 0.3, "complex": 0.1, "time": 0.2, "metric": 0.05}
MP_SENET_2024 = MP_SENET | {"consistency": 0.1}
DM = {"magnitude": 0.9, "complex": 0.1, "time": 0.2, "metric": 0.05}


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        (papers.mp_senet("2023"), MP_SENET),
        (papers.mp_senet("2024"), MP_SENET_2024),
        (papers.renet("denoising"), MP_SENET_2024),
        (papers.renet("universal"), MP_SENET_2024 | {"periods": 0.05}),
        (papers.renet("dereverberation"), MP_SENET_2024 | {"periods": 0.05}),
        (papers.renet("bandwidth_extension"), MP_SENET_2024 | {"periods": 0.05}),
        (papers.renet("phase_retrieval"), {"omnidirectional": 2e4, "periods": 1.0}),
        (papers.dm(), DM | {"masked": 0.45, "mapped": 0.45}),
        (papers.dm(omega=0.25), DM | {"masked": 0.225, "mapped": 0.675}),
        (papers.dm(branches=False, phase=True), DM | {"phase": 0.3}),
    ],
)
def test_each_paper_has_its_weights(config: Any, weights: dict[str, float]) -> None:
    """As printed, or as in the authors' code; and only these."""
    assert weights_of(config) == pytest.approx(weights)
    assert type(config).model_validate_json(config.model_dump_json()) == config


def test_the_total_is_the_weighted_sum_of_the_parts(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """The phase's weight goes to each of its three parts; terms without a weight are not there."""
    model = MpSenet.Config(channels=4, heads=2, blocks=1, dense_depth=2).build()
    losses = Spectral.Config(omnidirectional=2.0).build().losses(model, noisy, clean)
    weights = {"magnitude": 0.9, "complex": 0.1, "consistency": 0.1, "time": 0.2, "omnidirectional": 2.0}
    weights |= dict.fromkeys(PHASES, 0.3)
    assert set(losses.parts) == set(weights)
    wanted = sum(weight * losses.parts[name] for name, weight in weights.items())
    assert torch.allclose(losses.total, torch.as_tensor(wanted))
    assert set(losses_of(Estimate(clean, {}), noisy, clean, consistency=0, time=0, complex=0).parts) == {
        *PHASES,
        "magnitude",
    }


def test_a_perfect_answer_costs_nothing(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """In every term, branches and RENet's among them."""
    losses = losses_of(Estimate(clean, {"masked": clean}), noisy, clean, omnidirectional=1.0, branches={"masked": 1.0})
    assert len(losses.parts) == 9
    for name, part in losses.parts.items():
        assert part.abs().max() < 1e-6, name


def test_terms_look_at_the_networks_own_spectrum(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """A perfect spectrum beside a silent waveform: magnitude, phase and complex are content, time is not; the
    consistency tells that the two do not belong together."""
    analysed = Spectral.Config().build().analysed(clean)
    losses = losses_of(Estimate(0 * clean, {}, analysed), noisy, clean)
    for name in ("magnitude", "complex", *PHASES):
        assert losses.parts[name].abs().max() < 1e-6, name
    assert torch.allclose(losses.parts["time"], clean.abs().mean(-1))
    assert torch.allclose(losses.parts["consistency"], analysed.magnitude.square().mean((-2, -1)), rtol=0.2)


def test_without_a_spectrum_of_its_own_the_waveforms_is_looked_at(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """Half as loud: magnitudes of a power of 0.3 shrink by 2^-0.3; phases stay; the waveform's spectrum is
    consistent."""
    losses = losses_of(Estimate(0.5 * clean, {}), noisy, clean)
    magnitude = Spectral.Config().build().analysed(clean).magnitude
    wanted = (magnitude * (1 - 0.5**0.3)).square().mean((-2, -1))
    assert torch.allclose(losses.parts["magnitude"], wanted, rtol=1e-3)
    assert losses.parts["instantaneous_phase"].max() < 1e-3
    assert losses.parts["consistency"].max() == 0


def test_half_a_turn_costs_pi_and_four_times_the_power(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """The scales of the phase and the complex term: a flipped sign is pi away, and 2 |S| in the plane."""
    magnitude, phase = Spectral.Config().build().analysed(clean)
    losses = losses_of(Estimate(clean, {}, Polar(magnitude, phase + math.pi)), noisy, clean)
    assert torch.allclose(losses.parts["instantaneous_phase"], torch.full((3,), math.pi), rtol=1e-4)
    assert losses.parts["group_delay"].max() < 1e-4
    assert torch.allclose(losses.parts["complex"], 4 * magnitude.square().mean((-2, -1)), rtol=1e-4)


def test_losses_depend_neither_on_level_nor_on_neighbours(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """A quiet item counts as much as a loud one, and as much alone as among others."""
    answer = Estimate(0.8 * noisy, {"masked": 0.5 * noisy})
    whole = losses_of(answer, noisy, clean, branches={"masked": 0.45}, omnidirectional=1.0)
    quiet = Estimate(0.08 * noisy[:1], {"masked": 0.05 * noisy[:1]})
    alone = losses_of(quiet, 0.1 * noisy[:1], 0.1 * clean[:1], branches={"masked": 0.45}, omnidirectional=1.0)
    for name, part in alone.parts.items():
        assert torch.allclose(part[0], whole.parts[name][0], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("config", [papers.mp_senet().spectral, papers.renet("phase_retrieval").spectral])
def test_silent_items_have_finite_losses_and_gradients(config: Spectral.Config) -> None:
    """Nothing to learn from is no reason to stop."""
    torch.manual_seed(0)
    learner = Learner(MpSenet.Config(channels=4, heads=2, blocks=1, dense_depth=2).build(), config.build())
    for noisy in (torch.zeros(2, 1600), 0.05 * torch.randn(2, 1600)):
        learner.zero_grad()
        total = learner(noisy, torch.zeros_like(noisy)).total
        total.sum().backward()
        assert total.isfinite().all()
        assert all(each.grad is None or each.grad.isfinite().all() for each in learner.parameters())


def test_dms_branches_are_supervised(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """Both parts of the network get their magnitude term, and with it a gradient."""
    model = Dm.Config(channels=4, heads=2, blocks=1, dense_depth=2, kernel=5).build()
    only_branches = papers.dm().spectral.model_copy(update={"magnitude": 0.0, "complex": 0.0, "time": 0.0})
    losses = only_branches.build().losses(model, noisy, clean)
    assert set(losses.parts) == {"branch_masked", "branch_mapped", "mask_saturation"}
    losses.total.sum().backward()
    for head in (model.mask_head, model.map_head):
        assert all(each.grad is not None and each.grad.abs().max() > 0 for each in head.parameters())


def test_settings_that_do_not_fit_the_network_are_answered(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """Another hop than the network's, a branch that it does not have, nothing to learn at all."""
    model = MpSenet.Config(channels=4, heads=2, blocks=1, dense_depth=2, hop_size=200).build()
    with pytest.raises(BadSetting, match=r"bins and frames.*Give the objective the fft_size and hop_size"):
        Spectral.Config().build().losses(model, noisy, clean)
    with pytest.raises(BadSetting, match=r"does not have: mask\. It has masked; name those"):
        losses_of(Estimate(clean, {"masked": clean}), noisy, clean, branches={"mask": 1.0})
    with pytest.raises(ValidationError, match="nothing would be learnt"):
        Spectral.Config(magnitude=0, phase=0, complex=0, consistency=0, time=0)
