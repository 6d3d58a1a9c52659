"""What tests of training share: a corpus in memory, and small recipes over it."""

import json
import os
import zlib
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from training.models import GruMask
from training.objectives import Regression
from training.recipe import Recipe

REFERENCE = os.environ.get("UNMUFFLE_REFERENCE")
"""Folder with outputs of the authors' own networks under weights that a rule gives; not part of this repository."""


class Tones:
    """Mixtures of tones and white noise of differing length, as a corpus would give them."""

    sample_rate = 16000
    renders = False
    most_quarantined = 0
    stretch = 1

    def __init__(self, count: int = 7) -> None:
        self.entries = [
            SimpleNamespace(
                row=SimpleNamespace(id=f"train-{index:08d}"), measured=SimpleNamespace(samples=4000 + 700 * index)
            )
            for index in range(count)
        ]

    @property
    def rows(self) -> int:
        """None is in quarantine."""
        return len(self.entries)

    @property
    def lengths(self) -> np.ndarray:
        """Samples of each."""
        return np.array([entry.measured.samples for entry in self.entries])

    def nearby(self, kept: int) -> "Tones":
        """All are in memory."""
        return self

    def row(self, number: int) -> tuple[str, SimpleNamespace]:
        """Id and mixture."""
        return self.entries[number].row.id, self.read(number)

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


def by_rule(name: str, shape: list[int], rule: str) -> torch.Tensor:
    """Numbers that follow from a name: standard normal draws seeded by it, then scaled by the rule, in 32 bits."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    scaled = {
        "matrix": drawn / np.sqrt(np.prod(shape[1:])),
        "gain": 1 + 0.1 * drawn,
        "bias": 0.1 * drawn,
        "prelu": 0.25 + 0.1 * drawn,
        "fourier": 16 * drawn,
        "running_mean": 0.1 * drawn,
        "running_var": 1 + 0.1 * np.abs(drawn),
        "zero": 0 * drawn,
    }
    return torch.from_numpy(np.asarray(scaled[rule], np.float32))


def fill(module: torch.nn.Module) -> None:
    """Give every parameter what the rule gives to its name."""
    with torch.no_grad():
        for place, part in module.named_modules():
            for name, parameter in part.named_parameters(recurse=False):
                kind = "prelu" if isinstance(part, torch.nn.PReLU) else "bias" if "bias" in name else "gain"
                rule = "matrix" if parameter.squeeze().ndim > 1 and name != "gain" else kind
                parameter.copy_(by_rule(f"{place}.{name}", list(parameter.shape), rule))


class Reference(NamedTuple):
    """What the authors' network gave."""

    arrays: dict[str, torch.Tensor]
    state: dict[str, torch.Tensor]
    """Its weights, under its own names."""
    facts: dict[str, Any]


def reference_of(name: str) -> Reference:
    """Outputs of the authors' network of that name; skips the test where the folder is not at hand."""
    if not REFERENCE:
        pytest.skip("UNMUFFLE_REFERENCE names no folder with outputs of the authors' networks")
    facts = json.loads(Path(REFERENCE, f"{name}.json").read_text())
    arrays = {key: torch.from_numpy(array) for key, array in np.load(Path(REFERENCE, f"{name}.npz")).items()}
    entries = facts.get("state", [])
    state = {one["name"]: by_rule(**_rule(one)) for one in entries if one["rule"] != "singular"}
    for one in entries:
        if one["rule"] == "singular":
            layer, _, side = one["name"].rpartition(".weight_")
            left, _, right = torch.linalg.svd(state[f"{layer}.weight_orig"].double().flatten(1), full_matrices=False)
            state[one["name"]] = left[:, 0] if side == "u" else right[0]
    return Reference({key: _exact(array) for key, array in arrays.items()}, state, facts)


def _exact(array: torch.Tensor) -> torch.Tensor:
    return array.to(torch.complex128) if array.is_complex() else array.double()


def _rule(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ("name", "shape", "rule")}


@pytest.fixture(name="reference", scope="session")
def reference_fixture() -> Callable[[str], Reference]:
    """`reference(name)`: outputs of the authors' own network, to be equalled."""
    return reference_of


@pytest.fixture(name="by_rule", scope="session")
def by_rule_fixture() -> Callable[..., torch.Tensor]:
    """`by_rule(name, shape, rule)`: the numbers that follow from a name."""
    return by_rule


@pytest.fixture(name="fill", scope="session")
def fill_fixture() -> Callable[[torch.nn.Module], None]:
    """`fill(module)`: weights that follow from their names."""
    return fill


@pytest.fixture(name="numbered_noise", scope="session")
def numbered_noise_fixture() -> Callable[[Sequence[int], int], Callable[[], torch.Tensor]]:
    """`numbered_noise(shape, first)`: draw k of complex noise of unit variance from NumPy's generator first + k."""

    def source(shape: Sequence[int], first: int) -> Callable[[], torch.Tensor]:
        seeds = count(first)

        def draw() -> torch.Tensor:
            rng = np.random.default_rng(next(seeds))
            real = rng.standard_normal(shape)
            return torch.from_numpy((real + 1j * rng.standard_normal(shape)) / np.sqrt(2))

        return draw

    return source
