"""Band limitation: the top of the spectrum is missing, as on a telephone line or after careless resampling."""

from dataclasses import replace
from typing import Literal

from pydantic import Field

from simulation.degradations.base import Degradation, Mixture, Recordings, Waveform, extremes, number
from simulation.errors import BadAudio
from simulation.schema import Amount, Range

SHORTEST_SAMPLES = 64
"""A filter that runs forwards and backwards needs some signal to start from."""


class BandLimit(Degradation):
    """Low-pass the noisy waveform, without delay; the clean target stays full-band.

    audiomentations' Butterworth filter, run forwards and backwards: zero phase, so the pair stays aligned, and -6 dB at
    the cutoff. It would draw its own cutoff from the global `random`; its parameters are set and frozen by us instead.

    Source: the low-pass of VoiceFixer's training configuration (order 2 to 10), at its steep end.
    """

    kind: Literal["band_limit"] = "band_limit"

    cutoff_hz: Amount = Range(low=1000.0, high=4000.0)
    """Where the response is 6 dB down, in Hz; above 0 and below half the scenario's sample rate."""

    rolloff_db_per_octave: int = Field(default=120, ge=12, le=240, multiple_of=12)
    """Steepness above the cutoff; 120 is order 10 in each direction and is 50 dB down at 1.4 times the cutoff."""

    def check(self, sample_rate: int) -> None:
        """The cutoff lies inside the band."""
        low, high = extremes(self.cutoff_hz)
        if not 0 < low <= high < sample_rate / 2:
            raise ValueError(
                f"cutoff_hz goes from {low:g} to {high:g}; it must lie between 0 and {sample_rate / 2:g}, half"
                " the sample rate"
            )

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side loses what is above the cutoff; records `cutoff_hz`."""
        if len(mixture.noisy) < SHORTEST_SAMPLES:
            raise BadAudio(f"{len(mixture.noisy)} samples are too short to filter; at least {SHORTEST_SAMPLES} needed")
        cutoff_hz = number(self.cutoff_hz)
        noisy = low_pass(mixture.noisy, mixture.sample_rate, cutoff_hz, self.rolloff_db_per_octave)
        return replace(mixture, noisy=noisy, measured={**mixture.measured, "cutoff_hz": cutoff_hz})


def low_pass(samples: Waveform, sample_rate: int, cutoff_hz: float, rolloff_db_per_octave: int) -> Waveform:
    """audiomentations' zero-phase low-pass with parameters of our choosing; touches no random state."""
    from audiomentations import LowPassFilter  # a second to import, and reading a scenario must be quick

    effect = LowPassFilter(min_rolloff=rolloff_db_per_octave, max_rolloff=rolloff_db_per_octave, zero_phase=True, p=1.0)
    effect.parameters = {"should_apply": True, "cutoff_freq": cutoff_hz, "rolloff": rolloff_db_per_octave}
    effect.freeze_parameters()
    return effect(samples, sample_rate)
