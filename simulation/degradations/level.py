"""Level: how loud the recording is."""

from dataclasses import replace
from typing import Literal

import numpy as np

from simulation import levels
from simulation.degradations.base import Degradation, Mixture, Recordings, drawn, number
from simulation.errors import BadAudio
from simulation.schema import Amount, OneOf, Range


class Level(Degradation):
    """Bring the noisy waveform to a level by one gain; the clean target moves with it, unless told otherwise.

    Moved together, the pair stays as it was to each other, and a model learns to work at any level. Moved alone, the
    model has to restore the level too.

    Source: the DNS Challenge synthesiser (RMS of the noisy waveform, -35 to -16 dBFS, both sides moved).
    audiomentations' `Normalize` knows peaks and its `LoudnessNormalization` LUFS; neither is a level of speech.
    """

    kind: Literal["level"] = "level"

    level_db: Amount = Range(low=-35.0, high=-16.0)
    """Level of the noisy waveform afterwards, in dBFS. The common gain of a row comes after it, and may lower it."""

    measure: Literal["rms", "active"] | OneOf = "rms"
    """RMS over the whole utterance, or active speech level (ITU-T P.56)."""

    sides: Literal["both", "noisy"] = "both"
    """What is moved."""

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """One gain; records it as `level_gain_db`. `BadAudio` where there is nothing to bring to a level."""
        if levels.silent(mixture.noisy):
            raise BadAudio(f"the noisy waveform is silent, so no gain brings it to {number(self.level_db):g} dBFS")
        measure = drawn(self.measure)
        found_db = (
            levels.rms_db(mixture.noisy)
            if measure == "rms"
            else levels.active_level_db(mixture.noisy, mixture.sample_rate)
        )
        gain_db = number(self.level_db) - found_db
        gain = np.float32(10 ** (gain_db / 20))
        return replace(
            mixture,
            clean=mixture.clean * gain if self.sides == "both" else mixture.clean,
            noisy=mixture.noisy * gain,
            measured={**mixture.measured, "level_gain_db": gain_db},
        )
