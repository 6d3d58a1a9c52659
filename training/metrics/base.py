"""What a metric is: a number per utterance, with its direction, unit, rate and version, or a stated failure.

Every metric passes through the same checks, so that none of them can turn bad input into a plausible number:
equal lengths, finite samples, full scale at 1, neither side silent. What cannot be scored raises `MetricFailed`; the
evaluation counts and lists failures and leaves them out of every mean.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from simulation.audio import resample

Waveform = NDArray[np.floating]
"""`[samples]`, full scale at 1."""

SILENCE_PEAK = 2.0**-16
"""Half a step of 16 bit audio: a waveform that stays below this is digital silence once it is written to a file."""

LARGEST_PEAK = 100.0
"""40 dB above full scale. What peaks higher is no waveform with full scale at 1, but 16 bit integers or a network that
blew up; some metrics would answer it with a plausible number."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class MetricFailed(Exception):
    """This utterance has no value of this metric; `reason` says why in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Metric:
    """One number per utterance.

    `measure(clean, enhanced, sample_rate)` receives checked float64 waveforms and may raise `MetricFailed`; callers
    use `score`, which checks first. Where `needs_noisy`, the noisy waveform is its fourth argument.
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
    measure: Callable[..., float]
    fails_when: str = ""
    """When it raises `MetricFailed`, beyond what no metric scores."""
    needs_noisy: bool = False
    """Whether the noisy utterance is needed too."""
    needs_weights: str | None = None
    """Environment variable with the path of its weights; None where it needs none or brings them along."""
    scores_silence: bool = False
    """Whether a silent enhanced has a value."""
    upsamples: bool = False
    """Whether audio below `sample_rate` is brought up to it; otherwise such audio has no value."""

    def score(
        self, clean: np.ndarray, enhanced: np.ndarray, sample_rate: int, noisy: np.ndarray | None = None
    ) -> float:
        """The value for one utterance; all waveforms are [samples] at `sample_rate` (Hz)."""
        if self.needs_noisy and noisy is None:
            raise MetricFailed("needs the noisy utterance, which was not given")
        waveforms = [_checked("clean", clean, clean.shape, may_be_silent=not self.needs_clean)]
        waveforms.append(_checked("enhanced", enhanced, clean.shape, may_be_silent=self.scores_silence))
        if self.needs_noisy and noisy is not None:
            waveforms.append(_checked("noisy", noisy, clean.shape, may_be_silent=False))
        if self.sample_rate is not None and sample_rate != self.sample_rate:
            if sample_rate < self.sample_rate and not self.upsamples:
                raise MetricFailed(f"needs {self.sample_rate} Hz, the audio has {sample_rate} Hz")
            waveforms = [_resampled(waveform, sample_rate, self.sample_rate) for waveform in waveforms]
        value = float(self.measure(*waveforms[:2], self.sample_rate or sample_rate, *waveforms[2:]))
        if not np.isfinite(value):
            raise MetricFailed(f"gave {value}")
        return value


def shared(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, with its last answer kept: metrics of one family are asked one after the other about one audio.

    Arguments are told apart by their content, so that an array that was written to is a new one.
    """
    last: list[tuple[bytes, Result]] = []

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        digest = blake2b()
        for argument in (*args, *sorted(kwargs.items())):
            digest.update(argument.tobytes() if isinstance(argument, np.ndarray) else repr(argument).encode())
            digest.update(b";")
        key = digest.digest()
        if not last or last[0][0] != key:
            last[:] = [(key, function(*args, **kwargs))]
        return last[0][1]

    return call


def _checked(name: str, waveform: np.ndarray, shape: tuple[int, ...], may_be_silent: bool) -> np.ndarray:
    """The waveform as float64, or `MetricFailed`."""
    if waveform.ndim != 1 or waveform.shape != shape:
        raise MetricFailed(f"shapes differ: clean {shape}, {name} {waveform.shape}")
    if waveform.size == 0:
        raise MetricFailed("no samples")
    if not np.isfinite(waveform).all():
        raise MetricFailed(f"{name} holds NaN or infinity")
    peak = float(np.abs(waveform).max())
    if peak > LARGEST_PEAK:
        raise MetricFailed(f"{name} peaks at {peak:.0f}, where full scale is 1")
    if peak < SILENCE_PEAK and not may_be_silent:
        raise MetricFailed(f"{name} is silent")
    return waveform.astype(np.float64)


def _resampled(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    return resample(waveform.astype(np.float32), from_rate, to_rate).astype(np.float64)
