"""Clipping: how much of the enhanced a 16 bit file could not hold."""

import numpy as np

from training.metrics.base import Metric, Waveform

FULL_SCALE = 1.0 - 2.0**-15
"""The largest positive sample of 16 bit audio."""


def measure(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Share of the samples at or beyond full scale, 0 to 1."""
    return float(np.mean(np.abs(enhanced) >= FULL_SCALE))


CLIPPING = Metric(
    name="clipping",
    title="Clipping",
    unit="share",
    higher_is_better=False,
    sample_rate=None,
    needs_clean=False,
    version=1,
    definition="Share of the samples of the enhanced at or beyond full scale: cut off once it is written to a file.",
    measure=measure,
    scores_silence=True,
)
