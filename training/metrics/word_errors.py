"""dWER: words that a recogniser hears differently in the enhanced than in the clean.

No transcript is needed: what the recogniser makes of the clean is the reference, hence the d. The recogniser is a file
of the user's own, with greedy CTC decoding of characters.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.metrics.base import Metric, MetricFailed, Waveform
from training.metrics.weights import network_at

VARIABLE = "UNMUFFLE_ASR"
TAKES = (
    "a TorchScript or ONNX recogniser: [1, samples] at 16 kHz in, [1, frames, tokens] out, with `<same name>.tokens` "
    "beside it: one token a line, the CTC blank first, | for the space between words"
)


def measure(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Edits over words of the reference, from 0; above 1 where words are made up."""
    recognise = network_at(VARIABLE, TAKES)
    tokens = _tokens(Path(os.environ[VARIABLE]).with_suffix(".tokens"))
    reference, heard = (
        transcript(recognise(waveform.astype(np.float32)[None])[0], tokens) for waveform in (clean, enhanced)
    )
    if not reference:
        raise MetricFailed("the recogniser hears no words in the clean")
    return edits(reference, heard) / len(reference)


def transcript(scores: np.ndarray, tokens: Sequence[str]) -> list[str]:
    """Words of the best token per frame, [frames, tokens]: repetitions merged, then blanks dropped."""
    best = scores.argmax(axis=1)
    kept = best[np.diff(best, prepend=-1) != 0]
    return "".join(tokens[token] for token in kept if token != 0).replace("|", " ").lower().split()


def edits(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Least number of substitutions, insertions and deletions between two sequences of words (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for count, word in enumerate(reference, start=1):
        diagonal, row[0] = row[0], count
        for place, other in enumerate(heard, start=1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (word != other))
    return row[-1]


def _tokens(path: Path) -> list[str]:
    if not path.is_file():
        raise MetricFailed(f"needs the recogniser's tokens: {path} is no file; expected {TAKES}")
    return path.read_text().splitlines()


DWER = Metric(
    name="dwer",
    title="dWER",
    unit="edits per word",
    higher_is_better=False,
    sample_rate=16_000,
    needs_clean=True,
    version=1,
    definition=(
        "Word edits between what a recogniser hears in the clean and in the enhanced, over the words in the clean. "
        "Recognisers differ: compare only values of the same one. Weights are not shipped."
    ),
    measure=measure,
    fails_when=f"no words in the clean, or {VARIABLE} does not name its weights",
    needs_weights=VARIABLE,
)
