"""PD and WOPD: how far the phase of the enhanced is from that of the clean, weighted by the clean's magnitude."""

import numpy as np
from scipy.signal import get_window

from training.metrics.base import Metric, MetricFailed, Waveform

FFT_SIZE, HOP_SIZE = 400, 100
MAGNITUDE_FLOOR, REAL_OFFSET, IMAGINARY_OFFSET = 1e-9, 1e-5, 1e-10
"""Added to the squared magnitude, and before atan2: bins without energy have phase 0 on both sides, as in RENet."""


def distance_degrees(clean: Waveform, enhanced: Waveform) -> float:
    """Mean of |φ̂ - φ|, wrapped, weighted by the clean's uncompressed magnitude; a flipped sign gives 180."""
    magnitude, phase = _polar(clean)
    difference = np.abs(_wrapped(_polar(enhanced)[1] - phase))
    return float(np.degrees((magnitude * difference).sum() / magnitude.sum()))


def measure_distance(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """`distance_degrees` with the enhanced's sign chosen for it: the lower of the two.

    Nobody hears a flipped sign, and a method that only knows magnitudes cannot tell it; the metric `polarity` can.
    """
    return min(distance_degrees(clean, enhanced), distance_degrees(clean, -enhanced))


def measure_omnidirectional(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Mean over 9 maps of the wrapped difference of phase derivatives, in radians, weighted as above.

    The maps are the phase itself and its differences to the eight neighbours in time and frequency; what lies outside
    counts as phase 0. The sign is not resolved: only the phase map and the borders know it.

    Source: Wang, Li, Li and Yao, "Global rotation equivariant phase modeling for speech enhancement with deep
    magnitude-phase interaction", arXiv 2602.08556.
    """
    magnitude, phase = _polar(clean)
    difference = _polar(enhanced)[1] - phase
    padded = np.pad(difference, 1)
    rows, columns = difference.shape
    total = np.abs(_wrapped(difference))
    for row in range(3):
        for column in range(3):
            if (row, column) != (1, 1):
                total += np.abs(_wrapped(difference - padded[row : row + rows, column : column + columns]))
    return float((magnitude * total).sum() / (9 * magnitude.sum()))


def _polar(waveform: Waveform) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude and phase, [frames, bins], of a reflected-edge STFT under a periodic Hann window."""
    if len(waveform) <= FFT_SIZE // 2:
        raise MetricFailed(f"shorter than {FFT_SIZE // 2 + 1} samples")
    padded = np.pad(waveform, FFT_SIZE // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SIZE)[::HOP_SIZE]
    spectrum = np.fft.rfft(frames * get_window("hann", FFT_SIZE))
    magnitude = np.sqrt(np.abs(spectrum) ** 2 + MAGNITUDE_FLOOR)
    return magnitude, np.arctan2(spectrum.imag + IMAGINARY_OFFSET, spectrum.real + REAL_OFFSET)


def _wrapped(phase: np.ndarray) -> np.ndarray:
    """Within ±π."""
    return phase - 2 * np.pi * np.round(phase / (2 * np.pi))


PD = Metric(
    name="pd",
    title="PD",
    unit="degrees",
    higher_is_better=False,
    sample_rate=16_000,
    needs_clean=True,
    version=1,
    definition=(
        "Phase distance weighted by the clean's magnitude (STFT 400/100), the better of the two signs; 90 degrees is "
        "chance. Needs sample alignment."
    ),
    measure=measure_distance,
    fails_when="200 samples or shorter",
)

WOPD = Metric(
    name="wopd",
    title="WOPD",
    unit="radians",
    higher_is_better=False,
    sample_rate=16_000,
    needs_clean=True,
    version=1,
    definition=(
        "Weighted omnidirectional phase derivative distance: phase differences to the eight neighbours in time and "
        "frequency, and the phase itself, weighted by the clean's magnitude (STFT 400/100)."
    ),
    measure=measure_omnidirectional,
    fails_when="200 samples or shorter",
)
