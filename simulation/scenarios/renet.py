"""RENet's universal corpus: six cases of noise, reverberation and band limit."""

from simulation.degradations import AddNoise, BandLimit, Level, Reverberate
from simulation.rooms import RoomBank
from simulation.scenario import Case, Scenario, Size
from simulation.schema import OneOf, Range


def renet() -> Scenario:
    """Six cases in equal shares: noise, reverberation and band limit alone, and the three mixtures with noise or room.

    Source: training set of "Global Rotation Equivariant Phase Modeling for Speech Enhancement" (RENet, 2026), after the
    DNS synthesiser: level -35 to -15 dBFS, then room (RT60 0.3 to 1.3 s; target: direct path), then noise at -5 to 20
    dB, then band limit by resampling (2 or 4 kHz alone, 4 kHz in mixtures).

    Deviates: levels and SNRs are not whole numbers; the SNR is to active speech; the direct path lasts 2.5 ms after its
    peak (theirs ends 5 samples after it) and its delay is cut from both sides; one gain always goes to both sides
    (theirs leaves the target behind in fewer than 3.5 % of the files); rooms are simulated, beside the measured ones.
    """
    level = Level(level_db=Range(low=-35.0, high=-15.0))
    noise = AddNoise(snr_db=Range(low=-5.0, high=20.0))
    reverb = Reverberate(target="direct")
    telephone = BandLimit(target_rate=8000, family="soxr")
    either = BandLimit(target_rate=OneOf(values=(4000, 8000)), family="soxr")
    return Scenario(
        name="renet",
        rooms=RoomBank(
            rooms=48,
            length_m=Range(low=3.0, high=10.0),
            width_m=Range(low=3.0, high=8.0),
            height_m=Range(low=2.4, high=4.0),
            rt60_s=Range(low=0.3, high=1.3),
            method="hybrid",
        ),
        cases=(
            Case(name="noise", degradations=(level, noise)),
            Case(name="reverb", degradations=(level, reverb)),
            Case(name="band_limit", degradations=(level, either)),
            Case(name="reverb_noise", degradations=(level, reverb, noise)),
            Case(name="noise_band_limit", degradations=(level, noise, telephone)),
            Case(name="reverb_noise_band_limit", degradations=(level, reverb, noise, telephone)),
        ),
        size=Size(train_hours=1.0, valid_rows=96, test_rows=288),
    )
