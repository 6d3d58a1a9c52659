"""ESTOI: extended short-time objective intelligibility, for noise that comes and goes."""

from functools import partial

from training.metrics import stoi
from training.metrics.base import Metric

ESTOI = Metric(
    name="estoi",
    title="ESTOI",
    unit="0 to 1",
    higher_is_better=True,
    sample_rate=None,
    needs_clean=True,
    version=1,
    definition=(
        "Extended STOI (Jensen and Taal 2016): correlation of whole normalised spectrogram segments instead of single "
        "bands, so that modulated noise counts."
    ),
    measure=partial(stoi.measure, extended=True),
    fails_when="less than 384 ms of speech",
)
"""Source: Jensen and Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise
maskers", IEEE/ACM TASLP 24(11), 2016."""
