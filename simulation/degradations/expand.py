"""A downward expander, or noise gate: what is quiet becomes quieter, and the ends of words are swallowed."""

from dataclasses import replace
from typing import Literal

import numpy as np

from simulation.degradations.base import Degradation, Mixture, Recordings, number
from simulation.degradations.dynamics import block_levels_db, followed, with_gain
from simulation.levels import rms_db
from simulation.schema import Amount, Range


class Expand(Degradation):
    """Lower the noisy waveform where its level is below a threshold; the clean target stays as it is.

    Every dB below the threshold becomes `ratio` dB, down to a floor. The threshold is relative to the mean power of the
    waveform, so the effect does not depend on how loud the recording is. Silence stays silence.

    Source: the expander ("anti-AGC") of the ICASSP 2024 Speech Signal Improvement synthesiser (ratio 1.4 to 2.1), whose
    threshold and time constants are ours to choose; its 6 dB of gain are a `gain_steps` here. audiomentations has none.
    """

    kind: Literal["expand"] = "expand"

    ratio: Amount = Range(low=1.4, high=2.1)
    """Decibels out for one decibel in, below the threshold; 1 changes nothing."""

    threshold_db: Amount = Range(low=-10.0, high=0.0)
    """Level below which it works, in dB relative to the mean power."""

    floor_db: Amount = -40.0
    """Lowest gain, in dB."""

    attack_ms: Amount = 5.0
    """Time constant with which it opens."""

    release_ms: Amount = 50.0
    """Time constant with which it closes."""

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The quiet parts of the noisy side become quieter; records its mean gain, `expander_db`."""
        level_db = followed(
            block_levels_db(mixture.noisy, mixture.sample_rate), number(self.attack_ms), number(self.release_ms)
        )
        below_db = np.maximum(rms_db(mixture.noisy) + number(self.threshold_db) - level_db, 0.0)
        gain_db = np.maximum(-(number(self.ratio) - 1) * below_db, number(self.floor_db))
        noisy = with_gain(mixture.noisy, gain_db, mixture.sample_rate)
        return replace(mixture, noisy=noisy, measured={**mixture.measured, "expander_db": float(gain_db.mean())})
