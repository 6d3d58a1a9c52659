"""The diffusion and its samplers, without a network: against tables, integrals, the authors' outputs and a Gaussian."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from simulation.errors import BadSetting
from training.models.gp_unified import samplers
from training.models.gp_unified.samplers import Network, Outputs, Sampling, noise_like, sampled
from training.models.gp_unified.sde import (
    Ouve,
    along,
    diffusion,
    drift,
    half_energy,
    marginal_mean,
    marginal_std,
    perturbed,
    score_loss,
    unit_noise,
)

SDE = Ouve()
CLEAN, NOISY = 0.5 + 0.3j, 0.2 - 0.4j
"""Means of the Gaussian that samplers are asked for, and what they start from."""
TABLE = {  # t: sigma(t), e^(-gamma t), g(t)
    0.03: (0.01883, 0.9560, 0.1150),
    0.10: (0.03575, 0.8607, 0.1351),
    0.25: (0.06381, 0.6873, 0.1908),
    0.50: (0.12166, 0.4724, 0.3393),
    0.75: (0.21843, 0.3247, 0.6034),
    1.00: (0.38898, 0.2231, 1.0730),
}


def gaussian(spread: float, middle: complex, noisy: torch.Tensor) -> Network:
    """The score of the state, and the mean of the clean given the state, where the clean is CN(middle, spread^2)."""

    def network(state: torch.Tensor, time: torch.Tensor, predict: bool) -> Outputs:
        start = torch.full_like(noisy, middle)
        kept, mean = along(torch.exp(-SDE.gamma * time), noisy), marginal_mean(SDE, start, noisy, time)
        variance = (kept * spread) ** 2 + along(marginal_std(SDE, time), noisy) ** 2
        score = -(state - mean) / variance
        return Outputs(score, start + kept * spread**2 * -score if predict else None)

    return network


def draw(network: Network, noisy: torch.Tensor, seed: int = 0, **options: object) -> torch.Tensor:
    """A sample in the generative mode, unless said otherwise."""
    sampling = Sampling.model_validate({"mode": "generative"} | options)
    return sampled(network, noisy, SDE, sampling, noise_like(noisy, [seed] * len(noisy)))


def test_the_marginals_are_those_of_the_table() -> None:
    """Standard deviation, weight of the clean and diffusion at six times, to four digits."""
    time = torch.tensor(list(TABLE), dtype=torch.float64)
    wanted = torch.tensor(list(TABLE.values()), dtype=torch.float64)
    kept = marginal_mean(SDE, torch.ones(6, 1, dtype=torch.complex128), torch.zeros(6, 1, dtype=torch.complex128), time)
    found = torch.stack([marginal_std(SDE, time), kept.real[:, 0], diffusion(SDE, time)], dim=1)
    assert torch.allclose(found, wanted, rtol=0, atol=5.1e-5)
    assert torch.allclose(found[:, 0], wanted[:, 0], rtol=0, atol=5.1e-6)


def test_the_standard_deviation_solves_its_equation() -> None:
    """dP/dt = -2 gamma P + g^2, integrated from P(0) = 0 with 20 000 steps of the midpoint rule."""
    steps, variance = 20_000, 0.0
    middle = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    for rate in (diffusion(SDE, middle) ** 2).tolist():
        half = variance + (rate - 2 * SDE.gamma * variance) / (2 * steps)
        variance += (rate - 2 * SDE.gamma * half) / steps
    assert math.sqrt(variance) == pytest.approx(float(marginal_std(SDE, torch.ones(1, dtype=torch.float64))), rel=1e-6)


def test_noise_has_unit_variance() -> None:
    """E|z|^2 = 1, half of it in each part, in training and in sampling; x_t - mu has the spread sigma(t)."""
    torch.manual_seed(0)
    zero = torch.zeros(2, 200, 200, dtype=torch.complex64)
    for noise in (unit_noise(zero), noise_like(zero, [3, 4])()):
        assert float(noise.abs().square().mean()) == pytest.approx(1.0, abs=0.02)
        assert float(noise.real.square().mean()) == pytest.approx(0.5, abs=0.01)
    time = torch.tensor([0.1, 0.9])
    state = perturbed(SDE, zero, zero + 1, time, unit_noise(zero))
    spread = (state - marginal_mean(SDE, zero, zero + 1, time)).abs().square().mean((1, 2)).sqrt()
    assert torch.allclose(spread, marginal_std(SDE, time), rtol=0.02)


def test_the_score_loss_is_zero_for_the_score_that_was_drawn() -> None:
    """And half the number of bins, on average, for a score of zero."""
    torch.manual_seed(0)
    noise, time = (
        unit_noise(torch.zeros(4, 64, 50, dtype=torch.complex128)),
        torch.tensor([0.03, 0.2, 0.6, 1.0]).double(),
    )
    score = -noise / along(marginal_std(SDE, time), noise)
    assert score_loss(SDE, score, time, noise).max() < 1e-20
    zero = score_loss(SDE, 0 * score, time, noise)
    assert float(zero.mean()) == pytest.approx(0.5 * 64 * 50, rel=0.02)
    assert torch.allclose(zero, half_energy(noise))


def test_the_diffusion_is_the_authors(reference: Any) -> None:
    """Marginals, drift, diffusion and a reverse step, in double precision."""
    arrays = reference("sgmse_ouve_sde").arrays
    time, clean, noisy = (arrays[f"in/{name}"] for name in ("t", "x0", "y"))
    assert (marginal_mean(SDE, clean, noisy, time) - arrays["out/mean"]).abs().max() < 1e-12
    assert (marginal_std(SDE, time) - arrays["out/std"]).abs().max() < 1e-12
    assert (drift(SDE, clean, noisy) - arrays["out/drift"]).abs().max() < 1e-12
    assert (diffusion(SDE, time) - arrays["out/diffusion"]).abs().max() < 1e-12
    score = _analytic(clean, noisy, time)
    mean, _ = samplers.predicted(SDE, clean, noisy, score, time, 0.1, lambda: torch.zeros_like(clean))
    assert (clean - mean - arrays["out/reverse_f_dt0.1"]).abs().max() < 1e-12


def _analytic(state: torch.Tensor, noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    return (0.7 * noisy - state) / along(marginal_std(SDE, time) ** 2 + 0.01, state)


@pytest.mark.parametrize("steps", [3, 30])
def test_the_sampler_is_the_authors(reference: Any, numbered_noise: Any, steps: int) -> None:
    """Order of the steps and of the draws, grid and step sizes: all states meet in the result."""
    arrays = reference("sgmse_ouve_sde").arrays
    noisy = arrays["in/sampler_y"]
    found = sampled(
        lambda state, time, _: Outputs(_analytic(state, noisy, time), None),
        noisy,
        SDE,
        Sampling(mode="generative", steps=steps),
        numbered_noise(noisy.shape, 1000),
    )
    assert (found - arrays[f"out/sampler_analytic_N{steps}"]).abs().max() < 1e-9


def drawn_law(spread: float, steps: int, step_size: str) -> tuple[float, float]:
    """What the sampler draws from where the clean is CN(CLEAN, spread^2), without an error of sampling.

    With this score a result is affine in the draws of noise, so its mean is the result without noise, and its variance
    the sum of the squared answers to each draw alone. Returns how far the mean is off, over the distance from the noisy
    one, and the standard deviation over the one it should have.
    """
    draws = 1 + 2 * steps
    noisy = torch.full((draws + 1, 1), NOISY, dtype=torch.complex128)
    alone = iter(torch.eye(draws + 1, dtype=torch.complex128)[..., None])
    sampling = Sampling.model_validate({"mode": "generative", "steps": steps, "step_size": step_size})
    *answers, mean = sampled(gaussian(spread, CLEAN, noisy), noisy, SDE, sampling, lambda: next(alone))[:, 0]
    assert len(list(alone)) == 1, "the sampler drew another number of times"
    deviation = torch.stack([(answer - mean).abs() for answer in answers]).square().sum().sqrt()
    return float((mean - CLEAN).abs()) / abs(CLEAN - NOISY), float(deviation) / spread


@pytest.mark.parametrize("step_size", ["uniform", "exact"])
@pytest.mark.parametrize("spread", [0.1, 0.2, 0.3, 0.4, 0.5])
def test_thirty_steps_draw_from_a_gaussian(step_size: str, spread: float) -> None:
    """With the exact score: mean within 3 % of its distance from the noisy one and of itself, spread within 3 %."""
    off, deviation = drawn_law(spread, 30, step_size)
    assert off < 0.03
    assert off * abs(CLEAN - NOISY) < 0.03 * abs(CLEAN)
    assert deviation == pytest.approx(1.0, rel=0.03)


def test_exact_steps_come_to_the_gaussian() -> None:
    """What is off at 30 steps is of the steps' size: three times as many leave a third of it."""
    assert drawn_law(0.5, 90, "exact")[0] < drawn_law(0.5, 30, "exact")[0] / 3


def test_few_steps_are_off_as_the_mathematics_says() -> None:
    """Five steps on data of spread 0.3: exact ones draw 6 % too little, those of 1/N 9 % too much."""
    assert drawn_law(0.3, 5, "exact")[1] == pytest.approx(0.94, abs=0.005)
    assert drawn_law(0.3, 5, "uniform")[1] == pytest.approx(1.09, abs=0.005)


def test_draws_have_the_law_of_the_sampler() -> None:
    """With real noise, 22 500 draws: mean and standard deviation within four of their standard errors of it."""
    noisy = torch.full((1, 150, 150), NOISY, dtype=torch.complex128)
    found = draw(gaussian(0.5, CLEAN, noisy), noisy, steps=30)
    off, deviation = drawn_law(0.5, 30, "exact")
    error = 0.5 * deviation / math.sqrt(found.numel())
    assert abs(abs(complex(found.mean()) - CLEAN) - off * abs(CLEAN - NOISY)) < 4 * error
    spread = float((found - found.mean()).abs().square().mean().sqrt())
    assert abs(spread - 0.5 * deviation) < 4 * error / 2


def test_uniform_steps_overshoot_where_they_are_few() -> None:
    """On data without spread, five steps of 1/N leave more than ten times the noise that five exact ones leave."""
    uniform, exact = (0.005 * drawn_law(0.005, 5, size)[1] for size in ("uniform", "exact"))
    assert uniform == pytest.approx(0.324, rel=0.01)
    assert exact < uniform / 10


def test_without_fusion_unified_is_generative() -> None:
    """beta = 1 and no first fusion: bit for bit, under the same seed."""
    noisy = torch.full((2, 8, 8), 0.2 - 0.4j, dtype=torch.complex64)
    network = gaussian(0.3, 0.5, noisy)
    unified = draw(network, noisy, mode="unified", steps=4, first_fusion=None, last_fusion=1.0)
    assert torch.equal(unified, draw(network, noisy, steps=4))


def test_beta_of_zero_is_the_predictive_output_of_the_last_call() -> None:
    """And the more of it, the nearer a perfect prediction draws the result to the clean."""
    noisy = torch.full((1, 8, 8), 0.2 - 0.4j, dtype=torch.complex128)
    score = gaussian(0.3, 0.5, noisy)

    def network(state: torch.Tensor, time: torch.Tensor, predict: bool) -> Outputs:
        return Outputs(score(state, time, False).score, torch.full_like(state, 0.5) if predict else None)

    away = [
        float((draw(network, noisy, mode="unified", steps=5, last_fusion=beta) - 0.5).abs().max())
        for beta in (0.0, 0.1, 0.5, 1.0)
    ]
    assert away[0] == 0.0
    assert away == sorted(away)
    assert away[1] == pytest.approx(away[3] / 10)


def test_the_first_fusion_draws_the_state_to_the_prediction() -> None:
    """After the first step the state is alpha times what it was and 1 - alpha times the prediction."""
    noisy = torch.full((1, 8, 8), 0.2 - 0.4j, dtype=torch.complex128)
    score = gaussian(0.3, 0.5, noisy)
    states: dict[float | None, list[torch.Tensor]] = {}
    for alpha in (None, 0.2):
        states[alpha] = []

        def network(
            state: torch.Tensor, time: torch.Tensor, predict: bool, seen: list[torch.Tensor] = states[alpha]
        ) -> Outputs:
            seen.append(state)
            return Outputs(score(state, time, False).score, torch.full_like(state, 3.0) if predict else None)

        draw(network, noisy, mode="unified", steps=3, first_fusion=alpha)
    assert torch.equal(states[None][1], states[0.2][1])
    assert torch.allclose(states[0.2][2], 0.2 * states[None][2] + 0.8 * 3.0)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"steps": 4}, [1, 7]),
        ({"steps": 4, "mode": "generative"}, []),
        ({"steps": 4, "first_fusion": None}, [7]),
        ({"steps": 4, "last_fusion": 1.0}, [1]),
        ({"steps": 3, "corrector_steps": 0}, [0, 2]),
        ({"steps": 1}, [1]),
    ],
)
def test_the_predictive_decoder_is_asked_only_where_it_is_used(options: dict[str, Any], wanted: list[int]) -> None:
    """In the last call of the first and of the last step, and nowhere without fusion."""
    noisy = torch.zeros(1, 4, 4, dtype=torch.complex64)
    asked: list[bool] = []

    def network(state: torch.Tensor, time: torch.Tensor, predict: bool) -> Outputs:
        asked.append(predict)
        return Outputs(-state, state if predict else None)

    draw(network, noisy, **{"mode": "unified", **options})
    assert len(asked) == options["steps"] * (1 + options.get("corrector_steps", 1))
    assert [place for place, predict in enumerate(asked) if predict] == wanted


def test_an_item_has_its_own_noise() -> None:
    """The same seed gives the same, in any batch and at any place in it; another seed gives something else."""
    noisy = torch.full((3, 8, 8), 0.2 - 0.4j, dtype=torch.complex64)
    sampling = Sampling(mode="generative", steps=3)
    together = sampled(gaussian(0.3, 0.5, noisy), noisy, SDE, sampling, noise_like(noisy, [5, 6, 5]))
    alone = sampled(gaussian(0.3, 0.5, noisy[:1]), noisy[:1], SDE, sampling, noise_like(noisy[:1], [6]))
    assert torch.equal(together[0], together[2])
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, "7", True, None])
def test_a_seed_that_is_none_is_refused(seed: object) -> None:
    """The answer names what was given and what is expected."""
    with pytest.raises(BadSetting, match=r"The seed is .*expected an integer from 0"):
        noise_like(torch.zeros(1, 2, 2, dtype=torch.complex64), [seed])


def test_as_many_seeds_as_items() -> None:
    """One seed for two items is no answer to which noise they get."""
    with pytest.raises(BadSetting, match="1 seeds for 2 items"):
        noise_like(torch.zeros(2, 2, 2, dtype=torch.complex64), [0])


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"steps": -3}, {"steps": 2.5}, {"last_fusion": 1.1}, {"corrector_steps": -1}, {"mode": "both"}],
)
def test_impossible_sampling_is_refused(options: dict[str, Any]) -> None:
    """Step counts below one, weights above one, unknown modes."""
    with pytest.raises(ValidationError, match=next(iter(options))):
        Sampling.model_validate(options)


def test_a_process_that_does_not_explode_is_refused() -> None:
    """sigma_max must be above sigma_min."""
    with pytest.raises(ValidationError, match="must be above sigma_min"):
        Ouve(sigma_min=0.5, sigma_max=0.05)
