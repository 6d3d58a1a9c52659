"""WSS: weighted spectral slope distance, one of the parts of the composite measures."""

import functools

import numpy as np

from training.metrics.base import Waveform
from training.metrics.frames import mean_of_the_lowest, windowed

CENTRES_HZ = np.array(
    [
        *(50, 120, 190, 260, 330, 400, 470, 540, 617.372, 703.378, 798.717, 904.128, 1020.38),
        *(1148.30, 1288.72, 1442.54, 1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63),
    ]
)
"""The 25 critical bands of Klatt's distance."""
WIDTHS_HZ = np.array(
    [
        *(70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914),
        *(140.423, 153.823, 168.154, 183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136),
    ]
)
WEIGHT_FLOOR = float(np.exp(-30 / (2 * 2.303)))
"""Band weights below this are 0."""
POWER_FLOOR = 1e-10
"""Least energy of a band."""
SCALE = 32_768
"""Samples are divided by this, although full scale is 1 already: the scripts behind the published figures do so, and
because of `POWER_FLOOR` it moves the value. Kept, so that values compare."""
PEAK_WEIGHT_DB, LOCAL_PEAK_WEIGHT_DB = 20.0, 1.0
"""Klatt's constants: how fast a band's weight falls with its distance from the highest, and from its nearest, peak."""


def weighted_spectral_slope(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Mean over the best 95 % of frames of the weighted squared difference of slopes between neighbouring bands, dB².

    Source: Klatt, "Prediction of perceived phonetic distance from critical-band spectra", ICASSP 1982, in Loizou's
    form: the weights of both sides averaged, each frame divided by their sum.
    """
    bands, other = _bands_db(clean, sample_rate), _bands_db(enhanced, sample_rate)
    weights = (_weights(bands) + _weights(other)) / 2
    difference = np.diff(bands, axis=1) - np.diff(other, axis=1)
    return mean_of_the_lowest((weights * difference**2).sum(axis=1) / weights.sum(axis=1))


def _bands_db(waveform: Waveform, sample_rate: int) -> np.ndarray:
    """Energies of the critical bands in dB, [frames, bands]."""
    frames = windowed(waveform / SCALE, sample_rate)
    fft_size = int(2 ** np.ceil(np.log2(2 * frames.shape[1])))
    bank = _bank(fft_size // 2, sample_rate)
    used = int(np.flatnonzero(bank.any(axis=0))[-1]) + 1
    power = np.abs(np.fft.rfft(frames, fft_size)[:, :used]) ** 2
    return 10 * np.log10(np.maximum(power @ bank[:, :used].T, POWER_FLOOR))


@functools.lru_cache(maxsize=4)
def _bank(bins: int, sample_rate: int) -> np.ndarray:
    """Gaussian critical-band weights of equal sum, [bands, bins]."""
    centres, widths = (values[:, None] / (sample_rate / 2) * bins for values in (CENTRES_HZ, WIDTHS_HZ))
    gain = np.log(WIDTHS_HZ[0]) - np.log(WIDTHS_HZ)[:, None]
    weights = np.exp(-11 * ((np.arange(bins) - np.floor(centres)) / widths) ** 2 + gain)
    return np.where(weights > WEIGHT_FLOOR, weights, 0.0)


def _weights(bands: np.ndarray) -> np.ndarray:
    """Klatt's weight of each slope, [frames, bands - 1]: large near peaks."""
    inner = bands[:, :-1]
    below_highest = bands.max(axis=1, keepdims=True) - inner
    below_nearest = np.take_along_axis(bands, _nearest_peak(np.diff(bands, axis=1)), axis=1) - inner
    return (
        PEAK_WEIGHT_DB
        / (PEAK_WEIGHT_DB + below_highest)
        * (LOCAL_PEAK_WEIGHT_DB / (LOCAL_PEAK_WEIGHT_DB + below_nearest))
    )


def _nearest_peak(slopes: np.ndarray) -> np.ndarray:
    """Index of the band taken for the nearest peak of each slope: uphill, to where the slope changes its sign.

    To the right that is the band before the peak itself; Loizou's script takes it, and so do all after it.
    """
    count = slopes.shape[1]
    rising = slopes > 0
    index = np.arange(count)
    end = np.minimum.accumulate(np.where(rising, count, index)[:, ::-1], axis=1)[:, ::-1]
    start = np.maximum.accumulate(np.where(rising, index, -1), axis=1)
    return np.where(rising, end - 1, start + 1)
