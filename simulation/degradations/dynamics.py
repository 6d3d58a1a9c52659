"""How loud a waveform is from moment to moment, and gains that follow: what expanders and gain controls share."""

import numpy as np
from numpy.typing import NDArray

from simulation.degradations.base import Waveform
from simulation.levels import SILENT_BELOW_DB

BLOCK_S = 0.005
"""Time resolution of levels and gains, in s."""


def block_levels_db(samples: Waveform, sample_rate: int) -> NDArray[np.float64]:
    """Level of each block in dBFS, `[blocks]`; the last may be shorter. Silence counts as -90 dBFS."""
    size = max(round(BLOCK_S * sample_rate), 1)
    starts = np.arange(0, len(samples), size)
    energy = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    power = energy / np.diff(np.append(starts, len(samples)))
    return np.maximum(10 * np.log10(np.maximum(power, 1e-20)), SILENT_BELOW_DB)


def followed(levels_db: NDArray[np.float64], attack_ms: float, release_ms: float) -> NDArray[np.float64]:
    """The levels behind a detector that rises and falls with these time constants, `[blocks]`, from the first on."""
    rise, fall = (1 - np.exp(-1000 * BLOCK_S / max(time_ms, 1e-3)) for time_ms in (attack_ms, release_ms))
    state, states = float(levels_db[0]), []
    for level in levels_db.tolist():  # 200 a second: a loop over blocks, not over samples
        state += (rise if level > state else fall) * (level - state)
        states.append(state)
    return np.array(states)


def with_gain(samples: Waveform, gain_db: NDArray[np.float64], sample_rate: int) -> Waveform:
    """The samples under a gain given at the middle of each block, and in between in a straight line of dB."""
    size = max(round(BLOCK_S * sample_rate), 1)
    middles = (np.arange(len(gain_db)) + 0.5) * size
    gain = 10 ** (np.interp(np.arange(len(samples)), middles, gain_db) / 20)
    return (samples * gain).astype(np.float32)
