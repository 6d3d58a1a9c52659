"""Perceptual contrast stretching behind any network: what `unmuffle enhance --contrast` asks for."""

import numpy as np

from serving.engine import Engine
from simulation.audio import Waveform
from training.contrast import stretch


def stretched(samples: Waveform, sample_rate: int) -> Waveform:
    """`[samples, channels]`, each channel stretched on its own, its peak where it was; the same shape out."""
    return np.stack([stretch(channel, sample_rate) for channel in samples.T], axis=1)


class Contrasted(Engine):
    """An engine whose answers are stretched. A network that stretches by itself (BSP-MPNet) needs no second time."""

    def enhance(self, samples: Waveform, sample_rate: int) -> Waveform:
        """As `Engine.enhance`, then stretched: within [-1, 1], for the peak stays."""
        return stretched(super().enhance(samples, sample_rate), sample_rate)
