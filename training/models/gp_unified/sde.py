"""The diffusion of GP-Unified: an Ornstein-Uhlenbeck process whose variance explodes (OUVE).

It leads from the clean spectrum at t = 0 to the noisy one plus noise at t = 1. Pure functions, named after what the
paper's equations say. States are complex, times are [batch]; complex noise has unit variance, half of it in each part.

Source: arXiv 2305.10734, section 2; constants of SGMSE+ (arXiv 2208.05830), whose code it builds on.
"""

import math
from typing import TypeAlias

import torch
from jaxtyping import Complex, Float
from pydantic import Field, model_validator
from torch import Tensor

from simulation.schema import Schema

State: TypeAlias = Complex[Tensor, "batch *shape"]
Time: TypeAlias = Float[Tensor, " batch"]


class Ouve(Schema):
    """Constants of the process dx = gamma (noisy - x) dt + g(t) dw."""

    gamma: float = Field(default=1.5, gt=0)
    """Stiffness: how fast the mean goes from clean to noisy."""
    sigma_min: float = Field(default=0.05, gt=0)
    sigma_max: float = Field(default=0.5, gt=0)
    earliest: float = Field(default=0.03, gt=0, lt=1)
    """The time at which training and sampling stop; at 0 there is no noise to tell apart."""

    @model_validator(mode="after")
    def _explodes(self) -> "Ouve":
        if self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max {self.sigma_max} must be above sigma_min {self.sigma_min}")
        return self

    @property
    def log_ratio(self) -> float:
        """log(sigma_max / sigma_min)."""
        return math.log(self.sigma_max / self.sigma_min)


def drift(sde: Ouve, state: State, noisy: State) -> State:
    """f(x, y) = gamma (y - x)."""
    return sde.gamma * (noisy - state)


def diffusion(sde: Ouve, time: Time) -> Time:
    """g(t) = sigma_min (sigma_max / sigma_min)^t sqrt(2 log(sigma_max / sigma_min))."""
    return sde.sigma_min * torch.exp(sde.log_ratio * time) * math.sqrt(2 * sde.log_ratio)


def marginal_mean(sde: Ouve, clean: State, noisy: State, time: Time) -> State:
    """mu(t) = e^(-gamma t) x0 + (1 - e^(-gamma t)) y."""
    kept = along(torch.exp(-sde.gamma * time), clean)
    return kept * clean + (1 - kept) * noisy


def marginal_std(sde: Ouve, time: Time) -> Time:
    """sigma(t) = sigma_min sqrt(((sigma_max / sigma_min)^2t - e^(-2 gamma t)) log_ratio / (gamma + log_ratio))."""
    spread = torch.exp(2 * sde.log_ratio * time) - torch.exp(-2 * sde.gamma * time)
    return sde.sigma_min * torch.sqrt(spread * sde.log_ratio / (sde.gamma + sde.log_ratio))


def perturbed(sde: Ouve, clean: State, noisy: State, time: Time, noise: State) -> State:
    """x_t = mu(t) + sigma(t) z: a draw of the state at time t."""
    return marginal_mean(sde, clean, noisy, time) + along(marginal_std(sde, time), clean) * noise


def score_loss(sde: Ouve, score: State, time: Time, noise: State) -> Float[Tensor, " batch"]:
    """Half the sum over bins of |sigma(t) s + z|^2: denoising score matching (Eq. 9), weighted by sigma(t)^2.

    A score of zero costs half the number of bins on average.
    """
    return half_energy(along(marginal_std(sde, time), score) * score + noise)


def half_energy(error: State) -> Float[Tensor, " batch"]:
    """Half the sum of the squared moduli of each item."""
    return 0.5 * torch.view_as_real(error).square().flatten(1).sum(-1)


def unit_noise(like: State) -> State:
    """Complex normal noise of unit variance from torch's generator: E|z|^2 = 1, not 2."""
    return torch.randn_like(like)


def along(time: Time, state: State) -> Float[Tensor, "batch *ones"]:
    """One number an item, shaped so that it multiplies a state."""
    return time.reshape(-1, *(1 for _ in state.shape[1:]))
