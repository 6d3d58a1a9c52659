"""URGENT 2025: noise or wind, sometimes a room, then none to three of four device and network faults."""

from simulation.composition import Some
from simulation.degradations import (
    AddNoise,
    AddWind,
    BandLimit,
    Clip,
    ClipQuantiles,
    Codec,
    PacketLoss,
    Reverberate,
)
from simulation.rooms import RoomBank
from simulation.scenario import Case, Scenario, Size
from simulation.schema import OneOf, Range

RATES = (8000, 16_000, 22_050, 24_000, 32_000, 44_100)
"""What a band may be limited to, where it is below the corpus's own."""

HOW_MANY = OneOf(values=(0, 1, 2, 3), weights=(0.25, 0.40, 0.20, 0.15))
"""Extra distortions of a row."""


def urgent() -> Scenario:
    """A room in half of the rows, noise in 19 of 20 and wind in the others, then extra distortions in drawn order.

    Source: simulator of the URGENT 2025 challenge: noise at -5 to 20 dB, wind at -10 to 15 dB that ducks the speech and
    is clipped in 0.75 of its rows, target early (50 ms); none to three (0.25, 0.40, 0.20, 0.15) of band limit, clipping
    at quantiles, codec and packet loss; no such clipping beside wind.

    Deviates: it writes every utterance at its own rate, here all have one; the SNR is to active speech; MP3 has a
    constant bit rate; of four resamplers two are here; lost packets are as many as the row says; target and input keep
    one gain beside wind; codecs come without delay; wind is synthesised row by row; rooms are simulated.
    """
    return _urgent("urgent", 16_000)


def urgent48() -> Scenario:
    """What `urgent` is, at 48 kHz, its highest rate; needs sources of that rate.

    Source: simulator of the URGENT 2025 challenge.

    Deviates: as `urgent`.
    """
    return _urgent("urgent48", 48_000)


def _urgent(name: str, sample_rate: int) -> Scenario:
    reverb = Reverberate(probability=0.5, target="early")
    noise = AddNoise(snr_db=Range(low=-5.0, high=20.0), fit="crop")
    wind = AddWind(snr_db=Range(low=-10.0, high=15.0), ratio=Range(low=1.0, high=20.0))
    overload = Clip(probability=0.75, ceiling_db=Range(low=-1.41, high=0.0))
    band_limit = BandLimit(
        target_rate=OneOf(values=tuple(rate for rate in RATES if rate < sample_rate)),
        family=OneOf(values=("polyphase", "soxr")),
    )
    codec = Codec(
        format=OneOf(values=("mp3", "vorbis", "opus"), weights=(2.0, 1.0, 1.0)),
        bitrate_kbps=Range(low=16.0, high=96.0) if sample_rate == 16_000 else Range(low=32.0, high=160.0),
    )
    faults = (band_limit, codec, PacketLoss())
    return Scenario(
        name=name,
        sample_rate=sample_rate,
        rirs="sample" if sample_rate == 16_000 else "none",
        rooms=RoomBank(
            rooms=48,
            length_m=Range(low=3.0, high=10.0),
            width_m=Range(low=3.0, high=8.0),
            height_m=Range(low=2.4, high=4.0),
            rt60_s=Range(low=0.2, high=1.2),
            method="hybrid",
        ),
        cases=(
            Case(
                name="noise",
                share=19,
                degradations=(
                    reverb,
                    noise,
                    Some(label="extras", of=(*faults, ClipQuantiles()), count=HOW_MANY, order="drawn"),
                ),
            ),
            Case(
                name="wind",
                degradations=(
                    reverb,
                    wind,
                    overload,
                    Some(label="extras", of=faults, count=HOW_MANY, order="drawn"),
                ),
            ),
        ),
        size=Size(train_hours=1.0, valid_rows=96, test_rows=320),
    )
