"""What a process does that scores pieces with PESQ while a network trains. It needs neither torch nor a device."""

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Hz, of what comes in: wide-band PESQ (ITU-T P.862.2) is defined at no other rate."""

DIGITS = 4
"""Of a score, after the point: the rest is rounding of what was scored, which differs from machine to machine."""


def score(clean: NDArray[np.float32], enhanced: NDArray[np.float32]) -> float:
    """Wide-band PESQ, 1.0 to 4.64; NaN where P.862 has no answer: silence, no speech, a piece that is too short."""
    from pesq import PesqError, pesq

    if not (np.isfinite(clean).all() and np.isfinite(enhanced).all() and clean.any() and enhanced.any()):
        return float("nan")
    try:
        return round(float(pesq(SAMPLE_RATE, clean, enhanced, "wb")), DIGITS)
    except (PesqError, ValueError):
        return float("nan")
