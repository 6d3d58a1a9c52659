"""Whether an answer is sane: a second of speech to ask every version about, and what its answer must look like."""

import numpy as np

from serving.engine import Engine
from simulation.audio import Waveform
from simulation.errors import VerificationFailed

SILENT = 1e-3
"""RMS of an answer over RMS of the question, below which it counts as silence (-60 dB)."""
PROBE_RATE = 16_000
"""Hz."""


def probe() -> Waveform:
    """`[samples, channels]` of something like a voice: a 120 Hz pulse train through three formants, in syllables."""
    time_s = np.arange(PROBE_RATE) / PROBE_RATE
    voice = sum(
        np.exp(-(((120 * k - formant) / 150) ** 2)) * np.cos(2 * np.pi * 120 * k * time_s)
        for k in range(1, 30)
        for formant in (600, 1200, 2500)
    )
    syllables = np.sin(2 * np.pi * 2 * time_s) ** 2
    spoken = voice * syllables
    return np.asarray(0.3 * spoken / np.abs(spoken).max(), dtype=np.float32)[:, np.newaxis]


def check_answer(asked: Waveform, answered: Waveform, who: str) -> None:
    """Raise `VerificationFailed` unless the answer has the shape of the question, is finite and not silent."""
    found = ""
    if answered.shape != asked.shape:
        found = f"{answered.shape[0]} samples of {answered.shape[-1]} channels"
    elif not np.isfinite(answered).all():
        found = "NaN or infinity"
    elif _rms(answered) < SILENT * _rms(asked):
        found = "silence"
    if found:
        raise VerificationFailed(
            f"{who} answered a second of speech with {found}. Expected {asked.shape[0]} finite samples of"
            f" {asked.shape[1]} channels that can be heard; it stays out of service. Train again or promote another."
        )


def self_test(engine: Engine, who: str) -> None:
    """Ask about speech and about digital silence; raise `VerificationFailed` where the answer is not sane."""
    asked = probe()
    check_answer(asked, engine.enhance(asked, PROBE_RATE), who)
    engine.enhance(np.zeros_like(asked), PROBE_RATE)


def _rms(samples: Waveform) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
