"""What tests of training share: a corpus in memory, and small recipes over it."""

from types import SimpleNamespace

import numpy as np
import pytest

from training.models import GruMask
from training.objectives import Regression
from training.recipe import Recipe


class Tones:
    """Mixtures of tones and white noise of differing length, as a corpus would give them."""

    sample_rate = 16000

    def __init__(self, count: int = 7) -> None:
        self.entries = [
            SimpleNamespace(
                row=SimpleNamespace(id=f"train-{index:08d}"), measured=SimpleNamespace(samples=4000 + 700 * index)
            )
            for index in range(count)
        ]

    def read(self, index: int) -> SimpleNamespace:
        """A function of the index alone."""
        samples = self.entries[index].measured.samples
        clean = 0.1 * np.sin(2 * np.pi * (200 + 50 * index) * np.arange(samples) / self.sample_rate)
        noise = 0.05 * np.random.default_rng(index).standard_normal(samples)
        return SimpleNamespace(clean=np.float32(clean), noisy=np.float32(clean + noise))


def small_recipe(**changes: object) -> Recipe:
    """A recurrent mask of a few units for a few steps; no dropout, no statistics over a batch."""
    fields = {
        "name": "small",
        "network": "gru_mask",
        "model": GruMask.Config(width=8, layers=1),
        "objective": Regression.Config(hop_size=200, si_sdr=0.02),
        "steps": 10,
        "batch_size": 5,
        "segment_s": 0.4,
        "learning_rate": 1e-3,
        "warmup_steps": 3,
        "log_every": 2,
        "validate_every": 5,
        "validation_items": 2,
        "checkpoint_every": 5,
    }
    return Recipe.model_validate(fields | changes)


@pytest.fixture
def tones() -> Tones:
    """Seven mixtures of 4000 to 8200 samples."""
    return Tones()


@pytest.fixture(name="small_recipe", scope="session")
def small_recipe_fixture() -> object:
    """`small_recipe(**changes)`: ten steps of five items of 0.4 s."""
    return small_recipe
