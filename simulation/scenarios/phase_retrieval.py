"""Phase retrieval: the phase of clean speech from its magnitude."""

from simulation.degradations import Level
from simulation.scenario import Case, Scenario, Size
from simulation.schema import Range


def phase_retrieval() -> Scenario:
    """Clean speech on both sides: a network that retrieves phase is told the magnitude alone, and gives the phase back.

    Source: RENet's phase retrieval (arXiv 2602.08556), from the clean side of VoiceBank.

    Deviates: the speech is brought to levels of -35 to -15 dBFS. Nothing is removed from the audio, since a magnitude
    without its phase is not audio: the network leaves the phase out itself (`retrieve_phase`), so the unprocessed input
    is the clean, and what to compare with is in `training.phase_retrieval`.
    """
    level = Level(level_db=Range(low=-35.0, high=-15.0))
    return Scenario(
        name="phase_retrieval",
        cases=(Case(name="clean", degradations=(level,)),),
        size=Size(train_hours=0.7, valid_rows=32, test_rows=96),
    )
