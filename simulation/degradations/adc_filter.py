"""The filters around a converter: a high-pass against rumble and offset, a low-pass against aliases."""

from dataclasses import replace
from typing import Literal

from simulation.degradations.band_limit import SHORTEST_SAMPLES
from simulation.degradations.base import Degradation, Mixture, Recordings, drawn, extremes, number
from simulation.degradations.effects import rendered
from simulation.degradations.equalise import with_change
from simulation.errors import BadAudio
from simulation.schema import Amount, OneOf, Range


class AdcFilter(Degradation):
    """High-pass and low-pass the noisy waveform gently, without delay; the clean target stays as it is.

    audiomentations' Butterworth filters, run forwards and backwards: -6 dB at each frequency and no phase, so the pair
    stays aligned. Give None for a filter that the device lacks; two operations with one filter each make them happen
    independently. For a band that ends where it says, see `band_limit`.

    Source: the ADC high-pass (4 to 100 Hz) and low-pass (5 to 7.9 kHz) of the ICASSP 2024 Speech Signal Improvement
    synthesiser, which compensates no latency.
    """

    kind: Literal["adc_filter"] = "adc_filter"

    highpass_hz: Amount | None = Range(low=4.0, high=100.0)
    """Where the high-pass is 6 dB down, in Hz."""

    lowpass_hz: Amount | None = Range(low=5000.0, high=7900.0)
    """Where the low-pass is 6 dB down, in Hz; one at or above half the sample rate does nothing."""

    rolloff_db_per_octave: Literal[12, 24, 36, 48] | OneOf = 12
    """Steepness of both."""

    def check(self, sample_rate: int) -> None:
        """The high-pass lies below the low-pass."""
        low, high = extremes(self.highpass_hz or 0.0)[1], extremes(self.lowpass_hz or sample_rate)[0]
        if not low < min(high, sample_rate / 2):
            raise ValueError(f"highpass_hz reaches {low:g}; it must stay below lowpass_hz and {sample_rate / 2:g}")

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side is filtered; records by how much its level changed, `adc_filter_db`."""
        if len(mixture.noisy) < SHORTEST_SAMPLES:
            raise BadAudio(f"{len(mixture.noisy)} samples are too short to filter; at least {SHORTEST_SAMPLES} needed")
        rolloff, noisy = drawn(self.rolloff_db_per_octave), mixture.noisy
        for effect, frequency in (("HighPassFilter", self.highpass_hz), ("LowPassFilter", self.lowpass_hz)):
            if frequency is not None and number(frequency) < mixture.sample_rate / 2:
                parameters = {"cutoff_freq": number(frequency), "rolloff": rolloff}
                settings = {"min_rolloff": rolloff, "max_rolloff": rolloff, "zero_phase": True}
                noisy = rendered(effect, noisy, mixture.sample_rate, parameters, **settings)
        return replace(mixture, noisy=noisy, measured=with_change(mixture, noisy, "adc_filter_db"))
