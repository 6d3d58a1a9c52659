"""An interfering talker: somebody else speaks while the speaker talks."""

from dataclasses import replace
from typing import Literal

import numpy as np

from simulation import levels
from simulation.degradations.base import Choice, Degradation, Mixture, Pick, Recordings, number, recording_id
from simulation.degradations.noise import wrapped
from simulation.errors import BadAudio
from simulation.schema import Amount, Range


class AddTalker(Degradation):
    """Add speech of another speaker of the same split at a drawn signal-to-interference ratio.

    The ratio is active speech level over active speech level (ITU-T P.56), so pauses of neither talker count. The other
    talker is never the row's own speaker; whoever is shorter than the utterance starts again. Where this stands before
    a room, both talk in it, at the same place.

    Source: the interferers of NeMo's audio simulator (0.3 of its mixtures, 5 to 25 dB) and the personalised DNS
    synthesiser. NeMo takes the ratio over whole signals and places up to two interferers elsewhere in the room.
    """

    kind: Literal["talker"] = "talker"

    recording: Pick = Choice(of="speech")
    """Which utterance; drawn, it is one of another speaker."""

    offset: Amount = Range(low=0.0, high=1.0)
    """Where in the utterance to start, as a share of its length."""

    sir_db: Amount = Range(low=5.0, high=25.0)
    """Active level of the speech over that of the other talker, in dB."""

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The other talker on the noisy side only; records the realised `sir_db`."""
        name, rate = recording_id(self.recording), mixture.sample_rate
        talker = wrapped(recordings.samples(name), number(self.offset), len(mixture.noisy))
        for who, samples in (("the speech", mixture.noisy), (name, talker)):
            if levels.silent(samples):
                raise BadAudio(f"{who} is silent for {len(samples)} samples, so there is no ratio of talkers")
        level_db = levels.active_level_db(mixture.noisy, rate)
        gain_db = level_db - levels.active_level_db(talker, rate) - number(self.sir_db)
        scaled = (talker * 10 ** (gain_db / 20)).astype(np.float32)
        sir_db = level_db - levels.active_level_db(scaled, rate)
        return replace(mixture, noisy=mixture.noisy + scaled, measured={**mixture.measured, "sir_db": sir_db})
