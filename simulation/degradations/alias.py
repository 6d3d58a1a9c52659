"""Aliasing: careless resampling, which folds what it cannot carry back into the band."""

from dataclasses import replace
from typing import Literal

from simulation.degradations.base import Degradation, Mixture, Recordings, extremes, number
from simulation.degradations.effects import rendered
from simulation.schema import Amount, Range


class Alias(Degradation):
    """Resample the noisy waveform down and up again without any filter; the clean target stays as it is.

    audiomentations' `Aliasing`: straight lines between the samples that are left, both ways.

    Source: the resampling of the ICASSP 2024 Speech Signal Improvement synthesiser at its quality Linear (3 to 32 kHz).
    Its worst one, which holds each sample, is left out: the folded images then pull the correlation of input and target
    off lag 0. Its better ones are `band_limit`.
    """

    kind: Literal["alias"] = "alias"

    rate_hz: Amount = Range(low=3000.0, high=16_000.0)
    """Sample rate in between, in Hz; at or above the corpus's own it does nothing."""

    def check(self, sample_rate: int) -> None:
        """There is a rate."""
        if extremes(self.rate_hz)[0] < 100:
            raise ValueError(f"rate_hz reaches down to {extremes(self.rate_hz)[0]:g}; at least 100 Hz are needed")

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side is resampled badly; records the realised `alias_rate_hz`."""
        rate_hz, noisy = min(number(self.rate_hz), float(mixture.sample_rate)), mixture.noisy
        if rate_hz < mixture.sample_rate and len(noisy) * rate_hz >= 2 * mixture.sample_rate:
            noisy = rendered("Aliasing", noisy, mixture.sample_rate, {"new_sample_rate": rate_hz})
        return replace(mixture, noisy=noisy, measured={**mixture.measured, "alias_rate_hz": rate_hz})
