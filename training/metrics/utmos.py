"""UTMOS: naturalness as listeners would rate it, predicted from the enhanced alone by a network of the user's own."""

import numpy as np

from training.metrics.base import Metric, Waveform
from training.metrics.weights import network_at

VARIABLE = "UNMUFFLE_UTMOS"
TAKES = "a TorchScript or ONNX file of UTMOS22 strong: [1, samples] at 16 kHz in, one score out"


def measure(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Predicted opinion, about 1 to 4.5. One utterance at a time: padding in a batch would move the score.

    Source: Saeki et al., "UTMOS", Interspeech 2022. SpeechMOS's re-implementation, traced with its rate at 16 kHz,
    is such a file.
    """
    return float(np.mean(network_at(VARIABLE, TAKES)(enhanced.astype(np.float32)[None])))


UTMOS = Metric(
    name="utmos",
    title="UTMOS",
    unit="MOS 1 to 5",
    higher_is_better=True,
    sample_rate=16_000,
    needs_clean=False,
    version=1,
    definition="Naturalness as predicted by UTMOS22 (strong learner) from the enhanced alone; weights are not shipped.",
    measure=measure,
    fails_when=f"{VARIABLE} does not name its weights",
    needs_weights=VARIABLE,
)
