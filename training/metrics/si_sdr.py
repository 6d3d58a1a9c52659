"""SI-SDR: scale-invariant signal-to-distortion ratio."""

import numpy as np

from training.metrics.base import Metric, Waveform

CEILING_DB = 100.0
"""16 bit audio cannot hold a better ratio; a perfect estimate would be infinite and spoil every mean."""


def measure(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """Energy of the clean's share in the enhanced over the energy of the rest, in dB within ±`CEILING_DB`.

    The share is the projection of the enhanced on the clean, ⟨ŝ,s⟩/‖s‖² · s; the mean is not removed.

    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, equation 5.
    """
    share = (enhanced @ clean) / (clean @ clean) * clean
    rest = enhanced - share
    limit = 10.0 ** (CEILING_DB / 10.0)
    signal, distortion = float(share @ share), float(rest @ rest)
    if signal >= distortion * limit:
        return CEILING_DB
    if distortion >= signal * limit:
        return -CEILING_DB
    return 10.0 * float(np.log10(signal / distortion))


SI_SDR = Metric(
    name="si_sdr",
    title="SI-SDR",
    unit="dB",
    higher_is_better=True,
    sample_rate=None,
    needs_clean=True,
    version=1,
    definition=(
        "Energy of the enhanced's projection on the clean over the energy of what remains, without removing the mean "
        "(Le Roux et al. 2019), limited to ±100 dB. Needs sample alignment."
    ),
    measure=measure,
)
