"""Two answers to one request, compared: what is wrong with the candidate's, held against the champion's. Pure.

Nobody knows the clean speech of a live request, so the champion's answer is what the candidate's is held against: it
was good enough until now. A check says why an answer fails it, says "" where it passes, and is absent where nothing
can be told, such as a delay against silence.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from serving.tolerances import Tolerances
from simulation.audio import Waveform, resample
from simulation.levels import active_level_db
from training.metrics.alignment import best_lag
from training.metrics.base import MetricFailed
from training.metrics.base import Waveform as Signal
from training.metrics.clipping import FULL_SCALE
from training.metrics.dnsmos import RATE as DNSMOS_RATE
from training.metrics.dnsmos import p835

SCORED_S = 10.0
"""Of each answer: its beginning says enough, and costs the machine that serves little."""
FRAME_S = 0.02
LOUD_WITHIN_DB = 10.0
"""Of the champion's 95th percentile: the frames in which somebody speaks."""
MUTED_BELOW_DB = -40.0
QUIET_BELOW_DB = -45.0
"""Active level, dBFS, below which an answer holds nobody who speaks: suppressed noise may differ as it likes."""
NOTHING = 1e-12
"""Power that is added before a logarithm."""


@dataclass(frozen=True)
class Answered:
    """One version's answer to a request."""

    seconds: float
    samples: Waveform = field(default_factory=lambda: np.zeros((0, 1), np.float32))
    """`[samples, channels]`; empty where there was none."""
    problem: str = ""
    """Why there was none."""

    def beginning(self, sample_rate: int) -> "Answered":
        """As much of it as is compared."""
        return replace(self, samples=self.samples[: round(SCORED_S * sample_rate)])


def unusable(champion: Answered, candidate: Answered) -> str:
    """Why nobody could be given the candidate's answer; "" where it has the form that an answer must have."""
    if candidate.problem:
        return candidate.problem
    if candidate.samples.shape != champion.samples.shape:
        return f"shape {candidate.samples.shape}, not {champion.samples.shape}"
    return "" if np.isfinite(candidate.samples).all() else "NaN or infinity"


def findings(
    champion: Answered, candidate: Answered, sample_rate: int, tolerances: Tolerances, quality: bool
) -> dict[str, str]:
    """By check: why the candidate's answer fails it, or "". `quality` asks DNSMOS too, the one check that is slow."""
    found = {"answers": unusable(champion, candidate)}
    if found["answers"]:
        return found
    found["speed"] = _speed(champion.seconds, candidate.seconds, tolerances)
    loudest = int(np.argmax(np.sum(np.square(champion.samples, dtype=np.float64), axis=0)))
    few = round(SCORED_S * sample_rate)
    ours, theirs = (one.samples[:few, loudest].astype(np.float64) for one in (champion, candidate))
    found["clipping"] = _clipping(ours, theirs, tolerances)
    if active_level_db(ours, sample_rate) < QUIET_BELOW_DB:
        level_db = active_level_db(theirs, sample_rate)
        found["level"] = f"{level_db:.1f} dBFS out of silence" if level_db > QUIET_BELOW_DB + 10 else ""
        return found
    found |= _levels(ours, theirs, sample_rate, tolerances)
    if not found["silence"]:
        found["delay"] = _delay(ours, theirs, sample_rate, tolerances)
        found |= _quality(ours, theirs, sample_rate, tolerances) if quality else {}
    return found


def _speed(champion_s: float, candidate_s: float, tolerances: Tolerances) -> str:
    slow = candidate_s > tolerances.longest_s(champion_s)
    return f"{candidate_s:.2f} s where the champion takes {champion_s:.2f} s" if slow else ""


def _clipping(ours: Signal, theirs: Signal, tolerances: Tolerances) -> str:
    before, after = (float(np.mean(np.abs(each) >= FULL_SCALE)) for each in (ours, theirs))
    return f"{after:.2%} of the samples, {before:.2%} before" if after > before + tolerances.clipped_share else ""


def _levels(ours: Signal, theirs: Signal, sample_rate: int, tolerances: Tolerances) -> dict[str, str]:
    """Silence and level, in the frames in which the champion's answer is loud."""
    before_db, after_db = _frames_db(ours, sample_rate), _frames_db(theirs, sample_rate)
    loud = before_db >= np.percentile(before_db, 95) - LOUD_WITHIN_DB
    gain_db = (after_db - before_db)[loud]
    muted, level_db = float(np.mean(gain_db <= MUTED_BELOW_DB)), float(np.median(gain_db))
    silent = muted > tolerances.muted_share
    found = {"silence": f"{muted:.0%} of what is loud is gone" if silent else ""}
    if not silent:
        found["level"] = f"{level_db:+.1f} dB" if abs(level_db) > tolerances.level_db else ""
    return found


def _frames_db(samples: Signal, sample_rate: int) -> Signal:
    size = min(round(FRAME_S * sample_rate), len(samples))
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    return np.asarray(10 * np.log10(np.mean(np.square(frames), axis=1) + NOTHING))


def _delay(ours: Signal, theirs: Signal, sample_rate: int, tolerances: Tolerances) -> str:
    try:
        lag, _ = best_lag(ours, theirs, sample_rate)
    except MetricFailed as failure:
        return str(failure).replace("clean and enhanced", "the two answers")
    late_ms = lag * 1000 / sample_rate
    return f"{late_ms:+.1f} ms" if abs(late_ms) > tolerances.delay_ms else ""


def _quality(ours: Signal, theirs: Signal, sample_rate: int, tolerances: Tolerances) -> dict[str, str]:
    """DNSMOS OVRL, where the answers are long enough and its networks are installed."""
    try:
        before, after = (
            p835(resample(each.astype(np.float32), sample_rate, DNSMOS_RATE))["ovrl"] for each in (ours, theirs)
        )
    except MetricFailed:
        return {}
    return {"quality": f"DNSMOS {after:.2f}, {before:.2f} before" if after < before - tolerances.quality else ""}
