"""SI-SIR and SI-SAR: how much of what is wrong with the enhanced is left-over noise, and how much is artefact."""

from functools import partial
from typing import Literal

import numpy as np

from training.metrics.base import SILENCE_PEAK, Metric, MetricFailed, Waveform
from training.metrics.si_sdr import CEILING_DB


def measure(
    clean: Waveform, enhanced: Waveform, sample_rate: int, noisy: Waveform, rest: Literal["noise", "artefacts"]
) -> float:
    """Energy of the clean's share in the enhanced over that of the noise's share, or of what is neither; dB, ±100.

    Shares are projections on the clean and on the noise n = noisy - clean, ⟨ŝ,n⟩/‖n‖² · n, each taken for itself: the
    two are not quite orthogonal, so that even the noisy has artefacts (30 to 40 dB down). The mean is not removed.

    Source: Le Roux et al., ICASSP 2019; this two-projection form is that of SGMSE's evaluation.
    """
    noise = noisy - clean
    if np.abs(noise).max() < SILENCE_PEAK:
        raise MetricFailed("noisy holds no noise")
    wanted = (enhanced @ clean) / (clean @ clean) * clean
    left_over = (enhanced @ noise) / (noise @ noise) * noise
    unwanted = left_over if rest == "noise" else enhanced - wanted - left_over
    limit = 10.0 ** (CEILING_DB / 10.0)
    signal, bad = float(wanted @ wanted), float(unwanted @ unwanted)
    if signal >= bad * limit:
        return CEILING_DB
    if bad >= signal * limit:
        return -CEILING_DB
    return 10.0 * float(np.log10(signal / bad))


def _metric(name: str, title: str, rest: Literal["noise", "artefacts"], definition: str) -> Metric:
    return Metric(
        name=name,
        title=title,
        unit="dB",
        higher_is_better=True,
        sample_rate=None,
        needs_clean=True,
        version=1,
        definition=f"{definition}. Means something for additive noise only: not for reverberation or lost bandwidth.",
        measure=partial(measure, rest=rest),
        fails_when="noisy equals clean",
        needs_noisy=True,
    )


SI_SIR = _metric("si_sir", "SI-SIR", "noise", "Energy of the clean's share in the enhanced over that of the noise's")
SI_SAR = _metric(
    "si_sar", "SI-SAR", "artefacts", "Energy of the clean's share in the enhanced over what is neither clean nor noise"
)
