"""Loudness and level: a system that plays louder, or pumps, has not restored anything."""

import numpy as np
from scipy.signal import lfilter

from training.metrics.base import Metric, MetricFailed, Waveform

BLOCK_S, HOP_S = 0.4, 0.1
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0
"""LUFS, and LU below the mean of what passes the first."""
OFFSET = -0.691
SHELF_HZ, SHELF_DB, SHELF_Q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
HIGH_PASS_HZ, HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773
"""K weighting as analogue prototypes, so that it can be had at any rate; at 48 kHz they give the table of BS.1770."""


def loudness_lufs(waveform: Waveform, sample_rate: int) -> float:
    """Integrated loudness of one channel. Source: ITU-R BS.1770-4; fails where nothing passes its gates."""
    block = _block_loudness(waveform, sample_rate)
    above = block[block > ABSOLUTE_GATE]
    if not above.size:
        raise MetricFailed(f"nothing in it is louder than {ABSOLUTE_GATE:.0f} LUFS")
    gate = _mean(above) + RELATIVE_GATE
    return _mean(above[above > gate])


def measure_error(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """How far the loudness of the enhanced is from that of the clean, in LU; neither direction is better."""
    return abs(loudness_lufs(enhanced, sample_rate) - loudness_lufs(clean, sample_rate))


def measure_drift(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Standard deviation over 400 ms blocks of the gain from clean to enhanced, in dB.

    Blocks count where the clean passes the gates of BS.1770. A constant gain costs nothing; noise that is left fills
    the quiet blocks and costs too. A block that the enhanced mutes counts at the absolute gate.
    """
    before, after = _block_loudness(clean, sample_rate), _block_loudness(enhanced, sample_rate)
    counted = before > max(ABSOLUTE_GATE, loudness_lufs(clean, sample_rate) + RELATIVE_GATE)
    return float(np.std(np.maximum(after[counted], ABSOLUTE_GATE) - before[counted]))


def _block_loudness(waveform: Waveform, sample_rate: int) -> np.ndarray:
    """Loudness of each block in LUFS, -inf for silence."""
    size, hop = round(BLOCK_S * sample_rate), round(HOP_S * sample_rate)
    if len(waveform) < size:
        raise MetricFailed(f"shorter than {BLOCK_S} s")
    for numerator, denominator in (_shelf(sample_rate), _high_pass(sample_rate)):
        waveform = lfilter(numerator, denominator, waveform)
    energy = np.concatenate([[0.0], np.cumsum(waveform**2)])
    starts = np.arange(0, len(waveform) - size + 1, hop)
    power = np.maximum(energy[starts + size] - energy[starts], 0.0) / size
    with np.errstate(divide="ignore"):
        return OFFSET + 10 * np.log10(power)


def _mean(loudness: np.ndarray) -> float:
    """Loudness of the mean power."""
    return float(10 * np.log10(np.mean(10 ** (loudness / 10))))


def _shelf(sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The head's effect: 4 dB more above 2 kHz."""
    k = np.tan(np.pi * SHELF_HZ / sample_rate)
    high = 10 ** (SHELF_DB / 20)
    band = high**0.4996667741545416
    scale = 1 + k / SHELF_Q + k * k
    numerator = [high + band * k / SHELF_Q + k * k, 2 * (k * k - high), high - band * k / SHELF_Q + k * k]
    return np.array(numerator) / scale, np.array([scale, 2 * (k * k - 1), 1 - k / SHELF_Q + k * k]) / scale


def _high_pass(sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    k = np.tan(np.pi * HIGH_PASS_HZ / sample_rate)
    scale = 1 + k / HIGH_PASS_Q + k * k
    return np.array([1.0, -2.0, 1.0]), np.array([scale, 2 * (k * k - 1), 1 - k / HIGH_PASS_Q + k * k]) / scale


LOUDNESS_ERROR = Metric(
    name="loudness_error",
    title="Loudness error",
    unit="LU",
    higher_is_better=False,
    sample_rate=None,
    needs_clean=True,
    version=1,
    definition="Distance between the integrated loudness (ITU-R BS.1770-4) of the enhanced and that of the clean.",
    measure=measure_error,
    fails_when="shorter than 400 ms, or nothing louder than -70 LUFS",
)

LEVEL_DRIFT = Metric(
    name="level_drift",
    title="Level drift",
    unit="dB",
    higher_is_better=False,
    sample_rate=None,
    needs_clean=True,
    version=1,
    definition=(
        "Standard deviation over 400 ms blocks of the gain from clean to enhanced, where the clean is loud enough to "
        "count; a constant gain costs nothing, pumping and left-over noise do."
    ),
    measure=measure_drift,
    fails_when="shorter than 400 ms, or nothing louder than -70 LUFS",
)
