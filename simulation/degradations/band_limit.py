"""Band limitation: the top of the spectrum is missing, as on a telephone line or after careless resampling."""

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.signal import ShortTimeFFT, bessel, cheby1, ellip, get_window, resample_poly, sosfiltfilt

from simulation import audio
from simulation.degradations.base import Degradation, Mixture, Recordings, Waveform, drawn, extremes, number
from simulation.degradations.effects import rendered
from simulation.errors import BadAudio
from simulation.schema import Amount, OneOf, Range

SHORTEST_SAMPLES = 64
"""A filter that runs forwards and backwards needs some signal to start from."""

RIPPLE_DB = 0.1
STOPBAND_DB = 60.0
"""Of one pass: ripple of `cheby1` and `ellip` below the cutoff, attenuation of `ellip` above it."""

RATE_STEP_HZ = 100
"""Polyphase filters go by whole ratios; rates in such steps keep them short."""

STFT_S = 0.046
"""Window of `stft`, rounded to a power of two in samples (VoiceFixer: 2048 at 44.1 kHz)."""

Family = Literal["butter", "cheby1", "ellip", "bessel", "polyphase", "soxr", "stft"]


class BandLimit(Degradation):
    """Low-pass the noisy waveform, without delay; the clean target stays full-band.

    butter     1.2   -6 dB at the cutoff
    cheby1     1.1   0.2 dB of ripple up to the cutoff
    ellip      1.05  the same ripple, and never less than 120 dB down above its transition
    bessel     2.2   -6 dB at the cutoff
    polyphase  1.2   resampled to twice the cutoff (in steps of 100 Hz) and back, by SciPy's Kaiser-windowed filter
    soxr       1.0   resampled to twice the cutoff and back, by soxr's HQ filter
    stft       1.1   every bin at or above the cutoff is zero

    Above so many times the cutoff, the energy is more than 50 dB down (of white noise, at 120 dB per octave). All have
    zero phase, so the pair stays aligned: the first four run forwards and backwards. `butter` is audiomentations'
    filter, which would draw its own cutoff from the global `random`; its parameters are set and frozen by us instead.
    audiomentations has none of the others; they are SciPy's and soxr's.

    Source: the low-pass of VoiceFixer's training configuration (order 2 to 10 of the first four, polyphase and STFT;
    its ripple and attenuation are not copied), and the resampling of the URGENT challenges (to 8 to 44.1 kHz, by four
    resamplers of which two are here in kind).
    """

    kind: Literal["band_limit"] = "band_limit"

    cutoff_hz: Amount = Range(low=1000.0, high=4000.0)
    """Where the band ends, in Hz; above 0 and below half the scenario's sample rate."""

    target_rate: int | OneOf | None = None
    """Sample rate (Hz) whose band is left: where given, the cutoff is half of it, and `cutoff_hz` has no say."""

    family: Family | OneOf = "butter"
    """Which filter."""

    rolloff_db_per_octave: Annotated[int, Field(ge=12, le=240, multiple_of=12)] | OneOf = 120
    """Steepness above the cutoff of `butter`: 12 for each order of one direction, which is the order of the other three
    too. No say in the last three families."""

    def check(self, sample_rate: int) -> None:
        """The cutoff lies inside the band."""
        name, amount = ("cutoff_hz", self.cutoff_hz) if self.target_rate is None else ("target_rate", self.target_rate)
        low, high = extremes(amount)
        limit = sample_rate / 2 if self.target_rate is None else sample_rate
        if not 0 < low <= high < limit:
            raise ValueError(
                f"{name} goes from {low:g} to {high:g}; it must lie between 0 and {limit:g}, half the sample rate"
                if self.target_rate is None
                else f"{name} goes from {low:g} to {high:g}; it must lie between 0 and {limit:g}, the sample rate"
            )

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side loses what is above the cutoff; records `cutoff_hz`."""
        if len(mixture.noisy) < SHORTEST_SAMPLES:
            raise BadAudio(f"{len(mixture.noisy)} samples are too short to filter; at least {SHORTEST_SAMPLES} needed")
        target_rate = drawn(self.target_rate)
        family: Family = drawn(self.family)
        cutoff_hz = number(self.cutoff_hz) if target_rate is None else target_rate / 2
        if family == "polyphase":
            cutoff_hz = max(round(2 * cutoff_hz / RATE_STEP_HZ), 1) * RATE_STEP_HZ / 2
        noisy = low_pass(mixture.noisy, mixture.sample_rate, cutoff_hz, family, drawn(self.rolloff_db_per_octave))
        return replace(mixture, noisy=noisy, measured={**mixture.measured, "cutoff_hz": cutoff_hz})


def low_pass(samples: Waveform, sample_rate: int, cutoff_hz: float, family: Family, rolloff: int) -> Waveform:
    """The samples without what is above the cutoff, as long as before, with zero phase."""
    order = rolloff // 12
    match family:
        case "butter":
            settings = {"min_rolloff": rolloff, "max_rolloff": rolloff, "zero_phase": True}
            parameters = {"cutoff_freq": cutoff_hz, "rolloff": rolloff}
            return rendered("LowPassFilter", samples, sample_rate, parameters, **settings)
        case "cheby1":
            return _zero_phase(cheby1(order, RIPPLE_DB, cutoff_hz, output="sos", fs=sample_rate), samples)
        case "ellip":
            return _zero_phase(ellip(order, RIPPLE_DB, STOPBAND_DB, cutoff_hz, output="sos", fs=sample_rate), samples)
        case "bessel":
            return _zero_phase(bessel(order, cutoff_hz, norm="mag", output="sos", fs=sample_rate), samples)
        case "polyphase":
            down = resample_poly(samples, round(2 * cutoff_hz), sample_rate)
            return resample_poly(down, sample_rate, round(2 * cutoff_hz))[: len(samples)].astype(np.float32)
        case "soxr":
            rate = round(2 * cutoff_hz)
            back = audio.resample(audio.resample(samples, sample_rate, rate), rate, sample_rate)
            return np.pad(back, (0, max(len(samples) - len(back), 0)))[: len(samples)]
        case "stft":
            return _without_bins(samples, sample_rate, cutoff_hz)


def _zero_phase(sos: np.ndarray, samples: Waveform) -> Waveform:
    return sosfiltfilt(sos, samples).astype(np.float32)


def _without_bins(samples: Waveform, sample_rate: int, cutoff_hz: float) -> Waveform:
    size = 2 ** round(np.log2(STFT_S * sample_rate))
    stft = ShortTimeFFT(get_window("hann", size), hop=size // 2, fs=sample_rate)
    padded = np.pad(samples, (0, max(size - len(samples), 0)))
    spectrum = stft.stft(padded)
    spectrum[stft.f >= cutoff_hz] = 0.0
    return stft.istft(spectrum, k1=len(padded))[: len(samples)].astype(np.float32)
