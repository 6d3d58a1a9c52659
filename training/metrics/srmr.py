"""SRMR: speech-to-reverberation modulation energy ratio; hears the enhanced alone.

Two variants of one definition, which differ by a factor of two on the same audio: compare only values of the same one.
`srmr` (full) filters with 23 gammatone filters and takes Hilbert envelopes; `srmr_fast` approximates the envelopes by a
weighted spectrogram at 400 Hz. Neither normalises modulation energies.

Only the average over frames of the windowed modulation energies enters, so that no frame is ever cut: each sample's
square counts with the sum of the squared windows that cover it.
"""

from functools import lru_cache

import numpy as np
from scipy.signal import lfilter, sosfilt
from scipy.signal.windows import hamming

from training.metrics.base import Metric, MetricFailed, Waveform

CHANNELS, LOWEST_HZ = 23, 125.0
EAR_Q, LEAST_WIDTH_HZ = 9.26449, 24.7
"""Glasberg's and Moore's equivalent rectangular bandwidth: f / 9.26449 + 24.7."""
MODULATIONS_HZ = 4.0 * (128.0 / 4.0) ** (np.arange(8) / 7)
MODULATION_Q = 2.0
SPEECH_BANDS = 4
"""The lowest four modulation bands count as speech, the others as reverberation."""
WINDOW_S, WINDOW_HOP_S = 0.256, 0.064
ENERGY_SHARE = 0.9
"""The highest reverberation band follows from the bandwidth below which this share of the energy lies."""
ENVELOPE_RATE, FAST_WINDOW_S = 400, 0.01


def measure_full(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Ratio of modulation energies, with gammatone filters and Hilbert envelopes.

    Source: Falk, Zheng and Chan, "A non-intrusive quality and intelligibility measure of reverberant and dereverberated
    speech", IEEE TASLP 18(7), 2010; filters of Slaney, Apple technical report 35, 1993. Reproduces SRMRpy, fast=False.
    """
    _long_enough(enhanced, sample_rate)
    centres = _centres(sample_rate)
    energies = _modulation_energies(_envelopes(enhanced, sample_rate), sample_rate)
    return _ratio(energies[::-1], centres[::-1], sample_rate)


def measure_fast(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """The same with envelopes from a spectrogram; reproduces SRMRpy, fast=True.

    There the channels are summed from the top and bandwidths looked up from the bottom; kept, so that values compare.
    """
    _long_enough(enhanced, sample_rate)
    energies = _modulation_energies(_spectral_envelopes(enhanced, sample_rate), ENVELOPE_RATE)
    return _ratio(energies, _centres(sample_rate)[::-1], sample_rate)


def _long_enough(enhanced: Waveform, sample_rate: int) -> None:
    if len(enhanced) < WINDOW_S * sample_rate:
        raise MetricFailed(f"shorter than {WINDOW_S} s")


def _centres(sample_rate: int) -> np.ndarray:
    """Centre frequencies in Hz, from the highest down to `LOWEST_HZ`, evenly spaced in ERB."""
    offset = EAR_Q * LEAST_WIDTH_HZ
    low, high = LOWEST_HZ + offset, sample_rate / 2 + offset
    return high * (low / high) ** (np.arange(1, CHANNELS + 1) / CHANNELS) - offset


def _width_hz(centres: np.ndarray) -> np.ndarray:
    return centres / EAR_Q + LEAST_WIDTH_HZ


@lru_cache(maxsize=4)
def _gammatone(sample_rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slaney's fourth-order gammatone filters: zeros [channels, 4], poles and gains [channels], all real zeros."""
    angle = 2 * np.pi * _centres(sample_rate) / sample_rate
    radius = np.exp(-1.019 * 2 * np.pi * _width_hz(_centres(sample_rate)) / sample_rate)
    roots = np.sqrt(3 + np.array([1, 1, -1, -1]) * 2**1.5) * np.array([1, -1, 1, -1])
    zeros = radius[:, None] * (np.cos(angle)[:, None] + roots * np.sin(angle)[:, None])
    poles = radius * np.exp(1j * angle)
    at_centre = np.exp(1j * angle)
    gains = np.abs(
        np.prod(at_centre[:, None] - zeros, axis=1) / ((at_centre - poles) * (at_centre - poles.conj())) ** 4
    )
    return zeros, poles, gains


def _envelopes(waveform: Waveform, sample_rate: int) -> np.ndarray:
    """Hilbert envelopes behind each gammatone filter, [channels, samples]."""
    zeros, poles, gains = _gammatone(sample_rate)
    filtered = np.empty((CHANNELS, len(waveform)))
    for channel in range(CHANNELS):
        sections = np.zeros((4, 6))
        sections[:, 0], sections[:, 1], sections[:, 3] = 1.0, -zeros[channel], 1.0
        sections[:, 4], sections[:, 5] = -2 * poles[channel].real, np.abs(poles[channel]) ** 2
        filtered[channel] = sosfilt(sections, waveform) / gains[channel]
    return _envelope(filtered)


def _envelope(filtered: np.ndarray) -> np.ndarray:
    """Magnitude of the analytic signal over the whole length, as if it were periodic."""
    size = filtered.shape[1]
    spectrum = np.fft.fft(filtered, axis=1)
    spectrum[:, 1 : (size + 1) // 2] *= 2
    spectrum[:, size // 2 + 1 :] = 0
    return np.abs(np.fft.ifft(spectrum, axis=1))


def _spectral_envelopes(waveform: Waveform, sample_rate: int) -> np.ndarray:
    """Gammatone-weighted magnitudes of a spectrogram at `ENVELOPE_RATE`, [channels from low to high, frames]."""
    fft_size = int(2 ** np.ceil(np.log2(2 * FAST_WINDOW_S * sample_rate)))
    half, hop = round(FAST_WINDOW_S * sample_rate) // 2, sample_rate // ENVELOPE_RATE
    window = np.zeros(fft_size)
    window[fft_size // 2 - half : fft_size // 2 + half + 1] = np.hanning(2 * half + 1)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, fft_size)[::hop]
    magnitude = np.abs(np.fft.rfft(frames * window))
    return (_gammatone_response(fft_size, sample_rate)[::-1] @ magnitude.T) / fft_size


@lru_cache(maxsize=4)
def _gammatone_response(fft_size: int, sample_rate: int) -> np.ndarray:
    """Magnitude of each filter's response at the bins of a transform, [channels from high to low, bins]."""
    zeros, poles, gains = _gammatone(sample_rate)
    circle = np.exp(2j * np.pi * np.arange(fft_size // 2 + 1) / fft_size)
    above = np.abs(circle[None, :, None] - zeros[:, None, :]).prod(axis=2)
    below = np.abs((circle - poles[:, None]) * (circle - poles.conj()[:, None])) ** 4
    return above / below / gains[:, None]


def _modulation_energies(envelopes: np.ndarray, rate: int) -> np.ndarray:
    """Mean over windows of the energy behind each modulation filter, [channels, bands]."""
    weights = _window_weights(envelopes.shape[1], rate)
    energies = np.empty((len(envelopes), len(MODULATIONS_HZ)))
    for band, (numerator, denominator) in enumerate(_modulation_filters(rate)):
        energies[:, band] = lfilter(numerator, denominator, envelopes, axis=1) ** 2 @ weights
    return energies


def _modulation_filters(rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Second-order band passes of Q 2."""
    centre = np.tan(np.pi * MODULATIONS_HZ / rate)
    width = centre / MODULATION_Q
    return [
        (np.array([b, 0.0, -b]), np.array([1 + b + w**2, 2 * w**2 - 2, 1 - b + w**2]))
        for w, b in zip(centre, width, strict=True)
    ]


def _window_weights(samples: int, rate: int) -> np.ndarray:
    """How much each sample's square counts: the sum of the squared windows over it, by the number of windows."""
    size, hop = int(np.ceil(WINDOW_S * rate)), int(np.ceil(WINDOW_HOP_S * rate))
    count = 1 + (samples - size) // hop
    if count < 1:
        raise MetricFailed(f"no room for a window of {WINDOW_S} s")
    total = np.zeros(samples)
    for start in range(0, count * hop, hop):
        total[start : start + size] += hamming(size, sym=False) ** 2
    return total / count


def _ratio(energies: np.ndarray, centres: np.ndarray, sample_rate: int) -> float:
    """Speech bands over reverberation bands, up to the band that the bandwidth reaches."""
    shares = np.cumsum(energies.sum(axis=1)) / energies.sum()
    width = _width_hz(centres)[int(np.argmax(shares > ENERGY_SHARE))]
    half = np.tan(np.pi * MODULATIONS_HZ / sample_rate) / MODULATION_Q * sample_rate / (2 * np.pi)
    last = 5 + int((width > (MODULATIONS_HZ - half)[5:]).sum())
    return float(energies[:, :SPEECH_BANDS].sum() / energies[:, SPEECH_BANDS:last].sum())


SRMR = Metric(
    name="srmr",
    title="SRMR",
    unit="ratio",
    higher_is_better=True,
    sample_rate=16_000,
    needs_clean=False,
    version=1,
    definition=(
        "Speech-to-reverberation modulation energy ratio, full variant (gammatone filters, Hilbert envelopes, no "
        "normalisation), of the enhanced alone. About twice the fast variant: compare like with like."
    ),
    measure=measure_full,
    fails_when="shorter than 256 ms",
)

SRMR_FAST = Metric(
    name="srmr_fast",
    title="SRMR (fast)",
    unit="ratio",
    higher_is_better=True,
    sample_rate=16_000,
    needs_clean=False,
    version=1,
    definition=(
        "Speech-to-reverberation modulation energy ratio, fast variant (envelopes from a spectrogram at 400 Hz, no "
        "normalisation), of the enhanced alone. Not comparable with the full variant."
    ),
    measure=measure_fast,
    fails_when="shorter than about 290 ms",
)
