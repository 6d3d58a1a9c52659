"""A small adversarial objective that has whatever an objective may have: two phases, chance, a state of its own.

Tests load it with `runpy`, as `conftest.py` is loaded by workers that pytest does not start.
"""

from typing import Any

import torch
from torch import Tensor, nn

from training.models import Enhancer
from training.models.layers import without_autocast
from training.objectives import MODEL, Losses, Objective, Regression
from training.spectral import Stft, magnitude


class ToyAdversarial(Objective):
    """Least squares against a judge of spectra, ever more of it as the objective counts steps."""

    phases = ("judge", MODEL)

    def __init__(self, config: "ToyConfig") -> None:
        super().__init__()
        self.config = config
        self.stft = Stft(64, 32)
        self.judge = nn.Sequential(nn.Linear(33, 8), nn.Tanh(), nn.Linear(8, 1))
        self.steps = 0

    def losses(self, model: Enhancer, noisy: Tensor, clean: Tensor, phase: str = MODEL) -> Losses:
        """The judge tells clean from enhanced; the model would have the judge believe it, and be near the clean."""
        enhanced = model.estimate(noisy).enhanced
        if self.training and self.config.noise:
            enhanced = enhanced + self.config.noise * torch.randn_like(enhanced)
        found = self.verdict(enhanced)
        if phase == "judge":
            parts = {"clean": (self.verdict(clean) - 1).square(), "enhanced": found.square()}
            return Losses(parts["clean"] + parts["enhanced"], parts)
        with without_autocast(noisy):
            parts = {"fooled": (found - 1).square(), "time": (enhanced - clean).abs().mean(-1)}
            return Losses(0.1 * min(self.steps, 50) * parts["fooled"] + parts["time"], parts)

    def verdict(self, waveform: Tensor) -> Tensor:
        """A number for each waveform: towards 1 if it is thought to be clean."""
        with without_autocast(waveform):
            spectra = magnitude(self.stft(waveform), 0.3).mT
        return self.judge(spectra).squeeze(-1).mean(-1)

    def step_begins(self, step: int) -> None:
        """Count."""
        self.steps += 1

    def get_extra_state(self) -> dict[str, Any]:
        """What has been counted."""
        return {"steps": torch.tensor(self.steps)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.steps = int(state["steps"])


class ToyConfig(Regression.Config):
    """In the place of a regression, which it stands for in recipes."""

    noise: float = 0.0
    """Added to what is enhanced, so that losses draw from torch's generator."""

    def build(self) -> ToyAdversarial:  # type: ignore[override]
        """The objective."""
        return ToyAdversarial(self)
