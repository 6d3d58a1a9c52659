"""DM's signal model: y = h(x * r) + n."""

from simulation.degradations import AddNoise, BandLimit, Level, Reverberate
from simulation.rooms import RoomBank
from simulation.scenario import Case, Scenario, Size
from simulation.schema import OneOf, Range

FAMILIES = OneOf(values=("butter", "cheby1", "ellip", "bessel", "polyphase", "stft"))
"""The low-passes of VoiceFixer's training configuration."""


def dm() -> Scenario:
    """Room, then band limit, then noise: half of the rows mixed, and each of the three alone.

    Source: signal model of DM ("Dual-path Magnitude Network for General Speech Restoration", 2024, renamed DBP-Net in
    2026), of which the order is published and no range is.

    Deviates: the ranges are ours, after VoiceFixer's: room in half of the mixed rows (RT60 0.2 to 1.0 s; target: direct
    path), band limit in half of them (1 to 7.5 kHz, six kinds of filter), noise at -5 to 20 dB in all; level -35 to -15
    dBFS.
    """
    level = Level(level_db=Range(low=-35.0, high=-15.0))
    noise = AddNoise(snr_db=Range(low=-5.0, high=20.0))
    reverb = Reverberate(target="direct")
    band_limit = BandLimit(cutoff_hz=Range(low=1000.0, high=7500.0), family=FAMILIES)
    mixed = (reverb.model_copy(update={"probability": 0.5}), band_limit.model_copy(update={"probability": 0.5}), noise)
    return Scenario(
        name="dm",
        rooms=RoomBank(rooms=48, rt60_s=Range(low=0.2, high=1.0), method="hybrid"),
        cases=(
            Case(name="mixed", share=3, degradations=(level, *mixed)),
            Case(name="noise", degradations=(level, noise)),
            Case(name="reverb", degradations=(level, reverb)),
            Case(name="band_limit", degradations=(level, band_limit)),
        ),
        size=Size(train_hours=1.0, valid_rows=96, test_rows=288),
    )
