"""What a metric is: a number per utterance, with its direction, unit, rate and version, or a stated failure.

Every metric passes through the same checks, so that none of them can turn bad input into a plausible number:
equal lengths, finite samples, neither side silent. What cannot be scored raises `MetricFailed`; the evaluation counts
and lists failures and leaves them out of every mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.audio import resample

Waveform = NDArray[np.floating]
"""`[samples]`, full scale at 1."""

SILENCE_PEAK = 2.0**-16
"""Half a step of 16 bit audio: a waveform that stays below this is digital silence once it is written to a file."""


class MetricFailed(Exception):
    """This utterance has no value of this metric; `reason` says why in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Metric:
    """One number per utterance.

    `measure(clean, enhanced, sample_rate)` receives checked float64 waveforms and may raise `MetricFailed`; callers
    use `score`, which checks first.
    """

    name: str
    """Key in `METRICS`, column in scores.parquet."""
    title: str
    """As papers write it."""
    unit: str
    """Unit of the value; a scale's name where there is none."""
    higher_is_better: bool
    sample_rate: int | None
    """Rate (Hz) it is defined at; audio above it is resampled (soxr HQ). None: any rate, as it comes."""
    needs_clean: bool
    """Whether the clean utterance is needed (an intrusive metric)."""
    version: int
    """Raised by hand whenever the same audio would get another number."""
    definition: str
    """One or two sentences for the report."""
    measure: Callable[[Waveform, Waveform, int], float]

    def score(self, clean: np.ndarray, enhanced: np.ndarray, sample_rate: int) -> float:
        """The value for one utterance; both waveforms are [samples] at `sample_rate` (Hz)."""
        clean, enhanced = _checked(clean, enhanced)
        if self.sample_rate is not None and sample_rate != self.sample_rate:
            if sample_rate < self.sample_rate:
                raise MetricFailed(f"needs {self.sample_rate} Hz, the audio has {sample_rate} Hz")
            clean = resample(clean.astype(np.float32), sample_rate, self.sample_rate).astype(np.float64)
            enhanced = resample(enhanced.astype(np.float32), sample_rate, self.sample_rate).astype(np.float64)
        value = float(self.measure(clean, enhanced, self.sample_rate or sample_rate))
        if not np.isfinite(value):
            raise MetricFailed(f"gave {value}")
        return value


def _checked(clean: np.ndarray, enhanced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, or `MetricFailed`."""
    if clean.ndim != 1 or clean.shape != enhanced.shape:
        raise MetricFailed(f"shapes differ: clean {clean.shape}, enhanced {enhanced.shape}")
    if clean.size == 0:
        raise MetricFailed("no samples")
    for name, waveform in (("clean", clean), ("enhanced", enhanced)):
        if not np.isfinite(waveform).all():
            raise MetricFailed(f"{name} holds NaN or infinity")
        if np.abs(waveform).max() < SILENCE_PEAK:
            raise MetricFailed(f"{name} is silent")
    return clean.astype(np.float64), enhanced.astype(np.float64)
