"""Reverberation: the speaker stands in a room, and the room answers."""

from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from simulation.degradations.base import Choice, Degradation, Mixture, Pick, Recordings, Waveform, recording_id
from simulation.rir import DIRECT_S, Rir

EARLY_S = 0.050
"""Reflections up to here after the direct sound are heard as part of it."""


class Reverberate(Degradation):
    """Convolve with a whole room impulse response; the target keeps as much of the room as `target` says.

    early        the direct sound and the reflections of the first 50 ms (URGENT, NeMo)
    direct       the direct sound only, up to 2.5 ms after its arrival (RENet, DM)
    dry          the speech as it was recorded (VoiceFixer, Miipher)
    reverberant  the whole room: only what comes after is to be removed (DNS)

    The response is first scaled so that its direct sound has unit energy and positive sign: every target then has the
    level and the polarity of the dry speech. The travel time of the direct sound is cut from all of them, so target and
    input are aligned with the dry speech at lag 0. The reverberation is cut where the utterance ends.

    Source: URGENT, NeMo, RENet, DM, VoiceFixer, Miipher and DNS, each for its target. The common scale is ours.
    """

    kind: Literal["reverb"] = "reverb"

    rir: Pick = Choice(of="rir")
    """Which room, and where in it."""

    target: Literal["early", "direct", "dry", "reverberant"] = "early"
    """What the clean side keeps of the room."""

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """Both sides move into the room; records the response's `rt60_s` (where it can be measured) and `drr_db`."""
        rir = recordings.rir(recording_id(self.rir)).normalised
        clean, noisy = mixture.clean, mixture.noisy
        if self.target == "dry":
            noisy, *_ = convolve(noisy, rir)
        elif clean is noisy:  # the room comes first, as rooms do: one transform of the speech serves both sides
            noisy, clean = convolve(noisy, rir, kept(rir, self.target))
        else:
            noisy, clean = *convolve(noisy, rir), *convolve(clean, kept(rir, self.target))
        return replace(mixture, clean=clean, noisy=noisy, measured={**mixture.measured, **rir.measured})


def kept(rir: Rir, target: Literal["early", "direct", "reverberant"]) -> Rir:
    """The response up to the end of its early reflections, or of its direct sound, or all of it."""
    if target == "reverberant":
        return rir
    length_s = EARLY_S if target == "early" else DIRECT_S
    return replace(rir, samples=rir.samples[: rir.onset + round(length_s * rir.sample_rate) + 1])


def convolve(samples: Waveform, *rirs: Rir) -> list[Waveform]:
    """The samples in each room, as long as before, without the travel time of the direct sound.

    The transforms are as long as the longest response asks for, in double precision.
    """
    size = next_fast_len(len(samples) + max(len(rir.samples) for rir in rirs) - 1, real=True)
    spectrum = rfft(samples.astype(np.float64), size)
    wet = ((rir, irfft(spectrum * rfft(rir.samples.astype(np.float64), size), size)) for rir in rirs)
    return [each[rir.onset : rir.onset + len(samples)].astype(np.float32) for rir, each in wet]
