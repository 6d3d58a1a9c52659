"""The grid of VoiceBank+DEMAND: noise at four levels in training, and at four others in the test."""

from simulation.degradations import AddNoise
from simulation.scenario import Case, Scenario, Size
from simulation.schema import OneOf


def voicebank_demand() -> Scenario:
    """Noise alone at 0, 5, 10 and 15 dB; in the test at 2.5, 7.5, 12.5 and 17.5 dB, by speakers and noises unheard.

    Source: VoiceBank+DEMAND (Valentini-Botinhao and others 2016): SNR to active speech (ITU-T P.56), dry targets.

    Deviates: speech and noise are the sources that are given; there is a split for validation, with the SNRs of
    training (the published corpus has none); speech keeps its pauses; a noise begins anywhere.
    """
    return _grid("voicebank_demand", 16_000)


def voicebank_demand48() -> Scenario:
    """The grid of `voicebank_demand` at 48 kHz, the rate of the published corpus; needs sources of that rate.

    Source: VoiceBank+DEMAND (Valentini-Botinhao and others 2016).

    Deviates: as `voicebank_demand`.
    """
    return _grid("voicebank_demand48", 48_000)


def _grid(name: str, sample_rate: int) -> Scenario:
    heard = AddNoise(snr_db=OneOf(values=(0.0, 5.0, 10.0, 15.0)), fit="crop")
    unheard = AddNoise(snr_db=OneOf(values=(2.5, 7.5, 12.5, 17.5)), fit="crop")
    return Scenario(
        name=name,
        sample_rate=sample_rate,
        rirs="none",
        cases=(
            Case(name="noise", degradations=(heard,), splits=("train", "valid")),
            Case(name="unheard_noise", degradations=(unheard,), splits=("test",)),
        ),
        size=Size(train_hours=1.0, valid_rows=64, test_rows=256),
    )
