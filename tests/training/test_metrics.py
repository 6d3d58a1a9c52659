"""Metrics: the values everybody else gets, and what no metric may do."""

import numpy as np
import pytest

from training.baselines import spectral_subtraction, unprocessed
from training.metrics import METRICS, STANDARD, Metric, MetricFailed, composite, lsd, pesq, phase

RATE = 16_000
EVERY = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
SELF_CONTAINED = {name: metric for name, metric in METRICS.items() if metric.needs_weights is None}
FAMILY = pytest.mark.parametrize("metric", SELF_CONTAINED.values(), ids=list(SELF_CONTAINED))
DEAF_TO_NOISE = {"clipping", "muted", "delay", "polarity"}
OPINIONS = {"dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808"}
"""Networks: what they make of a tone is nobody's promise."""


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
        ("lsd_urgent", 13.83881, 1e-4),
        ("csig", 1.0, 1e-4),
        ("cbak", 1.963621, 1e-4),
        ("covl", 1.0, 1e-4),
        ("seg_snr", -0.957699, 1e-4),
        ("srmr", 3.65016, 1e-3),
        ("srmr_fast", 1.28320, 1e-3),
        ("pd", 19.12245, 1e-3),
        ("wopd", 0.436654, 1e-3),
    ],
)
def test_values_at_5_db_are_the_reference_values(name: str, expected: float, tolerance: float) -> None:
    """Every metric reproduces the value measured with the reference implementations."""
    assert METRICS[name].score(CLEAN, NOISY, RATE) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(("name", "expected"), [("srmr", 6.93055), ("srmr_fast", 2.00185)])
def test_srmr_of_the_clean_is_the_reference_value(name: str, expected: float) -> None:
    """Both variants reproduce the reference implementation on the clean too."""
    assert METRICS[name].score(CLEAN, CLEAN, RATE) == pytest.approx(expected, abs=1e-3)


def test_what_is_wrong_splits_into_noise_and_artefacts() -> None:
    """Clean, 0.3 of the noise and some noise of its own: the published SDR, SIR and SAR."""
    estimate = CLEAN + 0.3 * (NOISY - CLEAN) + 0.05 * np.random.default_rng(1).standard_normal(len(CLEAN))
    found = {name: METRICS[name].score(CLEAN, estimate, RATE, NOISY) for name in ("si_sdr", "si_sir", "si_sar")}
    assert found == pytest.approx({"si_sdr": 7.610874, "si_sir": 15.758623, "si_sar": 8.356659}, abs=1e-4)


def test_a_flipped_sign_is_half_a_turn_until_it_is_resolved() -> None:
    """The raw distance is 180 degrees; the metric forgives the sign; WOPD sees it on its one map that can."""
    assert phase.distance_degrees(CLEAN, -CLEAN) == pytest.approx(179.9931, abs=1e-3)
    assert METRICS["pd"].score(CLEAN, -CLEAN, RATE) == 0.0
    assert METRICS["pd"].score(CLEAN, -NOISY, RATE) == pytest.approx(METRICS["pd"].score(CLEAN, NOISY, RATE), abs=0.01)
    assert METRICS["wopd"].score(CLEAN, -CLEAN, RATE) == pytest.approx(0.354304, abs=1e-3)


def test_the_float_convention_of_the_composites_is_kept() -> None:
    """At the scale of 16 bit integers CBAK is another number, the published one, and scoring refuses that scale."""
    assert composite.parts(32768 * CLEAN, 32768 * NOISY, RATE).raw("background") == pytest.approx(1.776408, abs=1e-4)
    with pytest.raises(MetricFailed, match="clean peaks at 16384, where full scale is 1"):
        METRICS["cbak"].score(32768 * CLEAN, 32768 * NOISY, RATE)


def test_the_composites_are_those_of_the_published_script() -> None:
    """Where no limit hides them: the values that CMGAN's evaluation gives for the same pair."""
    clean = with_noise(CLEAN, 20)
    enhanced = clean + 0.3 * np.std(clean) * np.random.default_rng(6).standard_normal(len(clean))
    found = {name: METRICS[name].score(clean, enhanced, RATE) for name in ("csig", "cbak", "covl", "seg_snr")}
    expected = {"csig": 3.8725907, "cbak": 2.7177560, "covl": 2.9715813, "seg_snr": 3.0800508}
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["csig", "cbak", "covl"])
def test_a_composite_falls_with_noise(name: str) -> None:
    """On audio with a spectrum to the top all three are within their limits, and less noise is better."""
    clean, rng = with_noise(CLEAN, 20), np.random.default_rng(6)
    noise = np.std(clean) * rng.standard_normal(len(clean))
    values = [METRICS[name].score(clean, clean + gain * noise, RATE) for gain in (0.3, 0.4, 0.5)]
    assert 5.0 > values[0] > values[1] > values[2] > 1.0


def test_a_family_shares_its_work_without_sharing_its_values() -> None:
    """The kept answer belongs to the audio: another pair, or an array written to, is measured anew."""
    noisy = with_noise(CLEAN, 20)
    first = METRICS["cbak"].score(CLEAN, noisy, RATE)
    assert METRICS["cbak"].score(CLEAN, NOISY, RATE) < first - 0.1
    noisy[:] = NOISY
    assert METRICS["cbak"].score(CLEAN, noisy, RATE) == METRICS["cbak"].score(CLEAN, NOISY, RATE)


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


def test_lsd_with_a_short_window_is_the_reference_value() -> None:
    """Papers at 16 kHz often use 512/256; the value is another one."""
    assert lsd.measure(CLEAN, NOISY, RATE, 512, 256) == pytest.approx(5.91982, abs=1e-4)


def test_lsd_of_a_gain_is_twice_its_log() -> None:
    """A tenth of the amplitude is a hundredth of the power: two units of log10 power in every bin."""
    loud = 1e3 * np.random.default_rng(0).standard_normal(RATE)
    assert lsd.measure(loud, 0.1 * loud, RATE) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("name", "ceiling"),
    [("pesq", 4.643888), ("pesq_nb", 4.548638), ("stoi", 1.0), ("estoi", 1.0), ("si_sdr", 100.0), ("lsd", 0.0)]
    + [(name, 5.0) for name in ("csig", "cbak", "covl")]
    + [("seg_snr", 35.0), ("polarity", 1.0)]
    + [(name, 0.0) for name in ("pd", "wopd", "loudness_error", "level_drift", "clipping", "muted", "delay")],
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
    if metric.name in DEAF_TO_NOISE | OPINIONS | {"csig", "covl"}:
        pytest.skip("says nothing about noise on a tone; the composites have a test of their own")
    better, worse = (metric.score(CLEAN, with_noise(CLEAN, snr_db), RATE, NOISY) for snr_db in (50, 5))
    assert better != worse
    assert (better > worse) is metric.higher_is_better


@FAMILY
def test_a_common_delay_changes_nothing_much(metric: Metric) -> None:
    """Delaying both waveforms by 20 ms leaves a value where it was, up to the edges."""
    if metric.name in OPINIONS:
        pytest.skip("the networks' windows move with the audio")
    silence = np.zeros(320)
    clean, noisy = np.concatenate([silence, CLEAN]), np.concatenate([silence, NOISY])
    assert metric.score(clean, noisy, RATE, noisy) == pytest.approx(metric.score(CLEAN, NOISY, RATE, NOISY), rel=0.05)


@pytest.mark.parametrize(
    "name", ["si_sdr", "si_sir", "si_sar", "pesq", "pesq_nb", "stoi", "estoi", "srmr", "lsd_urgent", "delay"]
)
def test_a_gain_on_the_enhanced_leaves_the_value_unchanged(name: str) -> None:
    """These metrics do not reward playing louder."""
    metric = METRICS[name]
    quiet, loud = (metric.score(CLEAN, gain * NOISY, RATE, NOISY) for gain in (0.1, 1.0))
    assert quiet == pytest.approx(loud, abs=1e-4)


@pytest.mark.parametrize("name", ["cbak", "seg_snr", "loudness_error", "lsd"])
def test_these_do_notice_a_gain(name: str) -> None:
    """Twice the amplitude is another value, and a worse one."""
    metric, noisy = METRICS[name], with_noise(CLEAN, 35)
    loud, right = metric.score(CLEAN, 2 * noisy, RATE), metric.score(CLEAN, noisy, RATE)
    assert (loud < right - 0.05) if metric.higher_is_better else (loud > right + 0.05)


@pytest.mark.parametrize("name", ["pesq", "pesq_nb", "stoi", "estoi", "cbak", "seg_snr", "srmr", "pd", "wopd", "muted"])
def test_swapped_arguments_would_be_noticed(name: str) -> None:
    """Clean and enhanced are not exchangeable, so the reference values above fix their order."""
    metric, noisy = METRICS[name], with_noise(CLEAN * (np.arange(len(CLEAN)) % 8_000 < 6_000), 20)
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
    """No metric answers bad input with a number such as 0, -1 or 1e-5, but those that are made for silence."""
    if (reason == "enhanced is silent" and metric.scores_silence) or (
        reason == "clean is silent" and not metric.needs_clean
    ):
        assert 0.0 <= metric.score(clean, enhanced, RATE) <= 10.0
        return
    with pytest.raises(MetricFailed, match=reason):
        metric.score(clean, enhanced, RATE, NOISY[: len(clean)])


@FAMILY
@pytest.mark.parametrize("gap", [0.0, 1e-9])
def test_silence_within_the_enhanced_gives_no_warning_and_no_nonsense(metric: Metric, gap: float) -> None:
    """A second of digital silence in the middle, as a gate leaves it, has a finite value."""
    gated = NOISY.copy()
    gated[16_000:32_000] *= gap
    assert np.isfinite(metric.score(CLEAN, gated, RATE, NOISY))


@FAMILY
@pytest.mark.parametrize("samples", [1, 100, 599, 4_200])
def test_hardly_any_audio_has_a_finite_value_or_none(metric: Metric, samples: int) -> None:
    """No length makes a metric raise anything else than its stated failure."""
    try:
        value = metric.score(CLEAN[9_000:][:samples], NOISY[9_000:][:samples], RATE, NOISY[9_000:][:samples])
    except MetricFailed as failure:
        assert failure.reason
    else:
        assert np.isfinite(value)


def test_a_metric_that_needs_the_noisy_says_so() -> None:
    """Without the noisy, or without noise in it, there is no ratio of noise."""
    with pytest.raises(MetricFailed, match="needs the noisy utterance"):
        METRICS["si_sir"].score(CLEAN, NOISY, RATE)
    with pytest.raises(MetricFailed, match="noisy holds no noise"):
        METRICS["si_sir"].score(CLEAN, NOISY, RATE, CLEAN)


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


@EVERY
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
