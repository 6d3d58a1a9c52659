"""Perceptual contrast stretching: its weights, for networks that are trained on it and as post-processing.

log(1 + |X|) of each bin of a spectrum X is multiplied by W >= 1; the phase is kept. Source: Chao et al., "Perceptual
contrast stretching on target feature for speech enhancement", Interspeech 2022.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hamming

BAND_IMPORTANCE = (0.0, 0.010, 0.026, 0.041, 0.057, 0.046, 0.034, 0.023, 0.011)
"""Band importance (ANSI S3.5, critical bands), with the three digits that the published weights have."""
FULL_GAIN = 0.4
"""Of the most important band: its weight is 1.4."""
BIN_HZ = 31.25
"""Distance of the bins of the published table of 257, at 16 kHz."""
BAND_EDGES: dict[int, tuple[int, ...]] = {
    257: (0, 3, 6, 9, 12, 138, 166, 200, 241, 256),
    201: (0, 3, 5, 8, 10, 110, 130, 160, 190, 201),
}
"""Bin where each band begins, and where the last one ends, by the number of bins at 16 kHz; as published.

The 257 are the edges in Hz over 32, not over 31.25, and so 2 % below the critical bands; the slice of the last band
ends before the last bin. Those of 201 bins (40 Hz apart) end at 5200 and 7600 Hz where the bands end at 5300 and 7700.
"""


def contrast_weights(bins: int, table: int = 257) -> np.ndarray:
    """W of each bin, [bins], 1 + 0.4 times the importance of its band over that of the most important one.

    Bins are as far apart as those of the published table; those beyond it weigh 1. The tables sum up to 333.947368 (257
    bins) and 261.568421 (201).
    """
    weights = np.ones(bins)
    for (begin, end), importance in zip(pairwise(BAND_EDGES[table]), BAND_IMPORTANCE, strict=True):
        weights[begin:end] += FULL_GAIN * importance / max(BAND_IMPORTANCE)
    return weights


def stretch(waveform: NDArray[np.floating], sample_rate: int) -> NDArray[np.floating]:
    """Raise the contrast of the bands that matter for speech, in `waveform` [samples]; the phase is kept.

    log(1 + |X|) of each bin is multiplied by its weight. It needs no network and removes no noise: as a baseline it
    tells what a network adds to it, behind any network it is post-processing. PESQ rises; the waveform is recoloured,
    so SI-SDR falls. The gain grows with the level, and a common factor brings the peak back to where it was, where the
    published script fills full scale. Silence, and what is shorter than a window, come back as they are.

    Source: Chao et al., "Perceptual contrast stretching on target feature for speech enhancement", Interspeech 2022,
    as post-processing: 32 ms Hamming window, half overlapped, transform not normalised.
    """
    size = 2 * round(sample_rate / BIN_HZ / 2)
    if len(waveform) < size or not waveform.any():
        return waveform
    transform = ShortTimeFFT(hamming(size, sym=False), hop=size // 2, fs=sample_rate)
    spectrum = transform.stft(waveform.astype(np.float64))
    magnitude = np.maximum(np.abs(spectrum), 1e-20)
    gain = np.expm1(contrast_weights(len(magnitude))[:, None] * np.log1p(magnitude)) / magnitude
    stretched = transform.istft(spectrum * gain, k1=len(waveform))
    return np.asarray(stretched * (np.abs(waveform).max() / np.abs(stretched).max()), dtype=np.float32)
