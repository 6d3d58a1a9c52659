"""PESQ: perceptual evaluation of speech quality, ITU-T P.862 (narrow band) and P.862.2 (wide band)."""

from functools import partial
from typing import Literal

from pesq import NoUtterancesError, PesqError
from pesq import pesq as itu_pesq

from training.metrics.base import Metric, MetricFailed, Waveform

SHORTEST_S = 0.25
"""P.862 has no score for less audio than this."""


def measure(
    clean: Waveform,
    enhanced: Waveform,
    sample_rate: int,
    band: Literal["wb", "nb"] = "wb",
) -> float:
    """Mean opinion score (MOS-LQO, 1.0 to 4.64) predicted from the clean and the enhanced, at 16 kHz.

    The `pesq` package takes the rate first and the clean before the enhanced; swapped, it answers without complaint.
    Its negative return codes are never asked for: what cannot be scored is a `MetricFailed`.
    """
    if len(clean) < SHORTEST_S * sample_rate:
        raise MetricFailed(f"shorter than {SHORTEST_S} s")
    try:
        return float(itu_pesq(sample_rate, clean, enhanced, band))
    except NoUtterancesError:
        raise MetricFailed("PESQ found no speech in it") from None
    except (PesqError, ValueError) as error:
        raise MetricFailed(f"PESQ refused it: {error}") from None


PESQ = Metric(
    name="pesq",
    title="PESQ",
    unit="MOS-LQO",
    higher_is_better=True,
    sample_rate=16_000,
    needs_clean=True,
    version=1,
    definition="Wide-band PESQ (ITU-T P.862.2) at 16 kHz, 1.0 to 4.64. Tolerates small delays, ignores gain.",
    measure=measure,
    fails_when="shorter than 0.25 s, or P.862 finds no speech",
)

PESQ_NB = Metric(
    name="pesq_nb",
    title="PESQ nb",
    unit="MOS-LQO",
    higher_is_better=True,
    sample_rate=16_000,
    needs_clean=True,
    version=1,
    definition="Narrow-band PESQ (ITU-T P.862.1) of 16 kHz audio, 1.0 to 4.55: what telephone papers report.",
    measure=partial(measure, band="nb"),
    fails_when="shorter than 0.25 s, or P.862 finds no speech",
)
