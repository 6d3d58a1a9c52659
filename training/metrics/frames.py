"""Frames as the composite measures cut them: 30 ms under a Hann window, 7.5 ms apart."""

import numpy as np

from training.metrics.base import MetricFailed, Waveform

FRAME_S = 0.03
FRAMES_PER_HOP = 4
KEPT_SHARE = 0.95
"""Spectral distances are averaged over this share of the frames, those with the lowest values."""


def windowed(waveform: Waveform, sample_rate: int) -> np.ndarray:
    """[frames, samples of a frame], windowed.

    The window has no zero at its ends, and the last whole frame is left out: both as in the scripts whose figures are
    published (Loizou's, and those after it).
    """
    size = round(FRAME_S * sample_rate)
    hop = size // FRAMES_PER_HOP
    count = (len(waveform) - size) // hop
    if count < 1:
        raise MetricFailed(f"shorter than {FRAME_S * (1 + 1 / FRAMES_PER_HOP):.4f} s")
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, size + 1) / (size + 1)))
    return np.lib.stride_tricks.sliding_window_view(waveform, size)[::hop][:count] * window


def mean_of_the_lowest(distances: np.ndarray) -> float:
    """Mean over the lowest `KEPT_SHARE` of a distance per frame."""
    return float(np.sort(distances)[: round(len(distances) * KEPT_SHARE)].mean())
