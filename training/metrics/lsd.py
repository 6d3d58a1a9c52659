"""LSD: log-spectral distance."""

import numpy as np
from scipy.signal import get_window

from training.metrics.base import Metric, Waveform

FFT_SIZE = 2048
"""Window and transform, in samples."""
HOP_SIZE = 512
"""In samples."""
POWER_FLOOR = 1e-8
"""Powers below this count as this; it bounds what digital silence can contribute."""


def measure(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Mean over frames of the root mean square over bins of log10 P - log10 P̂, P being the power spectrogram.

    This is the definition of the super-resolution papers (log10 of power, not dB: times 10 gives dB); windows are
    periodic Hann, the ends are reflected. Papers differ in log base, floor and window, so compare only with values
    computed here.
    """
    difference = _log_power(clean) - _log_power(enhanced)
    return float(np.sqrt((difference**2).mean(axis=1)).mean())


def _log_power(waveform: Waveform) -> np.ndarray:
    """log10 of the floored power spectrogram, [frames, bins]."""
    padded = np.pad(waveform, FFT_SIZE // 2, mode="reflect" if len(waveform) > FFT_SIZE // 2 else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SIZE)[::HOP_SIZE]
    power = np.abs(np.fft.rfft(frames * get_window("hann", FFT_SIZE))) ** 2
    return np.log10(np.maximum(power, POWER_FLOOR))


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
