"""A bad microphone: some frequencies come out too loud, others too quiet."""

from dataclasses import replace
from typing import Literal, Self

import numpy as np

from simulation.chance import Chance
from simulation.degradations.base import Degradation, Drawable, Mixture, Recordings, drawn, number
from simulation.degradations.effects import both_ways
from simulation.levels import rms_db
from simulation.schema import Amount, OneOf, Range

HIGHEST_SHARE = 0.45
"""Bands above this share of the sample rate are left out: there is next to nothing for them to colour."""


class Band(Drawable):
    """One filter of an equaliser."""

    frequency_hz: Amount
    """Centre of a peak, half way up a shelf, in Hz."""

    gain_db: Amount
    """What it adds (or takes) at its centre, or on its shelf, in dB."""

    q: Amount = 0.707
    """Narrowness; at most 1 for a shelf."""


PEAK = Band(frequency_hz=Range(low=600.0, high=7400.0), gain_db=Range(low=-6.0, high=6.0), q=5.0)


class Equalise(Degradation):
    """Colour the noisy waveform by a low shelf, a high shelf and some peaks; the clean target stays as it is.

    audiomentations' shelving and peaking filters, each run forwards and backwards with half the gain: what was drawn is
    reached exactly, and the pair stays aligned, since a response without phase moves no correlation peak. A microphone
    has the phase too; that is where this deviates from it. Bands above 0.45 of the sample rate are left out.

    Source: the bad microphone of the ICASSP 2024 Speech Signal Improvement synthesiser (low shelf 50 to 700 Hz and high
    shelf 4.5 to 7.5 kHz of ±12 dB, up to 7 peaks of ±6 dB between 0.6 and 7.4 kHz with q 5).
    """

    kind: Literal["equalise"] = "equalise"

    low_shelf: Band | None = Band(frequency_hz=Range(low=50.0, high=700.0), gain_db=Range(low=-12.0, high=12.0))
    """Everything below its frequency."""

    high_shelf: Band | None = Band(frequency_hz=Range(low=4500.0, high=7500.0), gain_db=Range(low=-12.0, high=12.0))
    """Everything above its frequency."""

    peaks: tuple[Band, ...] = (PEAK,) * 7
    """The peaks that may happen."""

    peak_count: int | OneOf = OneOf(values=tuple(range(8)))
    """How many of them do: the first ones. A row lists no other."""

    def draw(self, chance: Chance) -> Self | None:
        """As ever; peaks beyond the drawn count are dropped."""
        operation = super().draw(chance)
        if operation is None:
            return None
        return operation.model_copy(update={"peaks": operation.peaks[: drawn(operation.peak_count)]})

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side is coloured; records by how much its level changed, `equaliser_db`."""
        bands = [("LowShelfFilter", self.low_shelf), ("HighShelfFilter", self.high_shelf)]
        bands += [("PeakingFilter", peak) for peak in self.peaks[: drawn(self.peak_count)]]
        noisy = mixture.noisy
        for effect, band in bands:
            if band is not None and number(band.frequency_hz) < HIGHEST_SHARE * mixture.sample_rate:
                parameters = {"center_freq": number(band.frequency_hz), "q_factor": number(band.q)}
                noisy = both_ways(
                    effect, noisy, mixture.sample_rate, {**parameters, "gain_db": number(band.gain_db) / 2}
                )
        return replace(mixture, noisy=noisy, measured=with_change(mixture, noisy, "equaliser_db"))


def with_change(mixture: Mixture, noisy: np.ndarray, name: str) -> dict[str, float]:
    """What was measured so far, and by how much the noisy level changed, in dB; silence has no level to change."""
    change_db = rms_db(noisy) - rms_db(mixture.noisy)
    return {**mixture.measured, **({name: change_db} if np.isfinite(change_db) else {})}
