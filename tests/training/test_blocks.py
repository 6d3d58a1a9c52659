"""A network over a waveform of any length: in blocks that cannot be heard, or with its state."""

import numpy as np
import pytest
import torch
from torch import Tensor

from simulation.audio import Waveform
from training.blocks import BLOCK_S, CONTEXT_S, FADE_S, enhance_any_length, in_blocks
from training.models import Enhancer, GruMask, ModelConfig


class Watched(Enhancer):
    """Gives back its input; remembers the longest it was asked about."""

    def __init__(self) -> None:
        super().__init__(ModelConfig(kind="watched"))
        self.longest = 0

    def forward(self, noisy: Tensor) -> Tensor:
        self.longest = max(self.longest, noisy.shape[-1])
        return noisy.clone()


def noise(samples: int) -> Waveform:
    """White noise of -26 dBFS."""
    return np.random.default_rng(0).normal(0, 0.05, samples).astype(np.float32)


@pytest.mark.parametrize("seconds", [4.0, 4.5, 4.6, 8.5, 9.0, 30.01])
def test_blocks_join_without_a_trace(seconds: float) -> None:
    """Long input in blocks equals the whole where the network changes nothing; edges of blocks leave no step."""
    noisy = noise(round(seconds * 1000))
    joined = in_blocks(lambda block: block, noisy, 1000)
    np.testing.assert_allclose(joined, noisy, atol=1e-7)


def test_a_filter_in_blocks_equals_the_filter_of_the_whole() -> None:
    """What looks half a second around itself hears all of that at the edges of a block, too."""

    def smooth(samples: Waveform) -> Waveform:
        return np.convolve(samples, np.ones(1001, np.float32) / 1001, mode="same").astype(np.float32)

    noisy = noise(20_000)
    np.testing.assert_allclose(in_blocks(smooth, noisy, 1000), smooth(noisy), atol=1e-6)


@pytest.mark.parametrize(("seconds", "longest_s"), [(4.4, 4.4), (60.0, BLOCK_S + FADE_S + 2 * CONTEXT_S)])
def test_what_fits_passes_as_a_whole_and_the_rest_in_blocks(seconds: float, longest_s: float) -> None:
    """A minute costs no more memory than a block; a short utterance is asked about in one piece."""
    model, noisy = Watched(), noise(round(seconds * 16_000))
    np.testing.assert_allclose(enhance_any_length(model, noisy), noisy, atol=1e-7)
    assert model.longest == round(longest_s * 16_000)


@pytest.mark.parametrize("seconds", [2.0, 13.0])
def test_a_causal_network_hears_any_length_as_a_whole(seconds: float) -> None:
    """Its state goes from chunk to chunk: no block is to be found in the output."""
    torch.manual_seed(0)
    model, noisy = GruMask.Config(width=8, layers=1).build().eval(), noise(round(seconds * 16_000) + 7)
    with torch.inference_mode():
        whole = model(torch.from_numpy(noisy)[None])[0].numpy()
    np.testing.assert_allclose(enhance_any_length(model, noisy), whole, atol=1e-5)
