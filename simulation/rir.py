"""Room impulse responses (RIRs): where the direct sound arrives, and what is measured on them."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simulation.errors import BadAudio

DIRECT_S = 0.0025
"""The direct sound lasts this long after its arrival; what comes later is the room's."""

ONSET_SHARE = 0.1
"""Share of the maximum above which the direct sound of a measured response has begun."""

ONSET_TO_PEAK_S = 0.001
"""The direct sound of a measured response peaks within this time after it has begun."""


@dataclass(frozen=True)
class Rir:
    """A room impulse response, [samples], and the sample at which the direct sound peaks."""

    samples: NDArray[np.float32]
    onset: int
    sample_rate: int

    @property
    def nbytes(self) -> int:
        """Memory it takes, with its normalised copy."""
        return 2 * self.samples.nbytes

    @property
    def direct(self) -> NDArray[np.float32]:
        """The direct sound: from the start to 2.5 ms after its peak."""
        return self.samples[: self.onset + round(DIRECT_S * self.sample_rate) + 1]

    @cached_property
    def normalised(self) -> "Rir":
        """Scaled so that the direct sound has unit energy and positive sign."""
        energy = float(np.sum(np.square(self.direct, dtype=np.float64)))
        scale = np.copysign(1.0 / np.sqrt(energy), self.samples[self.onset])
        return replace(self, samples=(self.samples * scale).astype(np.float32))

    @cached_property
    def measured(self) -> dict[str, float]:
        """What a row in this room records: `drr_db`, and `rt60_s` where it can be measured."""
        decay_s = rt60_s(self)
        return {"drr_db": drr_db(self)} | ({} if decay_s is None else {"rt60_s": decay_s})


def measured_rir(samples: NDArray[np.float32], sample_rate: int) -> Rir:
    """A recorded response with its onset found by the 10 % rule.

    The first sample above a tenth of the maximum begins the direct sound; its peak, which is what aligns, follows
    within a millisecond. The maximum itself is no guide: in small rooms a reflection may exceed the direct sound.
    """
    size = np.abs(samples)
    if not size.any():
        raise BadAudio("the impulse response is silent")
    begins = int(np.argmax(size > ONSET_SHARE * size.max()))
    within = size[begins : begins + round(ONSET_TO_PEAK_S * sample_rate) + 1]
    return Rir(samples, begins + int(np.argmax(within)), sample_rate)


def drr_db(rir: Rir) -> float:
    """Direct-to-reverberant ratio: energy up to 2.5 ms after the direct peak over the energy of the rest."""
    energy = np.square(rir.samples.astype(np.float64))
    direct = len(rir.direct)
    return round(float(10 * np.log10(energy[:direct].sum() / max(energy[direct:].sum(), 1e-12))), 3)


def rt60_s(rir: Rir) -> float | None:
    """Reverberation time by Schroeder's backward integration: T30, else T20, else None where noise hides the decay.

    The level of the noise floor is taken from the last tenth of the response and its energy subtracted before the
    integration (Chu 1978). A fit needs the floor 10 dB below its lower end (ISO 3382-1).
    """
    energy = np.square(rir.samples[rir.onset :].astype(np.float64))
    floor = energy[-max(len(energy) // 10, 1) :].mean()
    block = max(round(0.005 * rir.sample_rate), 1)
    loudest = np.add.reduceat(energy, np.arange(0, len(energy), block)).max() / block
    headroom_db = 10 * np.log10(loudest / max(floor, 1e-30)) if loudest > 0 else 0.0
    decay = np.cumsum((energy - floor)[::-1])[::-1]
    decay_db = 10 * np.log10(np.maximum(decay, 1e-30) / max(decay[0], 1e-30))
    for lower_db in (-35.0, -25.0):
        if headroom_db >= 10.0 - lower_db and decay_db.min() < lower_db:
            return _decay_time_s(decay_db, lower_db, rir.sample_rate)
    return None


def _decay_time_s(decay_db: NDArray[np.float64], lower_db: float, sample_rate: int) -> float:
    """Time for 60 dB along a line fitted between -5 dB and `lower_db`."""
    start, end = (int(np.argmax(decay_db < level)) for level in (-5.0, lower_db))
    if end - start < 2:
        return round(60 / (5.0 - lower_db) * end / sample_rate, 4)
    time_s = np.arange(start, end) / sample_rate
    time_s -= time_s.mean()
    slope_db_per_s = np.sum(time_s * decay_db[start:end]) / np.sum(np.square(time_s))
    return round(float(-60 / slope_db_per_s), 4)
