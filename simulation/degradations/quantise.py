"""Quantisation: a converter with few bits."""

from dataclasses import replace
from typing import Literal

import numpy as np

from simulation import levels
from simulation.chance import generator
from simulation.degradations.base import Degradation, Mixture, Recordings, Waveform, drawn, number
from simulation.schema import Amount, OneOf, Range


class Quantise(Degradation):
    """Round the noisy waveform to the steps of a converter, full scale at ±1; the clean target stays as it is.

    Levels lie at whole multiples of 2^(1 - bits), zero among them, and what lies outside [-1, 1) is clipped. With
    dither, noise of triangular density and two steps' width is added first, so that the error's mean and power do not
    follow the speech.

    Source: the bit depths of the ICASSP 2024 Speech Signal Improvement synthesiser (8 to 24) and of VoiceFixer (3 to
    12). audiomentations' `BitCrush` has 2^(bits - 1) + 1 steps between zero and full scale and no dither.
    """

    kind: Literal["quantise"] = "quantise"

    bits: int | OneOf = OneOf(values=tuple(range(6, 13)))
    """Bits a sample, 2 to 24."""

    dither: bool | OneOf = False
    """Whether triangular noise is added before rounding."""

    seed: Amount = Range(low=0.0, high=2.0**31)
    """Which noise is the dither; its whole part counts."""

    def check(self, sample_rate: int) -> None:
        """A converter has 2 to 24 bits."""
        for bits in self.bits.values if isinstance(self.bits, OneOf) else (self.bits,):
            if not 2 <= int(bits) <= 24:
                raise ValueError(f"bits is {bits}; a converter here has 2 to 24")

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side becomes coarse; records `quantisation_snr_db`, its power over that of the error."""
        steps = 2.0 ** (drawn(self.bits) - 1)
        scaled = mixture.noisy * steps
        if drawn(self.dither):
            scaled = scaled + triangular(int(number(self.seed)), len(scaled))
        noisy = (np.clip(np.rint(scaled), -steps, steps - 1) / steps).astype(np.float32)
        measured = dict(mixture.measured)
        error_db, level_db = levels.rms_db(noisy - mixture.noisy), levels.rms_db(mixture.noisy)
        if np.isfinite(error_db) and np.isfinite(level_db):
            measured["quantisation_snr_db"] = level_db - error_db
        return replace(mixture, noisy=noisy, measured=measured)


def triangular(seed: int, samples: int) -> Waveform:
    """Noise between -1 and 1 whose density falls linearly on both sides of 0."""
    rng = generator("dither", seed)
    return (rng.random(samples) - rng.random(samples)).astype(np.float32)
