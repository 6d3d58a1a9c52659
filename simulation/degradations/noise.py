"""Additive noise: something else sounds while the speaker talks."""

from dataclasses import replace
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field

from simulation import levels
from simulation.chance import Chance
from simulation.degradations.base import (
    Choice,
    Degradation,
    Mixture,
    Pick,
    Recordings,
    Waveform,
    number,
    recording_id,
)
from simulation.errors import BadAudio
from simulation.schema import Amount, OneOf, Range, Schema


class Take(Schema):
    """One more noise of a row."""

    recording: str
    offset: float
    """Where in the recording to start, as `AddNoise.offset`."""
    level_db: float
    """Its mean power beside that of the first noise, in dB."""


class Others(Schema):
    """More noises beside the first, each of another group; drawing makes a `Take` of each."""

    count: Annotated[int, Field(ge=0, le=16)] | OneOf = OneOf(values=(0, 1, 2))
    """How many; fewer where the split does not have so many groups."""

    level_db: Amount = Range(low=-10.0, high=0.0)
    """Mean power beside that of the first noise, in dB; drawn for each."""

    def draw(self, chance: Chance, taken: str | None) -> tuple[Take, ...]:
        """So many takes of other groups than the one that is `taken` by the first noise."""
        count = int(self.count.draw(chance.rng("others.count")) if isinstance(self.count, OneOf) else self.count)
        takes, groups = [], [taken]
        for place in range(count):
            group = chance.group("noise", f"others.{place}", apart_from=groups)
            if group is None:
                break
            groups.append(group)
            takes.append(self._take(chance, group, f"others.{place}"))
        return tuple(takes)

    def _take(self, chance: Chance, group: str, key: str) -> Take:
        level = self.level_db
        return Take(
            recording=chance.member("noise", group, key),
            offset=Range(low=0.0, high=1.0).draw(chance.rng(f"{key}.offset")),
            level_db=level.draw(chance.rng(f"{key}.level_db")) if isinstance(level, Range) else number(level),
        )


class AddNoise(Degradation):
    """Add one or more noise recordings at a drawn signal-to-noise ratio.

    The ratio is the active level of the speech as it stands (reverberant, if a room came before) over the mean power of
    the noise that is added, so pauses in the speech do not make the noise louder than asked. With several noises it is
    their sum that has the ratio. The clean target is left alone.

    Source: the level convention of ITU-T P.56 and of VoiceBank+DEMAND; noise after the room and after the band limit as
    in the signal model y = h(x * r) + n of DM.
    """

    kind: Literal["noise"] = "noise"

    recording: Pick = Choice(of="noise")
    """Which noise."""

    offset: Amount = Range(low=0.0, high=1.0)
    """Where in the recording to start, as a share of its length (of what can be left out, where `fit` is crop)."""

    fit: Literal["wrap", "crop"] = "wrap"
    """A recording shorter than the utterance repeats from its start. A longer one goes round in the same way (wrap), or
    starts early enough to last (crop): no seam, and its ends are heard less often."""

    snr_db: Amount = Range(low=-5.0, high=15.0)
    """Active speech level over mean noise power, in dB."""

    others: Others | tuple[Take, ...] = ()
    """More noises beneath the same speech."""

    def draw(self, chance: Chance) -> Self | None:
        """The other noises are drawn here too: each by a key of its own."""
        drawn_one = super().draw(chance)
        if drawn_one is None or not isinstance(self.others, Others):
            return drawn_one
        taken = chance.group("noise", "recording") if isinstance(self.recording, Choice) else None
        return drawn_one.model_copy(update={"others": self.others.draw(chance, taken)})

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """Noise on the noisy side only; records the realised `snr_db`."""
        noise = self._sum(recordings, len(mixture.noisy))
        scaled, snr_db = levels.at_snr(mixture.noisy, noise, number(self.snr_db), mixture.sample_rate)
        return replace(mixture, noisy=mixture.noisy + scaled, measured={**mixture.measured, "snr_db": snr_db})

    def _sum(self, recordings: Recordings, samples: int) -> Waveform:
        """All noises, the first at its own level."""
        if isinstance(self.others, Others):
            raise RuntimeError(f"{self.others!r} is still to be drawn; call draw(chance) before apply")
        first = self._stretch(recordings, recording_id(self.recording), number(self.offset), samples)
        if not self.others:
            return first
        mixed = first.astype(np.float64)
        for take in self.others:
            noise = self._stretch(recordings, take.recording, take.offset, samples)
            mixed += noise * 10 ** ((levels.rms_db(first) - levels.rms_db(noise) + take.level_db) / 20)
        return mixed.astype(np.float32)

    def _stretch(self, recordings: Recordings, name: str, offset: float, samples: int) -> Waveform:
        noise = recordings.samples(name)
        stretch = cropped(noise, offset, samples) if self.fit == "crop" else wrapped(noise, offset, samples)
        if not stretch.any():
            raise BadAudio(f"noise {name} is silent for {samples} samples from offset {offset}")
        return stretch


def wrapped(noise: Waveform, offset: float, samples: int) -> Waveform:
    """`samples` samples of the noise from a share of its length on, going round as often as needed."""
    start = int(offset * len(noise)) % len(noise)
    return np.resize(np.concatenate([noise[start:], noise[:start]]), samples)


def cropped(noise: Waveform, offset: float, samples: int) -> Waveform:
    """`samples` adjacent samples of the noise, from a share of what may be left out on; shorter ones go round."""
    if len(noise) < samples:
        return wrapped(noise, offset, samples)
    start = int(offset * (len(noise) - samples + 1)) % (len(noise) - samples + 1)
    return noise[start : start + samples]
