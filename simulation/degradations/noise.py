"""Additive noise: something else sounds while the speaker talks."""

from dataclasses import replace
from typing import Literal

import numpy as np

from simulation import levels
from simulation.degradations.base import Choice, Degradation, Mixture, Pick, Recordings, Waveform, number, recording_id
from simulation.errors import BadAudio
from simulation.schema import Amount, Range


class AddNoise(Degradation):
    """Add a noise recording at a drawn signal-to-noise ratio.

    The ratio is the active level of the speech as it stands (reverberant, if a room came before) over the mean power of
    the noise that is added, so pauses in the speech do not make the noise louder than asked. A recording shorter than
    the utterance repeats from its start; the clean target is left alone.

    Source: the level convention of ITU-T P.56 and of VoiceBank+DEMAND; noise after the room and after the band limit as
    in the signal model y = h(x * r) + n of DM.
    """

    kind: Literal["noise"] = "noise"

    recording: Pick = Choice(of="noise")
    """Which noise."""

    offset: Amount = Range(low=0.0, high=1.0)
    """Where in the recording to start, as a share of its length."""

    snr_db: Amount = Range(low=-5.0, high=15.0)
    """Active speech level over mean noise power, in dB."""

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """Noise on the noisy side only; records the realised `snr_db`."""
        name = recording_id(self.recording)
        noise = wrapped(recordings.samples(name), number(self.offset), len(mixture.noisy))
        if not noise.any():
            raise BadAudio(f"noise {name} is silent for {len(noise)} samples from offset {self.offset}")
        gain = levels.snr_gain(mixture.noisy, noise, number(self.snr_db), mixture.sample_rate)
        scaled = (noise * gain).astype(np.float32)
        snr_db = levels.measured_snr_db(mixture.noisy, scaled, mixture.sample_rate)
        return replace(mixture, noisy=mixture.noisy + scaled, measured={**mixture.measured, "snr_db": snr_db})


def wrapped(noise: Waveform, offset: float, samples: int) -> Waveform:
    """`samples` samples of the noise from a share of its length on, going round as often as needed."""
    start = int(offset * len(noise)) % len(noise)
    return np.take(noise, np.arange(start, start + samples), mode="wrap")
