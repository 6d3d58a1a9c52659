"""The chain of the ICASSP 2024 Speech Signal Improvement synthesiser, for RaD-Net 2."""

from simulation.composition import Part, Some
from simulation.degradations import (
    AdcFilter,
    AddHiss,
    AddNoise,
    Alias,
    BandLimit,
    Clip,
    Codec,
    Equalise,
    Expand,
    GainSteps,
    Level,
    PacketLoss,
    Quantise,
    Reverberate,
)
from simulation.rooms import RoomBank
from simulation.scenario import Case, Scenario, Size
from simulation.schema import OneOf, Range


def ssi48() -> Scenario:
    """Room, gain, noise, microphone, converter, gain control and network, each in its share of rows, at 48 kHz.

    Source: demo synthesiser of the ICASSP 2024 Speech Signal Improvement challenge, in its order and with its
    probabilities and ranges, as RaD-Net 2 (2024) would train on it; packet loss and codecs (0.2 each) are not in it and
    are those of the same group's recipe. Needs sources of 48 kHz.

    Deviates: the target keeps the first 50 ms of the room (theirs is dry and not aligned); rooms are simulated (RT60
    0.1 to 0.6 s), in 0.5 of the rows, in place of its responses and its algorithmic reverberator, and come first, so
    that speech alone is reverberant; the SNR is to active speech after its gain step; hiss has an SNR of its own; the
    expander comes in 0.1 of the rows (the code's default; the shipped configuration says 1.0); clipping is relative to
    the peak; every filter is without phase; what is beyond full scale is clipped once, at the end. Its phaser (0.02)
    and its saturation (0.01) are left out.
    """
    return _ssi("ssi48", 48_000)


def ssi() -> Scenario:
    """The chain of `ssi48` at 16 kHz, the band that most of its ranges are written for.

    Source: demo synthesiser of the ICASSP 2024 Speech Signal Improvement challenge.

    Deviates: as `ssi48`.
    """
    return _ssi("ssi", 16_000)


def _ssi(name: str, sample_rate: int) -> Scenario:
    return Scenario(
        name=name,
        sample_rate=sample_rate,
        rirs="none",
        rooms=RoomBank(
            rooms=48,
            length_m=Range(low=3.0, high=8.0),
            width_m=Range(low=3.0, high=8.0),
            height_m=Range(low=3.0, high=4.0),
            distance_m=Range(low=0.3, high=2.0),
            rt60_s=Range(low=0.1, high=0.6),
            method="hybrid",
        ),
        cases=(Case(name="chain", degradations=(*_near_end(), *_device(), *_network(sample_rate))),),
        size=Size(train_hours=1.0, valid_rows=96, test_rows=256),
    )


def _near_end() -> tuple[Part, ...]:
    """The speaker, the room and what else sounds in it."""
    to_the_end, to_a_point = GainSteps(label="gain_to_the_end"), GainSteps(label="gain_to_a_point", end=_span(0.0, 1.0))
    noise = AddNoise(snr_db=_span(-5.0, 20.0), fit="crop")
    return (
        Reverberate(probability=0.5, target="early"),
        Some(label="gain_step", probability=0.2, of=(to_the_end, to_a_point), count=1, weights=(0.9, 0.1)),
        Some(label="noises", probability=0.5, of=(noise, AddHiss(probability=0.6, snr_db=_span(0.0, 25.0)))),
        Level(level_db=-27.0),
    )


def _device() -> tuple[Part, ...]:
    """Microphone, converter and gain control."""
    band_pass = (
        AdcFilter(label="band_pass_low", highpass_hz=_span(10.0, 100.0), lowpass_hz=None, rolloff_db_per_octave=48),
        BandLimit(label="band_pass_high", cutoff_hz=_span(2000.0, 4000.0), rolloff_db_per_octave=84),
    )
    return (
        Some(label="band_pass", probability=0.2, of=band_pass),
        _gain("speaker_gain", -10.0, 10.0, probability=0.2),
        Equalise(probability=0.5),
        AdcFilter(label="high_pass", probability=0.7, lowpass_hz=None),
        AdcFilter(label="low_pass", probability=0.7, highpass_hz=None),
        Quantise(probability=0.1, bits=OneOf(values=tuple(range(8, 25)))),
        Some(label="anti_agc", probability=0.1, of=(Expand(), _gain("expander_gain", 11.0, 26.0))),
        _gain("agc_gain", 5.0, 20.0, probability=0.1),
        Clip(probability=0.25, ceiling_db=_span(-12.0, -3.0)),
        _gain("post_gain", -5.0, 0.0, probability=0.25),
    )


def _network(sample_rate: int) -> tuple[Part, ...]:
    """A telephone codec, else a resampler; then what a call adds."""
    highest_hz = min(32_000.0, sample_rate - 100.0)
    resampled = (
        Alias(rate_hz=_span(3000.0, highest_hz)),
        BandLimit(
            label="resample", cutoff_hz=_span(1500.0, highest_hz / 2), family=OneOf(values=("polyphase", "soxr"))
        ),
    )
    return (
        Some(
            label="telephone_or_resampler",
            probability=0.55,
            of=(Codec(label="gsm", format="gsm"), Some(label="resampler", of=resampled, count=1)),
            count=1,
            weights=(0.25, 0.30),
        ),
        Codec(probability=0.2, format=OneOf(values=("mp3", "opus"))),
        PacketLoss(probability=0.2, loss_rate=_span(0.0, 0.2), concealment=OneOf(values=("zero", "repeat"))),
        Quantise(label="full_scale", bits=24),
    )


def _gain(label: str, low_db: float, high_db: float, probability: float = 1.0) -> GainSteps:
    """One gain from the first sample on."""
    return GainSteps(label=label, probability=probability, gain_db=_span(low_db, high_db), start=0.0, ramp_ms=0.0)


def _span(low: float, high: float) -> Range:
    return Range(low=low, high=high)
