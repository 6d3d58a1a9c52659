"""Streams take the form of a network that costs least for small chunks."""

import numpy as np
import torch

from serving.engine import Engine
from training.models import RadNet2
from training.models.rad_net2.realtime import FrameByFrame

NARROW = {
    "sample_rate": 16_000,
    "window_size": 240,
    "hop_size": 120,
    "fft_size": 256,
    "repairing": {"channels": 4, "stacks": 1, "dilations": (1, 2), "depth": 2},
    "denoising": {"features": 4, "channels": (4, 4), "squeezed": 4, "depth": 2},
}


def test_a_stream_goes_frame_by_frame_where_the_network_can() -> None:
    """RaD-Net 2's streamer answers, two channels in uneven chunks, and what it answers is what the whole file gives."""
    torch.manual_seed(0)
    engine = Engine(RadNet2.Config.model_validate(NARROW).build())
    samples = np.random.default_rng(0).normal(0, 0.1, (20_000, 2)).astype(np.float32)
    stream = engine.stream(16_000, 2)
    pieces = [stream.feed(chunk) for chunk in np.split(samples, [1, 130, 131, 700, 5000])]
    found, whole = np.concatenate([*pieces, stream.end()]), engine.enhance(samples, 16_000)
    assert np.abs(whole).max() > 1e-3
    np.testing.assert_allclose(found, whole, atol=1e-5 * np.abs(whole).max())
    assert isinstance(engine._streamer, FrameByFrame)
