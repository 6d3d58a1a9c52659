"""Learning by diffusion: what the two losses are, whom they reach, and that chance is the loop's."""

from typing import Any

import pytest
import torch

from simulation.errors import BadSetting
from training.models import GpUnified, GruMask
from training.models.gp_unified.sde import Ouve, along, marginal_mean, marginal_std
from training.objectives import Diffusion
from training.objectives.regression import si_sdr_db

SMALL = {"channels": 4, "multipliers": (1, 2), "blocks": 1, "attention_bins": (), "sampling": {"steps": 1}}


def small(**changes: Any) -> GpUnified:
    """A narrow GP-Unified of two levels."""
    torch.manual_seed(0)
    return GpUnified.Config.model_validate(SMALL | changes).build()


def pair(batch: int = 3, samples: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy and a clean waveform, the third item silent."""
    generator = torch.Generator().manual_seed(1)
    clean = 0.05 * torch.randn(batch, samples, generator=generator)
    noisy = clean + 0.02 * torch.randn(batch, samples, generator=generator)
    noisy[2:], clean[2:] = 0.0, 0.0
    return noisy, clean


def test_a_fresh_network_scores_what_a_score_of_zero_does() -> None:
    """Half the number of bins; frames that only fill up to the network's stride do not count."""
    noisy, clean = pair(samples=12_000)
    torch.manual_seed(1)
    with torch.no_grad():
        losses = Diffusion.Config().build().losses(small(), noisy, clean)
    assert (losses.parts["score_ratio"] - 1).abs().max() < 0.03
    assert (losses.parts["score"] / (0.5 * 256 * 95) - 1).abs().max() < 0.03
    assert torch.allclose(losses.total, 0.5 * losses.parts["score"] + 0.5 * losses.parts["predictive"])


def test_a_perfect_network_has_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told state and clean, score and prediction are exact; so the state is what the diffusion makes of them."""
    model = small()
    noisy, clean = pair()
    sde = model.config.sde
    wanted = model.wanted(clean, model.conditions(noisy))

    def oracle(state: torch.Tensor, heard: torch.Tensor, time: torch.Tensor, *, predict: bool) -> Any:
        spread = along(marginal_std(sde, time), state)
        score = -(state - marginal_mean(sde, wanted, heard, time)) / spread**2
        return score, wanted

    monkeypatch.setattr(model, "outputs", oracle)
    losses = Diffusion.Config().build().losses(model, noisy, clean)
    assert losses.parts["score_ratio"].max() < 1e-4
    assert losses.parts["predictive"].max() == 0.0


@pytest.mark.parametrize(
    ("weights", "silent"), [({"score": 0.0}, "generative"), ({"predictive": 0.0}, "predictive"), ({}, "")]
)
def test_each_weight_is_that_of_its_decoder(weights: dict[str, float], silent: str) -> None:
    """Both losses reach the encoder; a loss of weight zero moves no weight of its decoder."""
    model = small()
    noisy, clean = pair()
    Diffusion.Config.model_validate(weights).build().losses(model, noisy, clean).total.sum().backward()
    for name in ("encoder", "generative", "predictive"):
        largest = max(float(p.grad.abs().max()) for p in model.get_submodule(name).parameters() if p.grad is not None)
        assert (largest == 0.0) == (name == silent)
        assert largest < float("inf")


def test_chance_is_torchs_generator() -> None:
    """Seeded alike, the losses are the same bits; else they are others."""
    noisy, clean = pair()
    model, objective = small(), Diffusion.Config().build()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(objective.losses(model, noisy, clean).total)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("predictive_noise", [True, False])
def test_a_share_of_a_batch_is_asked_as_the_predictive_mode_asks(
    monkeypatch: pytest.MonkeyPatch, predictive_noise: bool
) -> None:
    """At time 1 and at its first state; the score of these items does not count, and that of the others as before."""
    model = small(sampling={"mode": "predictive", "predictive_noise": predictive_noise})
    noisy, clean = pair()
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []
    outputs = model.outputs
    monkeypatch.setattr(
        model, "outputs", lambda state, *rest, **how: asked.append((state, rest[1])) or outputs(state, *rest, **how)
    )
    found = []
    for share in (0.0, 0.4):
        torch.manual_seed(1)
        found.append(Diffusion.Config(one_call=share).build().losses(model, noisy, clean).parts)
    (states, times), (mixed, mixed_times) = asked
    heard = model.conditions(noisy).spectrum
    assert times[0] < 1 and mixed_times[0] == 1
    assert torch.equal(times[1:], mixed_times[1:]) and torch.equal(states[1:], mixed[1:])
    spread = float((mixed[0] - heard[0]).abs().square().mean().sqrt())
    assert spread == pytest.approx(float(marginal_std(Ouve(), torch.ones(1))) if predictive_noise else 0.0, rel=0.05)
    assert found[1]["score_ratio"][0] == 0.0
    assert torch.allclose(found[1]["score"][1:], 1.5 * found[0]["score"][1:])


def test_the_loss_may_count_the_si_sdr_of_the_prediction() -> None:
    """Of the waveform that the predictive mode would give; each dB takes its weight off the total."""
    model = small(predictive_output="mask", sampling={"mode": "predictive", "predictive_noise": False})
    noisy, clean = pair()
    found = []
    for weight in (0.0, 2.0):
        torch.manual_seed(1)
        found.append(Diffusion.Config(si_sdr=weight, one_call=0.9).build().losses(model, noisy, clean))
    told = found[1].parts["si_sdr_db"]
    assert torch.allclose(told[:2], si_sdr_db(model(noisy), clean)[:2], atol=1e-3)
    assert torch.allclose(found[1].total, found[0].total - 2.0 * told)
    found[1].total.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_a_network_without_a_predictive_decoder_learns_the_score_alone() -> None:
    """SGMSE+."""
    noisy, clean = pair()
    model = small(predictive_decoder=False, sampling={"mode": "generative", "steps": 1})
    losses = Diffusion.Config(score=1.0).build().losses(model, noisy, clean)
    assert set(losses.parts) == {"score", "score_ratio"}
    assert torch.equal(losses.total, losses.parts["score"])


def test_losses_are_those_of_each_item_alone() -> None:
    """What an item costs does not depend on the level of its neighbours."""
    noisy, clean = pair()
    model, objective = small(), Diffusion.Config().build()
    louder = torch.tensor([[1.0], [7.0], [1.0]])
    found = []
    for gain in (torch.ones(3, 1), louder):
        torch.manual_seed(1)
        found.append(objective.losses(model, gain * noisy, gain * clean).total)
    assert torch.allclose(found[0], found[1], rtol=1e-4)


def test_transforms_keep_single_precision_under_autocast() -> None:
    """Spectra are those without it, bit for bit; losses stay near and finite, silence among the items."""
    noisy, clean = pair()
    model, objective = small(), Diffusion.Config().build()
    found = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append((model.conditions(noisy).spectrum, objective.losses(model, noisy, clean).total))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1], rtol=0.02)
    found[1][1].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_another_network_is_refused() -> None:
    """It has no score."""
    noisy, clean = pair()
    with pytest.raises(BadSetting, match="trains gp_unified, and the model is gru_mask"):
        Diffusion.Config().build().losses(GruMask.Config(width=4).build(), noisy, clean)
