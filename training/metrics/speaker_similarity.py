"""Speaker similarity: whether the enhanced still sounds like the same person to a network of the user's own."""

import numpy as np

from training.metrics.base import Metric, MetricFailed, Waveform
from training.metrics.weights import network_at

VARIABLE = "UNMUFFLE_SPEAKER"
TAKES = "a TorchScript or ONNX speaker network: [1, samples] at 16 kHz in, one embedding out"
SHORTEST_S = 1.0
"""Embeddings of less are unreliable."""


def measure(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Cosine between the embeddings of the clean and the enhanced, -1 to 1."""
    if len(clean) < SHORTEST_S * sample_rate:
        raise MetricFailed(f"shorter than {SHORTEST_S:g} s")
    embed = network_at(VARIABLE, TAKES)
    one, other = (embed(waveform.astype(np.float32)[None]).ravel().astype(float) for waveform in (clean, enhanced))
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


SPEAKER_SIMILARITY = Metric(
    name="speaker_similarity",
    title="Speaker similarity",
    unit="cosine",
    higher_is_better=True,
    sample_rate=16_000,
    needs_clean=True,
    version=1,
    definition=(
        "Cosine between speaker embeddings of the clean and the enhanced. Networks have scales of their own: compare "
        "only values of the same one. Weights are not shipped."
    ),
    measure=measure,
    fails_when=f"shorter than 1 s, or {VARIABLE} does not name its weights",
    needs_weights=VARIABLE,
)
