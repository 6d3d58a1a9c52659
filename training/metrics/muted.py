"""Muted: how much of the speech a system has removed altogether."""

import numpy as np

from simulation.levels import active_mask
from training.metrics.base import Metric, MetricFailed, Waveform

FRAME_S = 0.02
MUTED_BELOW_DB = -40.0
"""A frame this far below the clean is gone."""


def measure(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Share of the frames with speech (P.56) that lie 40 dB or more below the clean, 0 to 1; 1 for silence."""
    size = round(FRAME_S * sample_rate)
    count = len(clean) // size
    before, after, active = (
        waveform[: count * size].reshape(count, size)
        for waveform in (clean**2, enhanced**2, active_mask(clean, sample_rate))
    )
    power = before.sum(axis=1)
    speech = active.all(axis=1) & (power > 0)
    if not speech.any():
        raise MetricFailed("no frame of 20 ms with speech")
    return float(np.mean(after.sum(axis=1)[speech] <= power[speech] * 10 ** (MUTED_BELOW_DB / 10)))


MUTED = Metric(
    name="muted",
    title="Muted",
    unit="share",
    higher_is_better=False,
    sample_rate=None,
    needs_clean=True,
    version=1,
    definition=(
        "Share of the 20 ms frames with speech in the clean (ITU-T P.56) in which the enhanced is 40 dB or more below "
        "it. A silent enhanced has 1, so that silence is seen and not only failed."
    ),
    measure=measure,
    fails_when="no frame of the clean holds speech",
    scores_silence=True,
)
