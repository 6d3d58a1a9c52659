"""Gain steps: somebody turns a knob, or moves away from the microphone, in the middle of an utterance."""

from dataclasses import replace
from typing import Literal

import numpy as np

from simulation.degradations.base import Degradation, Mixture, Recordings, extremes, number
from simulation.schema import Amount, Range


class GainSteps(Degradation):
    """Change the gain of the noisy waveform between two points in time; the clean target stays as it is.

    The gain moves linearly in dB during `ramp_ms` from the start on, and back again from the end on; an end of 1 is the
    end of the utterance, so nothing moves back. A start of 0 and a ramp of 0 are a constant gain.

    Source: the near-end gain step of the ICASSP 2024 Speech Signal Improvement synthesiser (-18 to 18 dB from a point
    in the first 80 % to the end, in one case of ten to an earlier point), where the step takes no time.
    audiomentations' `GainTransition` has one transition a pass and fails on utterances shorter than it.
    """

    kind: Literal["gain_steps"] = "gain_steps"

    gain_db: Amount = Range(low=-18.0, high=18.0)
    """Gain between the two points, in dB."""

    start: Amount = Range(low=0.0, high=0.8)
    """Where it begins, as a share of the length."""

    end: Amount = 1.0
    """Where it ends, as a share of the length; what lies before `start` is taken as `start`."""

    ramp_ms: Amount = 5.0
    """Time that the gain takes to change, in ms."""

    def check(self, sample_rate: int) -> None:
        """Points are shares of the length."""
        for name, value in (("start", self.start), ("end", self.end)):
            low, high = extremes(value)
            if not 0 <= low <= high <= 1:
                raise ValueError(f"{name} goes from {low:g} to {high:g}; it is a share of the length, between 0 and 1")

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side changes its gain; records the share of samples under it, `gain_step_share`."""
        samples, ramp = len(mixture.noisy), number(self.ramp_ms) * mixture.sample_rate / 1000
        start = number(self.start) * samples
        end = max(number(self.end), number(self.start)) * samples if number(self.end) < 1 else np.inf
        time = np.arange(samples)
        moved = np.clip((time - start + 1) / max(ramp, 1), 0, 1) - np.clip((time - end + 1) / max(ramp, 1), 0, 1)
        gain = 10 ** (number(self.gain_db) * moved / 20)
        measured = {**mixture.measured, "gain_step_share": float(np.mean(moved > 0))}
        return replace(mixture, noisy=(mixture.noisy * gain).astype(np.float32), measured=measured)
