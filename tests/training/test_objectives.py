"""Ways of learning: what their losses mean."""

import numpy as np
import pytest
import torch
from pystoi import stoi

from training.metrics import lsd
from training.models import Dm
from training.models.base import Enhancer, Estimate, ModelConfig
from training.objectives import Learner, Losses, Regression
from training.objectives.regression import si_sdr_db, third_octaves


class Fixed(Enhancer):
    """A network that always answers the same."""

    def __init__(self, enhanced: torch.Tensor, **branches: torch.Tensor) -> None:
        super().__init__(ModelConfig(kind="fixed"))
        self.answer = Estimate(enhanced, branches)

    def estimate(self, noisy: torch.Tensor) -> Estimate:
        """The answer."""
        return self.answer


def losses_of(enhanced: torch.Tensor, noisy: torch.Tensor, clean: torch.Tensor, **weights: float) -> Losses:
    """Losses of a fixed answer."""
    return Regression.Config.model_validate(weights).build().losses(Fixed(enhanced), noisy, clean)


@pytest.fixture
def clean() -> torch.Tensor:
    """Noise that swells four times a second, [3, 16000], a little like speech."""
    swell = torch.sin(torch.arange(16000) / 16000 * 2 * torch.pi * 4).abs()
    return 0.1 * swell * torch.randn(3, 16000, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def noisy(clean: torch.Tensor) -> torch.Tensor:
    """The same with white noise."""
    return clean + 0.05 * torch.randn(3, 16000, generator=torch.Generator().manual_seed(1))


def test_a_perfect_answer_costs_nothing(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """All distances are zero, and the SI-SDR is high."""
    parts = losses_of(clean, noisy, clean).parts
    for name in ("magnitude", "complex", "time", "envelope"):
        assert parts[name].abs().max() < 1e-5, name
    assert parts["si_sdr"].max() < -60


def test_an_item_costs_the_same_in_any_batch(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """Losses are per item, so that workers may take uneven shares."""
    together = losses_of(noisy * 0.9, noisy, clean, si_sdr=0.1, envelope=1.0)
    assert together.total.shape == (3,)
    for item in range(3):
        one = slice(item, item + 1)
        alone = losses_of(noisy[one] * 0.9, noisy[one], clean[one], si_sdr=0.1, envelope=1.0)
        assert torch.allclose(alone.total[0], together.total[item], rtol=1e-4)


def test_losses_do_not_depend_on_the_level(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """A quiet recording counts as much as a loud one."""
    loud = losses_of(noisy * 0.8, noisy, clean)
    quiet = losses_of(noisy * 0.08, noisy * 0.1, clean * 0.1)
    for name, part in loud.parts.items():
        assert torch.allclose(part, quiet.parts[name], rtol=1e-3, atol=1e-5), name


def test_the_total_is_the_weighted_sum_of_the_parts(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """Weights of the lineage: 0.9, 0.1, 0.2, and half of 0.9 for each branch."""
    objective = Regression.Config(si_sdr=0.03, envelope=0.5, log_spectral=0.7).build()
    model = Fixed(noisy * 0.9, masked=noisy * 0.7, mapped=noisy * 0.5)
    losses = objective.losses(model, noisy, clean)
    weights = {"magnitude": 0.9, "complex": 0.1, "time": 0.2, "branch_masked": 0.45, "branch_mapped": 0.45}
    weights |= {"si_sdr": 0.03, "envelope": 0.5, "log_spectral": 0.7}
    assert set(losses.parts) == set(weights)
    wanted = sum(weight * losses.parts[name] for name, weight in weights.items())
    assert torch.allclose(losses.total, torch.as_tensor(wanted))


def test_si_sdr_has_the_published_value() -> None:
    """The example of torchmetrics' documentation, without mean removal: 18.4030 dB; blind to gain."""
    clean, enhanced = torch.tensor([[3.0, -0.5, 2.0, 7.0]]), torch.tensor([[2.5, 0.0, 2.0, 8.0]])
    assert si_sdr_db(enhanced, clean).item() == pytest.approx(18.4030, abs=1e-3)
    assert si_sdr_db(5 * enhanced, clean).item() == pytest.approx(18.4030, abs=1e-3)


def test_the_envelope_term_follows_stoi(clean: torch.Tensor) -> None:
    """Over many noise levels it falls as STOI rises, and by about as much."""
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(np.float32(rng.standard_normal((1, 16000))))
    ours, theirs = [], []
    for level in (0.003, 0.01, 0.03, 0.1, 0.3):
        noisy = clean[:1] + level * noise
        ours.append(1 - losses_of(noisy, noisy, clean[:1], hop_size=200).parts["envelope"].item())
        theirs.append(stoi(clean[0].numpy(), noisy[0].numpy(), 16000))
    assert ours == sorted(ours, reverse=True)
    assert np.abs(np.subtract(ours, theirs)).max() < 0.15


def test_the_log_spectral_term_is_the_metric(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """LSD with the objective's window, and blind to the level of the pair; without a weight it is not there."""
    for level in (1.0, 0.1):
        found = losses_of(level * noisy, level * noisy, level * clean, log_spectral=0.5).parts["log_spectral"]
        pairs = zip(clean.numpy(), noisy.numpy(), strict=True)
        wanted = [lsd.measure(one, other, 16000, 400, 100) for one, other in pairs]
        assert found.tolist() == pytest.approx(wanted, rel=0.01)
    assert "log_spectral" not in losses_of(noisy, noisy, clean).parts


def test_the_log_spectral_term_pulls_at_a_map_that_is_shut() -> None:
    """Far down its softplus DM's map hears little from distances of magnitudes, and more from one of logarithms.

    The band above the tone came in with nothing but the rounding to 16 bits, and there should be noise in it.
    """
    tone = 0.05 * torch.sin(torch.arange(8000) / 16000 * 2 * torch.pi * 440)[None]
    noisy = (32767 * tone).round() / 32767
    clean = tone + 0.003 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    heard = {}
    for term in ("magnitude", "log_spectral"):
        torch.manual_seed(0)
        model = Dm.Config(channels=4, heads=2, blocks=1, dense_depth=2, kernel=5, hop_size=200).build()
        assert isinstance(model.map_head, torch.nn.Conv2d)
        assert model.map_head.bias is not None
        torch.nn.init.zeros_(model.map_head.weight)
        torch.nn.init.constant_(model.map_head.bias, -4.65)
        part = Regression.Config(hop_size=200, log_spectral=1.0).build().losses(model, noisy, clean).parts[term]
        part.sum().backward()
        assert model.map_head.bias.grad is not None
        heard[term] = -model.map_head.bias.grad.item()
    assert heard["log_spectral"] > 5 * heard["magnitude"] > 0


def test_third_octaves_share_no_bin() -> None:
    """Fifteen bands from 134 Hz up to 4.3 kHz, none empty at the frame sizes we use."""
    bands = third_octaves(400, 16000)
    assert bands.shape == (201, 15)
    assert bands.sum(1).max() == 1
    assert bands.sum(0).min() >= 1


def test_silent_and_short_items_have_finite_losses_and_gradients() -> None:
    """Nothing to learn from is no reason to stop."""
    torch.manual_seed(0)
    model = Dm.Config(channels=4, heads=2, blocks=1, dense_depth=2, kernel=5, hop_size=200).build()
    learner = Learner(model, Regression.Config(si_sdr=0.1, envelope=1.0, log_spectral=1.0).build())
    for noisy in (torch.zeros(2, 3000), 0.05 * torch.randn(2, 3000), 0.05 * torch.randn(2, 700)):
        learner.zero_grad()
        losses = learner(noisy, torch.zeros_like(noisy))
        losses.total.sum().backward()
        assert losses.total.isfinite().all()
        for parameter in learner.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all()
