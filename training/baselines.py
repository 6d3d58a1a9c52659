"""The rows that every scorecard carries and that learnt nothing: the unprocessed input, spectral subtraction, and
perceptual contrast stretching on its own.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from simulation.measures import bandwidth_hz
from training.contrast import stretch

Waveform = NDArray[np.floating]
"""`[samples]`, full scale at 1."""

WINDOW_S = 0.032
SMOOTHING_S = 0.12
"""Length of the average over time before the quietest moments are looked for."""
QUIET_SHARE = 0.1
"""The noise power of a bin is taken from the quietest tenth of its frames."""
QUIET_BIAS = 1.7
"""Mean over lowest tenth of the smoothed power of white noise; undoes the bias of looking for quiet moments."""
POWER_FLOOR = 0.01
"""β: the least share of the noise power that is left standing, as a bed under the musical tones."""


def unprocessed(noisy: Waveform, sample_rate: int) -> Waveform:
    """The input as it is, [samples]: what every system has to improve on."""
    return noisy


def spectral_subtraction(noisy: Waveform, sample_rate: int) -> Waveform:
    """Subtract an estimate of the stationary noise power from each frame of `noisy` [samples]; the phase is kept.

    Power subtraction with over-subtraction α, which depends on the frame's SNR, and a spectral floor β: Berouti,
    Schwartz and Makhoul, "Enhancement of speech corrupted by acoustic noise", ICASSP 1979, after Boll, IEEE TASSP
    27(2), 1979. They measure the noise in a pause; here it is a low quantile over the whole utterance, as in Stahl,
    Fischer and Bippus, "Quantile based noise estimation for spectral subtraction and Wiener filtering", ICASSP 2000,
    so that no speech detector is needed.
    """
    window = hann(2 * int(WINDOW_S * sample_rate / 2), sym=False)
    if len(noisy) < len(window):
        return noisy
    transform = ShortTimeFFT(window, hop=len(window) // 4, fs=sample_rate)
    spectrum = transform.stft(noisy.astype(np.float64))
    power = np.abs(spectrum) ** 2
    kept = np.sqrt(_subtract(power, _noise_power(power, transform.delta_t)) / np.maximum(power, 1e-20))
    return transform.istft(spectrum * kept, k1=len(noisy)).astype(np.float32)


def _noise_power(power: np.ndarray, frame_s: float) -> np.ndarray:
    """Mean noise power of each bin, [bins, 1], from the quiet frames of `power` [bins, frames]."""
    smooth = uniform_filter1d(power, max(1, round(SMOOTHING_S / frame_s)), axis=1, mode="nearest")
    return QUIET_BIAS * np.quantile(smooth, QUIET_SHARE, axis=1, keepdims=True)


def _subtract(power: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Power [bins, frames] less α times the noise [bins, 1], never below β times the noise nor above what was there.

    α falls from 4.75 at -5 dB to 1 at 20 dB of frame SNR (Berouti et al., figure 5).
    """
    frame_snr_db = 10 * np.log10(np.maximum(power.sum(axis=0), 1e-20) / np.maximum(noise.sum(), 1e-20))
    over_subtraction = np.clip(4.0 - 0.15 * frame_snr_db, 1.0, 4.75)
    floor = np.minimum(POWER_FLOOR * noise, power)
    return np.maximum(power - over_subtraction * noise, floor)


class MeanSpectrumFill:
    """Fill the band above the input's effective bandwidth with the mean spectrum of clean training speech.

    What band extension without any look at the speech gives: each frame gets the mean log magnitude of its bins over
    the training frames, at the utterance's level, under the noisy phase. It learnt a mean, so it is no row of every
    scorecard; it is what a network has to beat before its filling of a lost band means anything.
    """

    def __init__(self, training: Iterable[Waveform], sample_rate: int) -> None:
        """From clean utterances [samples] at one rate."""
        self.transform = _frames_of(sample_rate)
        logs = [
            np.log(np.maximum(np.abs(self.transform.stft(clean / _rms(clean))), 1e-5))
            for clean in training
            if len(clean) >= self.transform.m_num and clean.any()
        ]
        self.magnitude = np.exp(np.concatenate(logs, axis=1).mean(axis=1, keepdims=True))
        """[bins, 1], for an utterance whose RMS is 1."""

    def __call__(self, noisy: Waveform, sample_rate: int) -> Waveform:
        """[samples] out; the band that is there is left alone."""
        if len(noisy) < self.transform.m_num or not noisy.any():
            return noisy
        spectrum = self.transform.stft(noisy.astype(np.float64))
        lost = self.transform.f > bandwidth_hz(noisy, sample_rate)
        filled = np.where(lost[:, None], self.magnitude * _rms(noisy) * np.exp(1j * np.angle(spectrum)), spectrum)
        return self.transform.istft(filled, k1=len(noisy)).astype(np.float32)


def _frames_of(sample_rate: int) -> ShortTimeFFT:
    window = hann(2 * int(WINDOW_S * sample_rate / 2), sym=False)
    return ShortTimeFFT(window, hop=len(window) // 4, fs=sample_rate)


def _rms(waveform: Waveform) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


BASELINES: dict[str, Callable[[Waveform, int], Waveform]] = {
    "unprocessed": unprocessed,
    "spectral_subtraction": spectral_subtraction,
    "contrast_stretching": stretch,
}
"""What may stand in place of a version's address; each takes [samples] and the rate (Hz), and gives [samples]."""
