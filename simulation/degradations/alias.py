"""Aliasing: careless resampling, which folds what it cannot carry back into the band."""

from dataclasses import replace
from typing import Literal

import numpy as np

from simulation.degradations.base import Degradation, Mixture, Recordings, Waveform, drawn, extremes, number
from simulation.degradations.effects import rendered
from simulation.schema import Amount, OneOf, Range


class Alias(Degradation):
    """Resample the noisy waveform down and up again without any filter; the clean target stays as it is.

    linear  straight lines between the samples that are left, both ways (audiomentations' `Aliasing`)
    hold    the nearest of them, as a converter does that only repeats; centred, so that nothing is late

    Source: the resampling of the ICASSP 2024 Speech Signal Improvement synthesiser at its two worst qualities (3 to 32
    kHz). Its better ones are `band_limit`.
    """

    kind: Literal["alias"] = "alias"

    rate_hz: Amount = Range(low=3000.0, high=16_000.0)
    """Sample rate in between, in Hz; at or above the corpus's own it does nothing."""

    interpolation: Literal["linear", "hold"] | OneOf = OneOf(values=("linear", "hold"))
    """What stands between the samples that are left."""

    def check(self, sample_rate: int) -> None:
        """There is a rate."""
        if extremes(self.rate_hz)[0] < 100:
            raise ValueError(f"rate_hz reaches down to {extremes(self.rate_hz)[0]:g}; at least 100 Hz are needed")

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side is resampled badly; records the realised `alias_rate_hz`."""
        rate_hz = min(number(self.rate_hz), float(mixture.sample_rate))
        noisy = mixture.noisy
        if rate_hz < mixture.sample_rate and len(noisy) * rate_hz >= 2 * mixture.sample_rate:
            if drawn(self.interpolation) == "hold":
                noisy = held(noisy, mixture.sample_rate / rate_hz)
            else:
                noisy = rendered("Aliasing", noisy, mixture.sample_rate, {"new_sample_rate": rate_hz})
        return replace(mixture, noisy=noisy, measured={**mixture.measured, "alias_rate_hz": rate_hz})


def held(samples: Waveform, step: float) -> Waveform:
    """Each sample replaced by the nearest of those that lie `step` apart."""
    nearest = np.rint(np.rint(np.arange(len(samples)) / step) * step).astype(np.int64)
    return samples[np.minimum(nearest, len(samples) - 1)]
