"""The yardstick of `make bench-simulation`: one process, NumPy and SciPy, every source in memory, no checks, no store.

It renders and encodes the rows of the benchmark's scenario (room, band limit, noise) as fast as plain calls go: single
precision where that is enough, one transform of the speech for both convolutions, each filter once forwards and
backwards, FLAC by libsndfile. `agrees` shows that it does the same work: its samples are those of `render` to a step
or two of 16 bit.
"""

import io
import math
import time
from collections.abc import Sequence

import numpy as np
import scipy.fft
import soundfile
from scipy.signal import butter, sosfiltfilt

from simulation import levels
from simulation.degradations import AddNoise, BandLimit, Reverberate
from simulation.degradations.reverb import EARLY_S
from simulation.draw import Plan
from simulation.manifest import Row
from simulation.render import CEILING, Library, render

STEPS = 32768
MOST_STEPS_APART = 2
"""Between this loop and `render`: single precision against double."""


class BareLoop:
    """Everything that the rows need, in memory before the clock runs."""

    def __init__(self, plan: Plan, rows: Sequence[Row]) -> None:
        self.plan, self.rows, self.rate = plan, rows, plan.scenario.sample_rate
        self.library = Library(plan.sources, plan.scenario, plan.seed)
        self.samples = {name: self.library.samples(name) for row in rows for name in _recordings(row)}
        self.rirs = {name: self._rir(name) for row in rows for name in _rirs(row)}

    def _rir(self, name: str) -> tuple[int, np.ndarray, np.ndarray]:
        """Onset, whole response, early response."""
        rir = self.library.rir(name).normalised
        return rir.onset, rir.samples, rir.samples[: rir.onset + round(EARLY_S * self.rate) + 1]

    def run(self) -> tuple[float, float]:
        """Seconds it took, and seconds of audio."""
        began, samples = time.perf_counter(), 0
        for row in self.rows:
            clean, noisy = self.row(row)
            for side in (clean, noisy):
                soundfile.write(io.BytesIO(), side, self.rate, format="FLAC", subtype="PCM_16")
            samples += len(clean)
        return time.perf_counter() - began, samples / self.rate

    def row(self, row: Row) -> tuple[np.ndarray, np.ndarray]:
        """Clean and noisy as 16-bit integers."""
        speech = self.samples[row.speech]
        clean = noisy = speech
        for operation in row.operations:
            if isinstance(operation, Reverberate):
                onset, whole, early = self.rirs[str(operation.rir)]
                clean, noisy = _both(speech, early, whole, onset)
            elif isinstance(operation, BandLimit):
                sos = butter(operation.rolloff_db_per_octave // 12, operation.cutoff_hz, fs=self.rate, output="sos")
                noisy = sosfiltfilt(sos, noisy).astype(np.float32)
            elif isinstance(operation, AddNoise):
                noise = self.samples[str(operation.recording)]
                start = int(float(operation.offset) * len(noise)) % len(noise)  # type: ignore[arg-type]
                noise = np.resize(np.concatenate([noise[start:], noise[:start]]), len(noisy))
                noisy = noisy + noise * np.float32(levels.snr_gain(noisy, noise, operation.snr_db, self.rate))  # type: ignore[arg-type]
        peak = max(np.abs(clean).max(), np.abs(noisy).max(), CEILING)
        gain = np.float32(math.floor(CEILING / peak * 1e5) / 1e5 * STEPS) if peak > CEILING else np.float32(STEPS)
        return np.rint(clean * gain).astype(np.int16), np.rint(noisy * gain).astype(np.int16)

    def agrees(self, count: int = 32) -> bool:
        """Whether the first rows are those that `render` gives."""
        for row in self.rows[:count]:
            mixture, _ = render(row, self.plan.scenario, self.library)
            for ours, bare in zip((mixture.clean, mixture.noisy), self.row(row), strict=True):
                if np.abs(ours * STEPS - bare).max() > MOST_STEPS_APART:
                    return False
        return True


def _both(speech: np.ndarray, one: np.ndarray, other: np.ndarray, onset: int) -> tuple[np.ndarray, np.ndarray]:
    """The speech convolved with two responses, without their travel time."""
    size = scipy.fft.next_fast_len(len(speech) + len(other) - 1, real=True)
    spectrum = scipy.fft.rfft(speech, size)
    wet = [scipy.fft.irfft(spectrum * scipy.fft.rfft(rir, size), size) for rir in (one, other)]
    return wet[0][onset : onset + len(speech)], wet[1][onset : onset + len(speech)]


def _recordings(row: Row) -> list[str]:
    return [row.speech, *(str(each.recording) for each in row.operations if isinstance(each, AddNoise))]


def _rirs(row: Row) -> list[str]:
    return [str(each.rir) for each in row.operations if isinstance(each, Reverberate)]
