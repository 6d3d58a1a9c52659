"""Contrast stretching behind any network."""

import numpy as np
import pytest
import torch

from serving.contrasted import Contrasted, stretched
from serving.engine import Engine
from training.contrast import stretch
from training.models import GruMask


def test_an_answer_is_stretched_channel_by_channel_after_the_network() -> None:
    """Of a stereo recording at 44.1 kHz: what the network answers, each channel stretched, its peak kept."""
    torch.manual_seed(0)
    model = GruMask.Config(width=8, layers=1).build()
    sound = (0.2 * np.random.default_rng(0).standard_normal((44_100, 2))).astype(np.float32)
    plain, answer = (kind(model).enhance(sound, 44_100) for kind in (Engine, Contrasted))
    assert answer.shape == sound.shape
    for channel in range(2):
        assert np.array_equal(answer[:, channel], stretch(plain[:, channel], 44_100))
    assert np.abs(answer).max() == pytest.approx(np.abs(plain).max(), rel=1e-5)
    assert np.abs(answer - plain).max() > 0.01


def test_silence_stays_silence() -> None:
    """There is no peak to bring it back to."""
    assert not stretched(np.zeros((16_000, 2), np.float32), 16_000).any()
