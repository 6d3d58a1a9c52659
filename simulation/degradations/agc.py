"""Automatic gain control: the device makes what is quiet louder, and the pauses with it."""

from dataclasses import replace
from typing import Literal

import numpy as np

from simulation.degradations.base import Degradation, Mixture, Recordings, number
from simulation.degradations.dynamics import block_levels_db, followed, with_gain
from simulation.schema import Amount, Range


class Agc(Degradation):
    """Bring the noisy waveform to a level, moment by moment; the clean target stays as it is.

    A detector follows the level with two time constants; the gain is what is missing to the wanted level, within
    limits. Slow release makes noise swell in pauses ("pumping"); fast attack ducks what comes after a loud word.

    Source: ours, after the gain controls of telephones and conference clients; the ICASSP 2024 Speech Signal
    Improvement synthesiser has only the opposite (see `expand`). audiomentations' `Limiter` is a compressor for peaks.
    """

    kind: Literal["agc"] = "agc"

    target_db: Amount = Range(low=-30.0, high=-18.0)
    """Wanted level, in dBFS."""

    most_db: Amount = Range(low=6.0, high=18.0)
    """Largest gain or attenuation, in dB."""

    attack_ms: Amount = Range(low=10.0, high=50.0)
    """Time constant with which the detector rises."""

    release_ms: Amount = Range(low=200.0, high=1000.0)
    """Time constant with which it falls."""

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side is levelled; records how far apart its highest and lowest gain lie, `agc_range_db`."""
        level_db = followed(
            block_levels_db(mixture.noisy, mixture.sample_rate), number(self.attack_ms), number(self.release_ms)
        )
        gain_db = np.clip(number(self.target_db) - level_db, -number(self.most_db), number(self.most_db))
        noisy = with_gain(mixture.noisy, gain_db, mixture.sample_rate)
        return replace(mixture, noisy=noisy, measured={**mixture.measured, "agc_range_db": float(np.ptp(gain_db))})
