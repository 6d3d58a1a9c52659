"""Metrics: the values everybody else gets, and what no metric may do."""

import numpy as np
import pytest

from training.baselines import spectral_subtraction, unprocessed
from training.metrics import METRICS, STANDARD, Metric, MetricFailed, lsd, pesq

RATE = 16_000
FAMILY = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))


def synthetic_clean() -> np.ndarray:
    """Three seconds of a vowel-like tone that glides and pulses; peak 0.5."""
    t = np.arange(48_000) / RATE
    phase = 2 * np.pi * (120 * t + (20 / (2 * np.pi * 1.5)) * (1 - np.cos(2 * np.pi * 1.5 * t)))
    tone = sum(np.sin(k * phase) / k for k in range(1, 31)) * (0.5 * (1 + np.sin(2 * np.pi * 3 * t))) ** 2
    return np.asarray(0.5 * tone / np.abs(tone).max())


def with_noise(clean: np.ndarray, snr_db: float) -> np.ndarray:
    """Seeded white noise added at an SNR against the total energy."""
    noise = np.random.default_rng(0).standard_normal(len(clean))
    return np.asarray(clean + noise * np.sqrt((clean @ clean) / (noise @ noise) / 10 ** (snr_db / 10)))


CLEAN = synthetic_clean()
NOISY = with_noise(CLEAN, 5)


def test_the_synthetic_pair_is_the_published_one() -> None:
    """The sums of the test pair are those that the reference values were measured on."""
    assert CLEAN.sum() == pytest.approx(2.6741414101, abs=1e-6)
    assert np.abs(CLEAN).sum() == pytest.approx(3878.59592753, abs=1e-6)
    assert np.abs(NOISY).sum() == pytest.approx(5292.44124012, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("pesq", 1.0176977, 1e-4),
        ("pesq_nb", 1.9316121, 1e-4),
        ("stoi", 0.8956675, 1e-6),
        ("estoi", 0.3223944, 1e-6),
        ("si_sdr", 4.988068, 1e-4),
        ("lsd", 6.16110, 1e-4),
    ],
)
def test_values_at_5_db_are_the_reference_values(name: str, expected: float, tolerance: float) -> None:
    """Every metric reproduces the value measured with the reference implementations."""
    assert METRICS[name].score(CLEAN, NOISY, RATE) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("snr_db", "expected"),
    [
        (20, {"pesq": 1.0653354, "pesq_nb": 2.4102290, "stoi": 0.9937306, "estoi": 0.8646377}),
        (35, {"pesq": 1.6033337, "pesq_nb": 2.9722924, "stoi": 0.9997936, "estoi": 0.9923056}),
        (50, {"pesq": 2.5404432, "pesq_nb": 4.0060296, "stoi": 0.9999948, "estoi": 0.9996844}),
    ],
)
def test_values_follow_the_reference_over_snr(snr_db: float, expected: dict[str, float]) -> None:
    """PESQ, STOI and ESTOI stay on the reference from bad to nearly clean audio."""
    noisy = with_noise(CLEAN, snr_db)
    found = {name: METRICS[name].score(CLEAN, noisy, RATE) for name in expected}
    assert found == pytest.approx(expected, abs=1e-4)
    assert found["stoi"] == pytest.approx(expected["stoi"], abs=1e-6)
    assert found["estoi"] == pytest.approx(expected["estoi"], abs=1e-6)


def test_si_sdr_of_four_samples_can_be_checked_by_hand() -> None:
    """The projection keeps the mean: 18.4030 dB, where removing it would give 15.0918 dB."""
    value = METRICS["si_sdr"].score(np.array([3, -0.5, 2, 7]), np.array([2.5, 0, 2, 8]), RATE)
    assert value == pytest.approx(18.4030, abs=1e-4)


def test_lsd_of_a_gain_is_twice_its_log() -> None:
    """A tenth of the amplitude is a hundredth of the power: two units of log10 power in every bin."""
    loud = 1e3 * np.random.default_rng(0).standard_normal(RATE)
    assert lsd.measure(loud, 0.1 * loud, RATE) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("name", "ceiling"),
    [("pesq", 4.643888), ("pesq_nb", 4.548638), ("stoi", 1.0), ("estoi", 1.0), ("si_sdr", 100.0), ("lsd", 0.0)],
)
def test_a_perfect_estimate_reaches_the_stated_limit(name: str, ceiling: float) -> None:
    """Clean against clean is the best value there is, and finite."""
    assert METRICS[name].score(CLEAN, CLEAN, RATE) == pytest.approx(ceiling, abs=1e-4)


def test_an_estimate_without_any_clean_in_it_is_bounded_too() -> None:
    """SI-SDR stops at -100 dB instead of minus infinity."""
    assert METRICS["si_sdr"].score(np.array([1.0, 0.0]), np.array([0.0, 1.0]), RATE) == -100.0


@FAMILY
def test_the_direction_is_the_stated_one(metric: Metric) -> None:
    """Less noise scores better, in the direction that the metric declares."""
    better, worse = metric.score(CLEAN, with_noise(CLEAN, 20), RATE), metric.score(CLEAN, NOISY, RATE)
    assert (better > worse) is metric.higher_is_better


@FAMILY
def test_a_common_delay_changes_nothing_much(metric: Metric) -> None:
    """Delaying both waveforms by 20 ms leaves a value where it was, up to the edges."""
    silence = np.zeros(320)
    delayed = metric.score(np.concatenate([silence, CLEAN]), np.concatenate([silence, NOISY]), RATE)
    assert delayed == pytest.approx(metric.score(CLEAN, NOISY, RATE), rel=0.05)


@pytest.mark.parametrize("name", ["si_sdr", "pesq", "pesq_nb", "stoi", "estoi"])
def test_a_gain_on_the_enhanced_leaves_the_value_unchanged(name: str) -> None:
    """These metrics do not reward playing louder."""
    metric = METRICS[name]
    assert metric.score(CLEAN, 0.1 * NOISY, RATE) == pytest.approx(metric.score(CLEAN, NOISY, RATE), abs=1e-4)


@pytest.mark.parametrize("name", ["pesq", "pesq_nb", "stoi", "estoi"])
def test_swapped_arguments_would_be_noticed(name: str) -> None:
    """Clean and enhanced are not exchangeable, so the reference values above fix their order."""
    metric, noisy = METRICS[name], with_noise(CLEAN, 20)
    assert abs(metric.score(noisy, CLEAN, RATE) - metric.score(CLEAN, noisy, RATE)) > 1e-3


@pytest.mark.parametrize("name", ["si_sdr", "lsd"])
def test_si_sdr_and_lsd_are_symmetric(name: str) -> None:
    """SI-SDR depends on the angle and LSD on the distance alone: here the order of the arguments cannot matter."""
    metric = METRICS[name]
    assert metric.score(NOISY, CLEAN, RATE) == pytest.approx(metric.score(CLEAN, NOISY, RATE))


@FAMILY
@pytest.mark.parametrize(
    ("clean", "enhanced", "reason"),
    [
        (CLEAN, np.zeros_like(CLEAN), "enhanced is silent"),
        (np.zeros_like(CLEAN), NOISY, "clean is silent"),
        (CLEAN, np.full_like(CLEAN, np.nan), "enhanced holds NaN"),
        (CLEAN, NOISY[:-1], "shapes differ"),
        (CLEAN[:0], NOISY[:0], "no samples"),
    ],
    ids=["silent enhanced", "silent clean", "NaN", "length", "empty"],
)
def test_what_cannot_be_scored_fails_with_a_reason(
    metric: Metric, clean: np.ndarray, enhanced: np.ndarray, reason: str
) -> None:
    """No metric answers bad input with a number such as 0, -1 or 1e-5."""
    with pytest.raises(MetricFailed, match=reason):
        metric.score(clean, enhanced, RATE)


@pytest.mark.parametrize(
    ("name", "seconds", "reason"),
    [
        ("pesq", 0.2, "shorter than 0.25 s"),
        ("pesq_nb", 0.2, "shorter than 0.25 s"),
        ("stoi", 0.3, "less than 384 ms of speech"),
        ("estoi", 0.3, "less than 384 ms of speech"),
    ],
)
def test_too_short_is_a_failure(name: str, seconds: float, reason: str) -> None:
    """Where the reference implementation warns or returns a code, the metric fails."""
    start, size = 4_000, int(seconds * RATE)
    with pytest.raises(MetricFailed, match=reason):
        METRICS[name].score(CLEAN[start : start + size], NOISY[start : start + size], RATE)


def test_pesq_says_so_when_it_finds_no_speech() -> None:
    """A clean without anything that P.862 takes for speech is a failure with words, not a code."""
    with pytest.raises(MetricFailed, match="no speech"):
        METRICS["pesq"].score(NOISY, CLEAN, RATE)


def test_pesq_is_refused_below_its_rate_and_resampled_above_it() -> None:
    """8 kHz audio has no wide-band score; 48 kHz audio is brought to 16 kHz."""
    with pytest.raises(MetricFailed, match="needs 16000 Hz, the audio has 8000 Hz"):
        METRICS["pesq"].score(CLEAN, NOISY, 8_000)
    rate = 48_000
    clean, noisy = (np.interp(np.arange(3 * 48_000) / rate, np.arange(48_000) / RATE, x) for x in (CLEAN, NOISY))
    assert METRICS["pesq"].score(clean, noisy, rate) == pytest.approx(pesq.measure(CLEAN, NOISY, RATE), abs=0.1)


def test_estoi_does_not_depend_on_what_was_drawn_before() -> None:
    """pystoi adds noise from the global generator: the value repeats, and the generator is left as it was."""
    gated = CLEAN * (np.arange(len(CLEAN)) % 16_000 < 8_000)
    np.random.seed(1)
    first = METRICS["estoi"].score(CLEAN, gated, RATE)
    after = np.random.random()
    np.random.seed(1)
    assert np.random.random() == after
    assert METRICS["estoi"].score(CLEAN, gated, RATE) == first


@FAMILY
def test_every_metric_states_what_it_is(metric: Metric) -> None:
    """Name, title, unit, definition and version are there for the report."""
    assert METRICS[metric.name] is metric
    assert metric.title and metric.unit and len(metric.definition) > 40 and metric.version >= 1


def test_the_standard_metrics_exist() -> None:
    """What an evaluation scores by default is in the table."""
    assert set(STANDARD) <= set(METRICS)


@pytest.mark.parametrize("snr_db", [-5, 0, 5, 10])
def test_spectral_subtraction_improves_stationary_noise(snr_db: float) -> None:
    """In white noise the baseline gains several dB of SI-SDR, or it would be no opponent."""
    si_sdr, noisy = METRICS["si_sdr"], with_noise(CLEAN, snr_db)
    enhanced = spectral_subtraction(noisy, RATE)
    assert si_sdr.score(CLEAN, enhanced, RATE) > si_sdr.score(CLEAN, noisy, RATE) + 4.0


@pytest.mark.parametrize("samples", [1, 100, 511, 512, 513, 16_001])
def test_spectral_subtraction_keeps_the_length(samples: int) -> None:
    """Same length out, for any length, and finite."""
    enhanced = spectral_subtraction(NOISY[:samples], RATE)
    assert enhanced.shape == (samples,) and np.isfinite(enhanced).all()


def test_spectral_subtraction_of_silence_is_silence() -> None:
    """Nothing is divided by zero."""
    assert not spectral_subtraction(np.zeros(RATE, dtype=np.float32), RATE).any()


def test_unprocessed_is_the_input() -> None:
    """The row that everything is compared with changes nothing."""
    assert unprocessed(NOISY, RATE) is NOISY
