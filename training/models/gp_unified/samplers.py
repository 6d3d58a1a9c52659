"""From noise to speech: predictor and corrector steps along the reverse of the diffusion, and GP-Unified's fusion.

Pure functions over a network given as a callable, so that an analytic score can stand in its place.

Source: Song et al. 2021 (predictor-corrector), SGMSE+ (arXiv 2208.05830), arXiv 2305.10734 (fusion, Eqs. 12 and 13).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from simulation.errors import BadSetting
from simulation.schema import Schema
from training.models.gp_unified.sde import Ouve, State, Time, along, diffusion, drift, marginal_std

Mode: TypeAlias = Literal["generative", "unified", "predictive"]
Noise: TypeAlias = Callable[[], Tensor]
"""Each call draws complex noise of unit variance in the shape of the state."""

LARGEST_SEED = 2**63 - 1


class Outputs(NamedTuple):
    """What a network says about a state."""

    score: State | None
    clean: State | None
    """The predictive decoder's estimate."""


Network: TypeAlias = Callable[[State, Time, bool], Outputs]
"""(state, time, whether the predictive decoder is wanted) -> outputs, with a score."""


class Sampling(Schema):
    """How a trained network is asked: may differ from request to request."""

    mode: Mode = "unified"
    """generative: the score alone (SGMSE+, and GP-SGMSE+ where both decoders were trained). unified: fused with the
    predictive decoder (GP-Unified). predictive: one call of the predictive decoder."""
    predictive_noise: bool = True
    """Whether the predictive mode's one call sees the sampler's first state, noise and all, as in training. False: its
    mean, the noisy spectrum, so that one input has one output."""
    steps: int = Field(default=30, ge=1, le=1000)
    """N; each takes one call of the network, and one more for each corrector step."""
    corrector_steps: int = Field(default=1, ge=0, le=10)
    snr: float = Field(default=0.5, gt=0)
    """r of the corrector: the signal-to-noise ratio of its steps."""
    step_size: Literal["uniform", "exact"] = "exact"
    """Time that a predictor step covers. uniform: 1 / N, as SGMSE+'s code had it when the paper was written; at N = 5
    its last step removes 7.5 times the noise that is left. exact: the spacing of the grid, as there since June 2024."""
    first_fusion: float | None = Field(default=0.2, ge=0, le=1)
    """alpha: weight of the generative state after the first step; the predictive one has the rest. None: no fusion."""
    last_fusion: float = Field(default=0.1, ge=0, le=1)
    """beta: weight of the generative result after the last step; 1 is the generative result alone."""
    seed: int | None = Field(default=None, ge=0, le=LARGEST_SEED, strict=True)
    """Of the noise wherever a request names none; None: another one each time."""

    @property
    def stochastic(self) -> bool:
        """Whether one input has many outputs."""
        return self.seed is None and (self.mode != "predictive" or self.predictive_noise)


def sampled(network: Network, noisy: State, sde: Ouve, sampling: Sampling, noise: Noise) -> State:
    """A draw of the clean spectrum given the noisy one; draws of noise: prior, then per step corrector, predictor.

    Both fusions weigh the generative side with alpha and beta (the paper's figure 2 prints them at the other arrows;
    its equations and its figure 7 agree with this). The predictive decoder is only asked where its answer is used.
    """
    unified = sampling.mode == "unified"
    state = prior(sde, noisy, noise)
    mean = state
    for place, (time, duration) in enumerate(grid(sde, sampling)):
        at = noisy.real.new_full((len(noisy),), time)
        alpha = sampling.first_fusion if unified and place == 0 and sampling.steps > 1 else None
        beta = sampling.last_fusion if unified and place == sampling.steps - 1 and sampling.last_fusion < 1 else None
        for _ in range(sampling.corrector_steps):
            score, _ = _asked(network, state, at, False)
            state = corrected(sde, state, score, at, sampling.snr, noise)
        score, clean = _asked(network, state, at, alpha is not None or beta is not None)
        mean, state = predicted(sde, state, noisy, score, at, duration, noise)
        state, mean = fused(state, clean, alpha), fused(mean, clean, beta)
    return mean


def prior(sde: Ouve, noisy: State, noise: Noise) -> State:
    """x_T = y + sigma(1) z."""
    latest = noisy.real.new_ones(len(noisy))
    return noisy + along(marginal_std(sde, latest), noisy) * noise()


def grid(sde: Ouve, sampling: Sampling) -> Iterator[tuple[float, float]]:
    """Times from 1 down to the earliest, and how long the predictor's step is at each."""
    times = torch.linspace(1.0, sde.earliest, sampling.steps, dtype=torch.float64).tolist()
    for place, time in enumerate(times):
        follows = times[place + 1] if place + 1 < len(times) else 0.0
        yield time, 1 / sampling.steps if sampling.step_size == "uniform" else time - follows


def corrected(sde: Ouve, state: State, score: State, time: Time, snr: float, noise: Noise) -> State:
    """A step of annealed Langevin dynamics: x + eps s + sqrt(2 eps) z with eps = 2 (r sigma(t))^2."""
    size = along(2 * (snr * marginal_std(sde, time)) ** 2, state)
    return state + size * score + torch.sqrt(2 * size) * noise()


def predicted(
    sde: Ouve, state: State, noisy: State, score: State, time: Time, duration: float, noise: Noise
) -> tuple[State, State]:
    """A step of the reverse diffusion: its mean x - (f - g^2 s) dt, and a draw, mean + g sqrt(dt) z."""
    strength = along(diffusion(sde, time), state)
    mean = state - (drift(sde, state, noisy) - strength**2 * score) * duration
    return mean, mean + strength * duration**0.5 * noise()


def fused(generative: State, predictive: State | None, weight: float | None) -> State:
    """weight * generative + (1 - weight) * predictive (Eqs. 12 and 13); a weight of None leaves all as it is."""
    if weight is None:
        return generative
    assert predictive is not None
    return weight * generative + (1 - weight) * predictive


def _asked(network: Network, state: State, time: Time, predict: bool) -> tuple[State, State | None]:
    score, clean = network(state, time, predict)
    assert score is not None
    return score, clean


def noise_like(state: State, seeds: Sequence[object]) -> Noise:
    """Noise for each item by a generator of its own, drawn on the CPU: the same in any batch and on any device.

    Raises BadSetting for a seed that is none.
    """
    generators = [torch.Generator().manual_seed(checked_seed(seed)) for seed in seeds]
    if len(generators) != len(state):
        raise BadSetting(f"There are {len(generators)} seeds for {len(state)} items; give one seed for each item.")

    def draw() -> Tensor:
        items = [torch.randn(state.shape[1:], dtype=state.dtype, generator=each) for each in generators]
        return torch.stack(items).to(state.device)

    return draw


def checked_seed(seed: object) -> int:
    """The seed, or BadSetting where it is no integer of 63 bits."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise BadSetting(f"The seed is {seed!r}; expected an integer from 0 to {LARGEST_SEED}.")
    return seed
