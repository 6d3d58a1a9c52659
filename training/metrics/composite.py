"""CSIG, CBAK and COVL: composite measures of signal distortion, background and overall quality.

Float convention: samples are handed over with full scale at 1, as in the evaluations of CMGAN, MP-SENet and RENet. The
same audio as 16 bit integers gets other numbers (see `spectral_slope.SCALE`); MATLAB scripts differ in this.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from training.metrics import pesq
from training.metrics.base import Metric, Waveform, shared
from training.metrics.linear_prediction import log_likelihood_ratio
from training.metrics.segmental_snr import measure as segmental_snr
from training.metrics.spectral_slope import weighted_spectral_slope


@dataclass(frozen=True)
class Parts:
    """What the composites are regressions of."""

    pesq: float
    llr: float
    wss: float
    seg_snr: float

    def raw(self, target: Literal["signal", "background", "overall"]) -> float:
        """Before it is limited to 1 to 5. Source: Hu and Loizou, IEEE TASLP 16(1), 2008, table of coefficients."""
        if target == "signal":
            return 3.093 - 1.029 * self.llr + 0.603 * self.pesq - 0.009 * self.wss
        if target == "background":
            return 1.634 + 0.478 * self.pesq - 0.007 * self.wss + 0.063 * self.seg_snr
        return 1.594 + 0.805 * self.pesq - 0.512 * self.llr - 0.007 * self.wss


@shared
def parts(clean: Waveform, enhanced: Waveform, sample_rate: int) -> Parts:
    """The four parts for one utterance; the three composites share them."""
    return Parts(
        pesq=pesq.measure(clean, enhanced, sample_rate),
        llr=log_likelihood_ratio(clean, enhanced, sample_rate),
        wss=weighted_spectral_slope(clean, enhanced, sample_rate),
        seg_snr=segmental_snr(clean, enhanced, sample_rate),
    )


def measure(
    clean: Waveform, enhanced: Waveform, sample_rate: int, target: Literal["signal", "background", "overall"]
) -> float:
    """Predicted mean opinion, 1 to 5."""
    return float(np.clip(parts(clean, enhanced, sample_rate).raw(target), 1.0, 5.0))


def _composite(name: str, target: Literal["signal", "background", "overall"], definition: str) -> Metric:
    return Metric(
        name=name,
        title=name.upper(),
        unit="1 to 5",
        higher_is_better=True,
        sample_rate=16_000,
        needs_clean=True,
        version=1,
        definition=f"{definition} (Hu and Loizou 2008), with wide-band PESQ and float samples of full scale 1.",
        measure=partial(measure, target=target),
        fails_when="PESQ fails, or no frame has anything to predict",
    )


CSIG = _composite("csig", "signal", "Signal distortion as predicted from LLR, PESQ and WSS")
CBAK = _composite("cbak", "background", "Intrusiveness of the background as predicted from PESQ, WSS and segSNR")
COVL = _composite("covl", "overall", "Overall quality as predicted from PESQ, LLR and WSS")
