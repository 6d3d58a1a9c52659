"""STOI: short-time objective intelligibility."""

import warnings

import numpy as np
from pystoi import stoi as taal_stoi

from training.metrics.base import Metric, MetricFailed, Waveform

SEGMENT_S = 0.384
"""Envelopes are correlated over this long."""


def measure(
    clean: Waveform,
    enhanced: Waveform,
    sample_rate: int,
    extended: bool = False,
) -> float:
    """Mean correlation of third-octave band envelopes over 384 ms, 0 to 1; `pystoi` resamples to 10 kHz itself.

    Fewer than 30 frames with speech have no value: `pystoi` warns and answers 1e-5, which is a failure here. The
    extended form adds noise at machine precision from NumPy's global generator; it is seeded for the length of the
    call, so that a value never depends on what was scored before it.

    Source: Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy speech",
    IEEE TASLP 19(7), 2011.
    """
    if len(clean) < SEGMENT_S * sample_rate:
        raise MetricFailed("less than 384 ms of speech in it")
    chance = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
            return float(taal_stoi(clean, enhanced, sample_rate, extended=extended))
    except RuntimeWarning:
        raise MetricFailed("less than 384 ms of speech in it") from None
    finally:
        np.random.set_state(chance)


STOI = Metric(
    name="stoi",
    title="STOI",
    unit="0 to 1",
    higher_is_better=True,
    sample_rate=None,
    needs_clean=True,
    version=1,
    definition=(
        "Short-time objective intelligibility (Taal et al. 2011), computed at 10 kHz over 384 ms segments; frames more "
        "than 40 dB below the loudest clean frame are left out."
    ),
    measure=measure,
    fails_when="less than 384 ms of speech",
)
