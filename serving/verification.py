"""Whether an answer is sane: a second of speech to ask every version about, and what its answer must look like."""

from functools import cache

import numpy as np

from serving.engine import Engine
from simulation import audio
from simulation.audio import Waveform
from simulation.corpora.sample import SAMPLE
from simulation.errors import VerificationFailed

SILENT = 1e-3
"""RMS of an answer over RMS of the question, below which it counts as silence (-60 dB)."""
PROBE = "speech/lj_LJ001-0015.flac"
"""Of the sample corpus: a woman reads."""
PROBE_START_S = 1.0
PROBE_RATE = 16_000
"""Hz."""


@cache
def probe() -> Waveform:
    """A second of real speech, `[samples, 1]`. Do not write into it."""
    samples, _ = audio.read((SAMPLE / PROBE).read_bytes(), PROBE)
    start = round(PROBE_START_S * PROBE_RATE)
    return samples[start : start + PROBE_RATE]


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
    if engine.model.causal:  # what streams need is made now, and not when somebody speaks
        stream = engine.stream(PROBE_RATE)
        check_answer(asked, np.concatenate([stream.feed(asked), stream.end()]), f"A stream through {who}")


def _rms(samples: Waveform) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
