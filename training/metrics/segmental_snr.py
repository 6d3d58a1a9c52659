"""Segmental SNR: the SNR of each 30 ms, within limits, averaged."""

import numpy as np

from training.metrics.base import Metric, Waveform
from training.metrics.frames import windowed

LOWEST_DB, HIGHEST_DB = -10.0, 35.0
TINY = float(np.spacing(1.0))


def measure(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Mean over frames of the energy of the clean over that of the difference, in dB within [-10, 35] per frame.

    A frame without any clean counts as -10 dB, whatever the enhanced holds there; a wrong gain counts as noise.

    Source: Hansen and Pellom, "An effective quality evaluation protocol for speech enhancement algorithms", ICSLP 1998,
    with the frames of Loizou's composite measures.
    """
    signal = (windowed(clean, sample_rate) ** 2).sum(axis=1)
    noise = (windowed(clean - enhanced, sample_rate) ** 2).sum(axis=1)
    ratio_db = 10 * np.log10(signal / (noise + TINY) + TINY)
    return float(np.clip(ratio_db, LOWEST_DB, HIGHEST_DB).mean())


SEG_SNR = Metric(
    name="seg_snr",
    title="segSNR",
    unit="dB",
    higher_is_better=True,
    sample_rate=16_000,
    needs_clean=True,
    version=1,
    definition=(
        "SNR of each 30 ms frame (hop 7.5 ms), limited to -10 to 35 dB, averaged over all frames, pauses included. "
        "Needs sample alignment and the right gain."
    ),
    measure=measure,
    fails_when="shorter than 37.5 ms",
)
