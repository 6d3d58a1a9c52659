"""LSD: log-spectral distance, in two of the definitions that papers use; their values do not compare."""

import numpy as np
from scipy.signal import get_window

from training.metrics.base import Metric, Waveform

FFT_SIZE = 2048
"""Window and transform, in samples."""
HOP_SIZE = 512
"""In samples."""
POWER_FLOOR = 1e-8
"""Powers below this count as this; it bounds what digital silence can contribute."""
URGENT_WINDOW_S, URGENT_HOP_S = 0.032, 0.016
EPSILON = 1e-8
"""Of the URGENT form, added where that script adds it."""


def measure(
    clean: Waveform, enhanced: Waveform, sample_rate: int, fft_size: int = FFT_SIZE, hop_size: int = HOP_SIZE
) -> float:
    """Mean over frames of the root mean square over bins of log10 P - log10 P̂, P being the power spectrogram.

    This is the definition of the super-resolution papers (log10 of power, not dB: times 10 gives dB); windows are
    periodic Hann, the ends are reflected. Papers differ in log base, floor and window, so compare only with values
    computed here.
    """
    one, other = (_magnitude(waveform, fft_size, hop_size) ** 2 for waveform in (clean, enhanced))
    difference = np.log10(np.maximum(one, POWER_FLOOR)) - np.log10(np.maximum(other, POWER_FLOOR))
    return float(np.sqrt((difference**2).mean(axis=1)).mean())


def measure_urgent(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """The same of natural logarithms, behind the gain that brings the enhanced nearest to the clean.

    Source: the evaluation of the URGENT challenges (2024, 2025): 32 ms windows every 16 ms.
    """
    size, hop = int(URGENT_WINDOW_S * sample_rate), int(URGENT_HOP_S * sample_rate)
    gain = (clean @ enhanced) / (enhanced @ enhanced + EPSILON)
    one, other = (_magnitude(waveform, size, hop) for waveform in (clean, gain * enhanced))
    ratio = np.log(one**2 / (other + EPSILON) ** 2 + EPSILON)
    return float(np.sqrt((ratio**2).mean(axis=1)).mean())


def _magnitude(waveform: Waveform, fft_size: int, hop_size: int) -> np.ndarray:
    """Of the spectrogram under a periodic Hann window, the ends reflected where there is enough, [frames, bins]."""
    padded = np.pad(waveform, fft_size // 2, mode="reflect" if len(waveform) > fft_size // 2 else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, fft_size)[::hop_size]
    return np.abs(np.fft.rfft(frames * get_window("hann", fft_size)))


LSD = Metric(
    name="lsd",
    title="LSD",
    unit="log10 power",
    higher_is_better=False,
    sample_rate=None,
    needs_clean=True,
    version=1,
    definition=(
        "Log-spectral distance: mean over frames of the root mean square over bins of the difference of log10 powers "
        "(2048-sample periodic Hann window, hop 512, floor 1e-8). Lower is better; depends on gain."
    ),
    measure=measure,
)

LSD_URGENT = Metric(
    name="lsd_urgent",
    title="LSD (URGENT)",
    unit="ln power",
    higher_is_better=False,
    sample_rate=None,
    needs_clean=True,
    version=1,
    definition=(
        "Log-spectral distance as the URGENT challenges report it: natural logarithm of power ratios behind the best "
        "gain, 32 ms periodic Hann windows, hop 16 ms. Lower is better; ignores gain. Not comparable with LSD."
    ),
    measure=measure_urgent,
)
