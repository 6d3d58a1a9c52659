"""Hiss: the noise of amplifiers, and the floor that a recording's own noise stands on."""

from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.special import ndtri

from simulation import levels
from simulation.chance import generator
from simulation.degradations.base import Degradation, Mixture, Recordings, number
from simulation.schema import Amount, Range


class AddHiss(Degradation):
    """Add white Gaussian noise at a drawn signal-to-noise ratio; the clean target stays as it is.

    Source: the extra Gaussian noise of the ICASSP 2024 Speech Signal Improvement synthesiser, 0 to 10 dB below the
    noise of 60 % of its noisy rows; here the ratio is to the speech. audiomentations' `AddGaussianSNR` draws its noise
    from NumPy's global generator and takes the ratio over the whole signal.
    """

    kind: Literal["hiss"] = "hiss"

    seed: Amount = Range(low=0.0, high=2.0**31)
    """Which hiss; its whole part counts."""

    snr_db: Amount = Range(low=10.0, high=40.0)
    """Active speech level over mean noise power, in dB."""

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """Hiss on the noisy side only; records the realised `hiss_snr_db`."""
        white = ndtri(generator("hiss", int(number(self.seed))).random(len(mixture.noisy))).astype(np.float32)
        scaled, snr_db = levels.at_snr(mixture.noisy, white, number(self.snr_db), mixture.sample_rate)
        return replace(mixture, noisy=mixture.noisy + scaled, measured={**mixture.measured, "hiss_snr_db": snr_db})
