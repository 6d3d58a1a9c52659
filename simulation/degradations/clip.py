"""Peak clipping, as an overdriven preamplifier or converter leaves behind."""

from dataclasses import replace
from typing import Literal

import numpy as np

from simulation.degradations.base import Degradation, Mixture, Recordings, Waveform, number
from simulation.schema import Amount, Range


class Clip(Degradation):
    """Saturate the noisy waveform hard, at a ceiling below its own peak; the clean target stays as it is.

    In dB below the peak, so that the severity reads on a meter and never vanishes. For the quantiles of the samples
    that the URGENT simulator draws, see `clip_quantiles`.

    Source: the clipping of VoiceFixer's training configuration, a gain of 1 to 11 before a fixed ceiling (0 to 21 dB).
    audiomentations' `Clip` is `numpy.clip` between two constants; the ceiling has to be found in the row first, so
    nothing is left for it to do.
    """

    kind: Literal["clip"] = "clip"

    ceiling_db: Amount = Range(low=-20.0, high=-3.0)
    """Ceiling, in dB below the peak of the waveform."""

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side loses its peaks; records `clipped_share`."""
        ceiling = np.float32(np.abs(mixture.noisy).max() * 10 ** (number(self.ceiling_db) / 20))
        noisy = mixture.noisy.clip(-ceiling, ceiling)
        return replace(
            mixture, noisy=noisy, measured={**mixture.measured, "clipped_share": changed(mixture.noisy, noisy)}
        )


def changed(before: Waveform, after: Waveform) -> float:
    """Share of samples that are no longer what they were."""
    return float(np.count_nonzero(before != after) / len(before))
