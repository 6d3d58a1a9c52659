"""A pair as somebody recorded it: brought to one length, its alignment checked, its SNR measured."""

import numpy as np
from scipy.signal import correlate

from simulation import levels
from simulation.degradations.base import Mixture, Waveform
from simulation.errors import BadAudio
from simulation.sources.pairing import MOST_TRIM_S

MOST_LAG_S = 0.001
"""A pair further out of step is no target: one sample costs SI-SDR more than most models gain."""

SEARCHED_S = 0.1
"""How far apart the two sides are looked for."""

FAINT = 0.05
"""Below this correlation nothing can be said of the alignment: the clean is buried."""


def paired(clean: Waveform, noisy: Waveform, sample_rate: int) -> Mixture:
    """The two sides, `[samples]` each, cut to the shorter; records `lag_samples` and `snr_db` where they can be told.

    SNR: active level of the clean, at the gain at which it is in the noisy side, over everything else that is there.
    `BadAudio` where they are out of step by more than 1 ms, upside down, or of different lengths.
    """
    if abs(len(clean) - len(noisy)) > MOST_TRIM_S * sample_rate:
        raise BadAudio(f"the two sides have {len(clean)} and {len(noisy)} samples; expected equal lengths")
    size = min(len(clean), len(noisy))
    clean, noisy = clean[:size], noisy[:size]
    lag = lag_samples(clean, noisy, sample_rate)
    if lag is not None and abs(lag) > MOST_LAG_S * sample_rate:
        late = "after" if lag > 0 else "before"
        raise BadAudio(
            f"the noisy side comes {1000 * abs(lag) / sample_rate:.1f} ms {late} the clean one; at most"
            f" {1000 * MOST_LAG_S:g} ms can be used: align the two"
        )
    measured = {} if lag is None else {"lag_samples": float(lag)}
    return Mixture(clean, noisy, sample_rate, measured | _snr(clean, noisy, sample_rate))


def lag_samples(clean: Waveform, noisy: Waveform, sample_rate: int) -> int | None:
    """By how many samples the noisy side comes later, at the peak of the cross-correlation; None where it is faint.

    `BadAudio` where the peak is negative: one side has the other polarity.
    """
    size = np.sqrt(np.sum(np.square(clean, dtype=np.float64)) * np.sum(np.square(noisy, dtype=np.float64)))
    if size == 0:
        return None
    found = correlate(noisy.astype(np.float64), clean.astype(np.float64), mode="full", method="fft") / size
    middle, reach = len(clean) - 1, round(SEARCHED_S * sample_rate)
    first = max(middle - reach, 0)
    near = found[first : middle + reach + 1]
    peak = int(np.argmax(np.abs(near)))
    if abs(near[peak]) < FAINT:
        return None
    if near[peak] < 0:
        raise BadAudio("the noisy side has the other polarity than the clean one: turn one of them over")
    return peak + first - middle


def _snr(clean: Waveform, noisy: Waveform, sample_rate: int) -> dict[str, float]:
    """The realised SNR, where both speech and something else are there."""
    energy = float(np.sum(np.square(clean, dtype=np.float64)))
    scale = float(np.dot(clean.astype(np.float64), noisy.astype(np.float64))) / energy if energy else 0.0
    speech = scale * clean
    try:
        return {"snr_db": levels.measured_snr_db(speech, noisy - speech, sample_rate)}
    except BadAudio:
        return {}
