"""LLR: log-likelihood ratio of linear predictors, one of the parts of the composite measures."""

import numpy as np

from training.metrics.base import MetricFailed, Waveform
from training.metrics.frames import mean_of_the_lowest, windowed

ORDER, NARROW_BAND_ORDER = 16, 10
NARROW_BAND_HZ = 10_000
"""Rates below this have the narrow-band order."""


def log_likelihood_ratio(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Mean over the best 95 % of frames of log((âᵀRâ)/(aᵀRa)), R being the clean's autocorrelation matrix.

    a and â are the predictors of the clean and the enhanced. A frame without any clean is left out, having nothing to
    predict; one that the enhanced mutes has the predictor of white noise, so that muting costs.

    Source: Quackenbush, Barnwell and Clements, "Objective measures of speech quality", 1988, in Loizou's form.
    """
    order = NARROW_BAND_ORDER if sample_rate < NARROW_BAND_HZ else ORDER
    correlation = _autocorrelation(windowed(clean, sample_rate), order)
    matrix = correlation[:, np.abs(np.subtract.outer(np.arange(order + 1), np.arange(order + 1)))]
    theirs = _power(_predictor(_autocorrelation(windowed(enhanced, sample_rate), order)), matrix)
    own = _power(_predictor(correlation), matrix)
    usable = (theirs > 0) & (own > 0)
    if not usable.any():
        raise MetricFailed("no frame with anything to predict")
    return mean_of_the_lowest(np.log(theirs[usable] / own[usable]))


def _autocorrelation(frames: np.ndarray, order: int) -> np.ndarray:
    """[frames, order + 1] from [frames, samples]."""
    size = frames.shape[1]
    return np.stack([np.einsum("fn,fn->f", frames[:, : size - lag], frames[:, lag:]) for lag in range(order + 1)], 1)


def _predictor(correlation: np.ndarray) -> np.ndarray:
    """Prediction-error filters [frames, order + 1], by Levinson's and Durbin's recursion over all frames at once."""
    frames, size = correlation.shape
    filters = np.zeros((frames, size))
    filters[:, 0] = 1.0
    error = correlation[:, 0].copy()
    for lag in range(1, size):
        wanted = (filters[:, :lag] * correlation[:, lag:0:-1]).sum(axis=1)
        reflection = np.divide(-wanted, error, out=np.zeros(frames), where=error != 0)[:, None]
        filters[:, 1 : lag + 1] += reflection * filters[:, :lag][:, ::-1]
        error *= 1 - reflection[:, 0] ** 2
    return filters


def _power(filters: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """aᵀRa of each frame: what is left of the clean behind the filter."""
    return np.einsum("fi,fij,fj->f", filters, matrix, filters, optimize=True)
