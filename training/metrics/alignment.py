"""Delay and polarity: what to know of a system before waveform and phase metrics are believed."""

import numpy as np
from scipy.signal import correlate, correlation_lags

from training.metrics.base import Metric, MetricFailed, Waveform, shared

LARGEST_LAG_S = 0.5
LEAST_CORRELATION = 0.1
"""Below this peak of the normalised cross-correlation there is nothing to align."""


@shared
def best_lag(clean: Waveform, enhanced: Waveform, sample_rate: int) -> tuple[int, float]:
    """Samples by which the enhanced is late, and the normalised correlation there, which is the largest in size."""
    correlation = correlate(enhanced, clean, method="fft") / np.sqrt((clean @ clean) * (enhanced @ enhanced))
    lags = correlation_lags(len(enhanced), len(clean))
    near = np.abs(lags) <= LARGEST_LAG_S * sample_rate
    best = int(np.argmax(np.abs(correlation[near])))
    found = float(correlation[near][best])
    if abs(found) < LEAST_CORRELATION:
        raise MetricFailed(f"clean and enhanced correlate by {found:.2f} at most: no delay can be told")
    return int(lags[near][best]), found


def measure_delay(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """By how much the enhanced is late or early, in ms."""
    return abs(best_lag(clean, enhanced, sample_rate)[0]) * 1000 / sample_rate


def measure_polarity(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """1 where the enhanced has the sign of the clean, -1 where it is flipped."""
    return float(np.sign(best_lag(clean, enhanced, sample_rate)[1]))


DELAY = Metric(
    name="delay",
    title="Delay",
    unit="ms",
    higher_is_better=False,
    sample_rate=None,
    needs_clean=True,
    version=1,
    definition="Lag of the largest cross-correlation of the enhanced with the clean, within 500 ms, early or late.",
    measure=measure_delay,
    fails_when="the largest normalised correlation is below 0.1",
)

POLARITY = Metric(
    name="polarity",
    title="Polarity",
    unit="sign",
    higher_is_better=True,
    sample_rate=None,
    needs_clean=True,
    version=1,
    definition="Sign of the largest cross-correlation of the enhanced with the clean: 1 as it should be, -1 flipped.",
    measure=measure_polarity,
    fails_when="the largest normalised correlation is below 0.1",
)
