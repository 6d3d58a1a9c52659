"""How torch calculates: autocast, compiled or as written, by deterministic operations alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from training.models.base import Enhancer
from training.recipe import Recipe

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

BACKEND = "inductor"
"""What torch.compile hands a network to."""


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Activations in the recipe's precision; of no effect in fp32."""
    return torch.autocast(device.type, DTYPES.get(recipe.precision), enabled=recipe.precision in DTYPES)


def prepare(model: Enhancer, recipe: Recipe) -> None:
    """Lay out and compile a network as the recipe says, in place; names in its state stay as they are."""
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.compile:
        model.compile(backend=BACKEND)


@contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Within, torch refuses operations whose result differs from call to call, if that is wanted."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for; read at its first use
    before, timed = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = timed
