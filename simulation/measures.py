"""What can be measured of one waveform alone: clipping, silence, effective bandwidth, noise floor, estimated SNR.

The same measures are taken of every source when it is scanned and, where they are cheap, of every rendered row, so that
a card can set what was asked beside what came out.
"""

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from simulation import levels

Waveform = NDArray[np.floating]
"""`[samples]`, full scale at 1."""

FLAT_TOP = 0.99
"""A flat top is two or more equal samples at or above this share of the peak."""

BAND_FRAME_S = 0.032
BAND_FLOOR_DB = -50.0
"""Effective bandwidth: frames of 32 ms, highest bin within 50 dB of the spectral peak (the URGENT challenge's rule)."""

BAND_SMOOTHING_HZ = 250.0
"""The power spectrum is averaged over so many Hz first, so that one strong tone is not the peak of it all."""

FRAME_S = 0.020
"""Frames of the noise floor and of silence."""

SILENCE_DB = -60.0
"""A frame this far below the loudest one, or below `levels.SILENT_BELOW_DB`, is silence: nothing was recorded there."""

FLOOR_PERCENTILE = 10
"""Of the frames with sound in them: speech pauses more than a tenth of the time, so here is what sounds in pauses."""


def heard_in(clean: Waveform, noisy: Waveform, sample_rate: int) -> dict[str, float]:
    """What every rendered row records of its two waveforms, under the names of `simulation.manifest.Measured`.

    Some 1 ms for 5 s at 16 kHz; silence has no level.
    """
    level_db = {"level_db": levels.rms_db(noisy), "clean_level_db": levels.rms_db(clean)}
    found = {name: value for name, value in level_db.items() if np.isfinite(value)}
    return found | {"bandwidth_hz": bandwidth_hz(noisy, sample_rate), "flat_share": clipped_share(noisy)}


def clipped_share(samples: Waveform) -> float:
    """Share of samples that lie on flat tops: equal to their neighbour, at or above 0.99 of the peak."""
    size = np.abs(samples)
    top = size >= FLAT_TOP * size.max()
    return np.count_nonzero(top[1:] & (samples[1:] == samples[:-1])) / len(samples) if size.any() else 0.0


def bandwidth_hz(samples: Waveform, sample_rate: int) -> float:
    """Effective bandwidth: the highest frequency whose mean power is within 50 dB of the spectrum's peak.

    A white floor below a loud low voice does not count as bandwidth; noise that can be heard does. Silence has none.
    """
    frame = round(BAND_FRAME_S * sample_rate)
    whole = samples[: max(len(samples) // frame, 1) * frame]
    frames = whole if len(whole) >= frame else np.pad(whole, (0, frame - len(whole)))
    spectra = scipy.fft.rfft(frames.reshape(-1, frame) * _window(frame), axis=1)
    parts = spectra.view(spectra.real.dtype)  # real and imaginary side by side
    power = np.einsum("fb,fb->b", parts, parts).reshape(-1, 2).sum(axis=1, dtype=np.float64)
    power[:2] = 0.0  # an offset, which the window spreads over two bins, is no sound
    width = max(round(BAND_SMOOTHING_HZ * frame / sample_rate), 1)
    smooth = np.convolve(power, np.ones(width) / width, mode="same")
    if not smooth.any():
        return 0.0
    return float(np.flatnonzero(smooth >= smooth.max() * levels.from_db(BAND_FLOOR_DB))[-1] * sample_rate / frame)


def silent_share(samples: Waveform, sample_rate: int) -> float:
    """Share of 20 ms frames with nothing in them, 60 dB below the loudest one: cut out, gated or padded."""
    power = _frame_power(samples, sample_rate)
    return float(np.mean(~_sounding(power)))


def noise_floor_db(samples: Waveform, sample_rate: int) -> float:
    """Level of what sounds in the pauses, in dBFS: the tenth percentile of the power of frames that are not silent."""
    power = _frame_power(samples, sample_rate)
    sounding = power[_sounding(power)]
    return levels.to_db(float(np.percentile(sounding, FLOOR_PERCENTILE))) if len(sounding) else -np.inf


def estimated_snr_db(samples: Waveform, sample_rate: int) -> float:
    """Active speech level over the noise floor, the floor taken out of the speech first; 0 where nothing exceeds it.

    An estimate from the noisy signal alone, good to some 3 dB for a steady noise; where nobody pauses, too low.
    """
    floor = levels.from_db(noise_floor_db(samples, sample_rate))
    active = levels.from_db(levels.active_level_db(samples, sample_rate))
    return max(levels.to_db(max(active - floor, 0.0) / floor), 0.0) if floor > 0 else np.inf


def _frame_power(samples: Waveform, sample_rate: int) -> NDArray[np.float64]:
    """Mean power of each whole 20 ms frame; of the whole where it is shorter than one."""
    frame = min(max(round(FRAME_S * sample_rate), 1), len(samples))
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    return np.mean(np.square(frames, dtype=np.float64), axis=1)


def _sounding(power: NDArray[np.float64]) -> NDArray[np.bool_]:
    return power > max(power.max() * levels.from_db(SILENCE_DB), levels.from_db(levels.SILENT_BELOW_DB))


@lru_cache(maxsize=8)
def _window(frame: int) -> NDArray[np.float32]:
    """Hann."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)).astype(np.float32)
