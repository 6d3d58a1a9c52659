"""Metrics: one file each; a new one is known by its line in `METRICS`."""

from training.metrics.base import Metric, MetricFailed
from training.metrics.estoi import ESTOI
from training.metrics.lsd import LSD
from training.metrics.pesq import PESQ, PESQ_NB
from training.metrics.si_sdr import SI_SDR
from training.metrics.stoi import STOI

METRICS: dict[str, Metric] = {metric.name: metric for metric in (SI_SDR, PESQ, PESQ_NB, STOI, ESTOI, LSD)}
"""Every metric there is, by name."""

STANDARD = ("si_sdr", "pesq", "stoi", "estoi", "lsd")
"""What an evaluation scores unless told otherwise."""

__all__ = ["METRICS", "STANDARD", "Metric", "MetricFailed"]
