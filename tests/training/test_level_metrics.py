"""Loudness, clipping, muting, delay and polarity: what each planted fault costs."""

import numpy as np
import pytest

from training.metrics import METRICS, MetricFailed
from training.metrics.loudness import loudness_lufs

RATE = 16_000
CLEAN = np.random.default_rng(0).standard_normal(4 * RATE) * 0.05 * (np.arange(4 * RATE) % RATE < 0.75 * RATE)
"""Four seconds of noise, each followed by a pause of a quarter."""


def score(name: str, enhanced: np.ndarray) -> float:
    """The metric of this name against the clean."""
    return METRICS[name].score(CLEAN, enhanced, RATE)


def test_a_tone_of_full_scale_has_the_loudness_of_the_standard() -> None:
    """BS.1770: 997 Hz at full scale in one channel is -3.01 LUFS at 48 kHz."""
    tone = np.sin(2 * np.pi * 997 * np.arange(3 * 48_000) / 48_000)
    assert loudness_lufs(tone, 48_000) == pytest.approx(-3.01, abs=0.005)
    assert loudness_lufs(0.1 * tone, 48_000) == pytest.approx(-23.01, abs=0.005)


def test_pauses_do_not_lower_the_loudness() -> None:
    """The gates leave silence out."""
    tone = np.sin(2 * np.pi * 997 * np.arange(3 * RATE) / RATE)
    paused = np.concatenate([tone, np.zeros(30 * RATE)])
    assert loudness_lufs(paused, RATE) == pytest.approx(loudness_lufs(tone, RATE), abs=0.3)


@pytest.mark.parametrize("gain_db", [6.0, -6.0])
def test_a_gain_is_a_loudness_error_of_its_size_and_no_drift(gain_db: float) -> None:
    """6 dB louder or softer is 6 LU away, everywhere alike."""
    enhanced = CLEAN * 10 ** (gain_db / 20)
    assert score("loudness_error", enhanced) == pytest.approx(6.0, abs=1e-6)
    assert score("level_drift", enhanced) == pytest.approx(0.0, abs=1e-6)


def test_pumping_is_drift() -> None:
    """A gain that swings between +6 and -6 dB second by second has a standard deviation of nearly 6 dB."""
    gain_db = np.where(np.arange(len(CLEAN)) // RATE % 2, -6.0, 6.0)
    assert score("level_drift", CLEAN * 10 ** (gain_db / 20)) == pytest.approx(6.0, abs=1.0)


def test_clipping_is_the_share_of_samples_a_file_cannot_hold() -> None:
    """One sample in ten at or beyond full scale is 0.1, whatever its sign."""
    enhanced = CLEAN.copy()
    enhanced[::20], enhanced[10::20] = 1.0, -1.5
    assert score("clipping", enhanced) == pytest.approx(0.1)
    assert score("clipping", CLEAN) == 0.0


def test_muted_speech_is_counted_and_soft_speech_is_not() -> None:
    """The first of four seconds removed is a quarter of the speech; all of it is 1; 20 dB softer is still there."""
    first = np.arange(len(CLEAN)) < RATE
    assert score("muted", np.where(first, 0.0, CLEAN)) == pytest.approx(0.25, abs=0.02)
    assert score("muted", np.zeros_like(CLEAN)) == 1.0
    assert score("muted", 0.1 * CLEAN) == 0.0


@pytest.mark.parametrize("samples", [320, -320])
def test_a_delay_of_20_ms_is_found_early_or_late(samples: int) -> None:
    """Also under a flipped sign, a gain and some noise."""
    noise = 0.02 * np.random.default_rng(1).standard_normal(len(CLEAN))
    assert score("delay", -0.5 * np.roll(CLEAN, samples) + noise) == pytest.approx(20.0)
    assert score("delay", CLEAN + noise) == 0.0


def test_polarity_is_the_sign_at_the_best_alignment() -> None:
    """A delay does not hide it."""
    assert score("polarity", -np.roll(CLEAN, 320)) == -1.0
    assert score("polarity", np.roll(CLEAN, 320)) == 1.0


@pytest.mark.parametrize("name", ["delay", "polarity"])
def test_what_has_nothing_of_the_clean_in_it_has_no_delay(name: str) -> None:
    """An unrelated waveform fails with words instead of a chance lag."""
    with pytest.raises(MetricFailed, match=r"correlate by -?0\.0\d at most"):
        score(name, np.random.default_rng(2).standard_normal(len(CLEAN)))
