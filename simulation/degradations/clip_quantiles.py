"""Clipping at quantiles of the samples, as the URGENT challenges draw it."""

from dataclasses import replace
from typing import Literal

import numpy as np

from simulation.degradations.base import Degradation, Mixture, Recordings, extremes, number
from simulation.degradations.clip import changed
from simulation.schema import Amount, Range


class ClipQuantiles(Degradation):
    """Saturate the noisy waveform at a lower and an upper quantile of its samples; the clean target stays as it is.

    Very uneven: most samples of speech are small, so an upper quantile of 0.9 takes nearly every voiced peak and 1.0
    nothing at all; the two sides are clipped apart. It is here to make corpora like those of the challenges;
    `clip` states its severity in dB.

    Source: URGENT 2024 and 2025 (quantiles 0 to 0.1 and 0.9 to 1). audiomentations' `ClippingDistortion` takes whole
    percentiles, equal on both sides, so it cannot render this.
    """

    kind: Literal["clip_quantiles"] = "clip_quantiles"

    lower: Amount = Range(low=0.0, high=0.1)
    """Share of the samples below the floor."""

    upper: Amount = Range(low=0.9, high=1.0)
    """Share of the samples below the ceiling; above `lower`."""

    def check(self, sample_rate: int) -> None:
        """The floor lies below the ceiling."""
        lower, upper = extremes(self.lower), extremes(self.upper)
        if not 0 <= lower[0] <= lower[1] < upper[0] <= upper[1] <= 1:
            raise ValueError(
                f"lower goes from {lower[0]:g} to {lower[1]:g} and upper from {upper[0]:g} to {upper[1]:g}; they must"
                " be shares between 0 and 1, and every lower one below every upper one"
            )

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side loses its peaks; records `clipped_share`."""
        floor, ceiling = np.quantile(mixture.noisy, (number(self.lower), number(self.upper))).astype(np.float32)
        noisy = mixture.noisy.clip(floor, ceiling)
        return replace(
            mixture, noisy=noisy, measured={**mixture.measured, "clipped_share": changed(mixture.noisy, noisy)}
        )
