"""Like VoiceFixer's training set: low-pass, clipping, room, low-pass again, noise."""

from simulation.degradations import AddNoise, BandLimit, Clip, Reverberate
from simulation.rooms import RoomBank
from simulation.scenario import Case, Scenario, Size
from simulation.scenarios.dm import FAMILIES
from simulation.schema import OneOf, Range

ORDERS = OneOf(values=tuple(range(24, 121, 12)))
"""Order 2 to 10, in dB per octave of the two directions."""


def voicefixer() -> Scenario:
    """Every row low-passed and noisy, some clipped and in a room first; the target is the dry, full-band speech.

    Source: training configuration of VoiceFixer (Liu and others 2021): low-pass in 0.25 of the rows, clipping in 0.2 (a
    gain of 1 to 11), room in 0.3, then a low-pass of order 2 to 10 from 750 Hz on in all, noise at -5 to 40 dB; in half
    of them the noise passes the low-pass too.

    Deviates: drawn row by row (theirs has one cutoff for a batch); the SNR is to active speech, and quiet speech is not
    left without noise; the room's delay is cut, so that target and input are aligned (theirs are not); no second
    resampling; gains 0.3 to 1 are left out.
    """
    return _voicefixer("voicefixer", 16_000)


def voicefixer48() -> Scenario:
    """What `voicefixer` is, at 48 kHz (VoiceFixer's own rate is 44.1 kHz); needs sources of that rate.

    Source: training configuration of VoiceFixer (Liu and others 2021).

    Deviates: as `voicefixer`.
    """
    return _voicefixer("voicefixer48", 48_000)


def _voicefixer(name: str, sample_rate: int) -> Scenario:
    highest_hz = min(22_000.0, 0.49 * sample_rate)
    first = BandLimit(label="low_pass", probability=0.25, cutoff_hz=Range(low=4000.0, high=highest_hz), family=FAMILIES)
    clip = Clip(probability=0.2, ceiling_db=Range(low=-20.8, high=0.0))
    reverb = Reverberate(probability=0.3, target="dry")
    second = BandLimit(cutoff_hz=Range(low=750.0, high=highest_hz), family=FAMILIES, rolloff_db_per_octave=ORDERS)
    noise = AddNoise(snr_db=Range(low=-5.0, high=40.0), fit="crop")
    return Scenario(
        name=name,
        sample_rate=sample_rate,
        rirs="sample" if sample_rate == 16_000 else "none",
        rooms=RoomBank(rooms=48, rt60_s=Range(low=0.2, high=1.0), method="hybrid"),
        cases=(
            Case(name="full_band_noise", degradations=(first, clip, reverb, second, noise)),
            Case(name="low_passed_noise", degradations=(first, clip, reverb, noise, second)),
        ),
        size=Size(train_hours=1.0, valid_rows=64, test_rows=256),
    )
