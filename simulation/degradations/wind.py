"""Wind: turbulence at the microphone, in gusts, and what a device's gain control makes of the speech beneath it."""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.interpolate import PchipInterpolator

from simulation import levels
from simulation.chance import generator
from simulation.degradations.base import Degradation, Mixture, Recordings, Waveform, number
from simulation.schema import Amount, Range

LOWEST_HZ = 20.0
"""Below it the spectrum of the wind is flat: microphones do not follow."""

TURBULENCE_HZ = 10.0
"""How fast the level flutters within a gust."""

BLOCK_S = 0.001
"""Time resolution of the ducking."""


class AddWind(Degradation):
    """Add synthesised wind noise, made from the numbers of the row alone, and duck the speech beneath it if asked.

    White noise is given the spectrum of wind (power falls as 1/f up to a corner, and by 1/f^3 above it), and a level
    that follows the square of a wind speed, which wanders from gust to gust and flutters within. The ratio is taken
    before any ducking. Ducking is a side-chain compressor on the speech, driven by the wind. The clean side is left
    alone, so the pair keeps its gain.

    Source: wind of the URGENT 2025 simulator (SNR -10 to 15 dB, 3 to 10 gusts in 15 s, ratio 1 to 20, attack and
    release 5 to 100 ms). Here every row has a wind of its own instead of 200 stored clips; the threshold is relative to
    the wind's peak (its 0.1 to 0.3 of full scale, for normalised clips); clipping is a degradation of its own, so that
    its probability is what it says; target and mixture are never scaled apart. The spectrum is ours: no wind was
    measured for it.
    """

    kind: Literal["wind"] = "wind"

    seed: Amount = Range(low=0.0, high=2.0**31)
    """Which wind; its whole part counts."""

    snr_db: Amount = Range(low=-10.0, high=15.0)
    """Active speech level over mean wind power, in dB."""

    gusts_per_s: Amount = Range(low=0.2, high=0.67)
    """How often the wind changes."""

    corner_hz: Amount = Range(low=100.0, high=400.0)
    """Above it the spectrum falls by 9 dB an octave, below it by 3."""

    ratio: Amount = 1.0
    """Decibels of wind above the threshold that leave one decibel in the speech; 1 leaves the speech alone."""

    threshold_db: Amount = Range(low=-20.0, high=-10.5)
    """Level of the wind, in dB below its peak, above which the speech is ducked."""

    attack_ms: Amount = Range(low=5.0, high=100.0)
    """Time constant with which ducking sets in."""

    release_ms: Amount = Range(low=5.0, high=100.0)
    """Time constant with which it ends."""

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """Wind on the noisy side only; records `snr_db` before ducking, and `ducking_db` where there is any."""
        samples, rate = len(mixture.noisy), mixture.sample_rate
        raw = wind(int(number(self.seed)), samples, rate, number(self.gusts_per_s), number(self.corner_hz))
        scaled, snr_db = levels.at_snr(mixture.noisy, raw, number(self.snr_db), rate)
        measured = {"snr_db": snr_db}
        speech = mixture.noisy
        if number(self.ratio) > 1.0:
            gain_db = self._ducking_db(scaled, rate)
            speech = (speech * 10 ** (gain_db / 20)).astype(np.float32)
            measured["ducking_db"] = float(gain_db.mean())
        return replace(mixture, noisy=speech + scaled, measured={**mixture.measured, **measured})

    def _ducking_db(self, scaled: Waveform, sample_rate: int) -> NDArray[np.float64]:
        """Gain for the speech, [samples], in dB, at most 0."""
        block = max(round(BLOCK_S * sample_rate), 1)
        starts = np.arange(0, len(scaled), block)
        peaks = np.maximum.reduceat(np.abs(scaled), starts).astype(np.float64)
        above_db = 20 * np.log10(np.maximum(peaks / peaks.max(), 1e-6)) - number(self.threshold_db)
        wanted_db = -np.maximum(above_db, 0.0) * (1 - 1 / number(self.ratio))
        followed = _followed(wanted_db, number(self.attack_ms) / 1e3, number(self.release_ms) / 1e3)
        return np.interp(np.arange(len(scaled)), starts, followed)


def wind(seed: int, samples: int, sample_rate: int, gusts_per_s: float, corner_hz: float) -> Waveform:
    """Wind noise, [samples], of mean power 1; a pure function of its arguments, built on `random` alone."""
    white = generator("wind", seed, "white").random(samples) - 0.5
    coloured = _filtered(white, sample_rate, corner_hz)
    loudness = np.square(_speed(seed, samples / sample_rate, np.arange(samples) / sample_rate, gusts_per_s))
    gusty = coloured * loudness
    return (gusty / np.sqrt(np.mean(np.square(gusty)))).astype(np.float32)


def _filtered(white: NDArray[np.float64], sample_rate: int, corner_hz: float) -> NDArray[np.float64]:
    """The colour of wind, without phase."""
    size = next_fast_len(len(white), real=True)
    frequency_hz = np.maximum(rfftfreq(size, 1 / sample_rate), LOWEST_HZ)
    colour = np.sqrt(LOWEST_HZ / frequency_hz) / np.sqrt(1 + (frequency_hz / corner_hz) ** 2)
    return irfft(rfft(white, size) * colour, size)[: len(white)]


def _speed(seed: int, seconds: float, time_s: NDArray[np.float64], gusts_per_s: float) -> NDArray[np.float64]:
    """Wind speed at these times: from gust to gust smoothly between 0.2 and 1, times a flutter of about a fifth."""
    gusts = _wandering(generator("wind", seed, "gusts"), seconds, time_s, gusts_per_s)
    flutter = _wandering(generator("wind", seed, "flutter"), seconds, time_s, TURBULENCE_HZ)
    return (0.2 + 0.8 * gusts) * (0.8 + 0.4 * flutter)


def _wandering(
    rng: np.random.Generator, seconds: float, time_s: NDArray[np.float64], turns_per_s: float
) -> NDArray[np.float64]:
    """Smoothly from one number in [0, 1] to the next, so many a second, beginning within a turn."""
    start_s = -rng.random() / turns_per_s
    knots = rng.random(int((seconds - start_s) * turns_per_s) + 3)
    return PchipInterpolator(start_s + np.arange(len(knots)) / turns_per_s, knots)(time_s)


def _followed(wanted_db: NDArray[np.float64], attack_s: float, release_s: float) -> NDArray[np.float64]:
    """The gain as a compressor reaches it, block by block: down by the attack's time constant, up by the release's."""
    attack, release = (float(np.exp(-BLOCK_S / time_s)) for time_s in (attack_s, release_s))
    followed, level = [], 0.0
    for target in wanted_db.tolist():
        keep = attack if target < level else release
        level = target + keep * (level - target)
        followed.append(level)
    return np.array(followed)
