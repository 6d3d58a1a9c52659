"""Metrics: one file for each family; a new one is known by its line in `METRICS`."""

from training.metrics.alignment import DELAY, POLARITY
from training.metrics.base import Metric, MetricFailed
from training.metrics.clipping import CLIPPING
from training.metrics.composite import CBAK, COVL, CSIG
from training.metrics.dnsmos import DNSMOS_BAK, DNSMOS_OVRL, DNSMOS_P808, DNSMOS_SIG
from training.metrics.estoi import ESTOI
from training.metrics.loudness import LEVEL_DRIFT, LOUDNESS_ERROR
from training.metrics.lsd import LSD, LSD_URGENT
from training.metrics.muted import MUTED
from training.metrics.pesq import PESQ, PESQ_NB
from training.metrics.phase import PD, WOPD
from training.metrics.segmental_snr import SEG_SNR
from training.metrics.si_sdr import SI_SDR
from training.metrics.si_sir import SI_SAR, SI_SIR
from training.metrics.sigmos import SIGMOS_OVRL, SIGMOS_SIG
from training.metrics.speaker_similarity import SPEAKER_SIMILARITY
from training.metrics.srmr import SRMR, SRMR_FAST
from training.metrics.stoi import STOI
from training.metrics.utmos import UTMOS
from training.metrics.word_errors import DWER

_EVERY = (
    *(SI_SDR, SI_SIR, SI_SAR, SEG_SNR),
    *(PESQ, PESQ_NB, STOI, ESTOI),
    *(CSIG, CBAK, COVL),
    *(LSD, LSD_URGENT, PD, WOPD),
    *(SRMR, SRMR_FAST),
    *(DNSMOS_SIG, DNSMOS_BAK, DNSMOS_OVRL, DNSMOS_P808),
    *(LOUDNESS_ERROR, LEVEL_DRIFT, CLIPPING, MUTED, DELAY, POLARITY),
    *(UTMOS, SIGMOS_SIG, SIGMOS_OVRL, DWER, SPEAKER_SIMILARITY),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _EVERY}
"""Every metric there is, by name."""

STANDARD = ("si_sdr", "pesq", "stoi", "estoi", "lsd")
"""What an evaluation scores unless told otherwise."""

__all__ = ["METRICS", "STANDARD", "Metric", "MetricFailed"]
