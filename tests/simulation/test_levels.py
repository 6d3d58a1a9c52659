"""Levels: active speech level by P.56, and an SNR that is what was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation import audio, levels
from simulation.corpora.sample import SAMPLE
from simulation.errors import BadAudio

RATE = 16_000


def utterance(name: str) -> np.ndarray:
    """A recording of the sample corpus, [samples]."""
    samples, _ = audio.read((SAMPLE / "speech" / f"{name}.flac").read_bytes(), name)
    return audio.mono(samples)


@pytest.fixture(scope="module")
def speech() -> list[np.ndarray]:
    """Every twentieth test or train utterance of the sample corpus."""
    return [utterance(path.stem) for path in sorted((SAMPLE / "speech").glob("*.flac"))[::20]]


def p56(samples: np.ndarray, sample_rate: int) -> float:
    """Method B of ITU-T P.56 as its text has it, sample by sample: the active level in dB.

    Thresholds 6 dB apart, the crossing of level - threshold = 15.9 dB interpolated between two of them.
    """
    keep, hangover = np.exp(-1 / (sample_rate * 0.03)), int(np.ceil(0.2 * sample_rate))
    thresholds = 2.0 ** -np.arange(18)
    active, since = np.zeros(18), np.full(18, hangover)
    first = second = 0.0
    for sample in np.abs(samples.astype(np.float64)):
        first = keep * first + (1 - keep) * sample
        second = keep * second + (1 - keep) * first
        above = second >= thresholds
        active += above | (since < hangover)
        since = np.where(above, 0, np.minimum(since + 1, hangover))
    energy = np.sum(np.square(samples, dtype=np.float64))
    level_db = 10 * np.log10(energy / np.maximum(active, 1e-9))
    distance_db = level_db - 20 * np.log10(thresholds)
    step = int(np.flatnonzero(distance_db <= 15.9)[-1])
    part = (15.9 - distance_db[step]) / (distance_db[step + 1] - distance_db[step])
    return float(level_db[step] + part * (level_db[step + 1] - level_db[step]))


def test_the_active_level_of_speech_follows_p56(speech: list[np.ndarray]) -> None:
    """Ours solves exactly what the recommendation interpolates; only a rare utterance is off by a tenth of a dB."""
    differences = [levels.active_level_db(one, RATE) - p56(one, RATE) for one in speech[:8]]
    assert np.median(np.abs(differences)) < 0.05
    assert np.max(np.abs(differences)) < 0.5


def test_the_active_level_solves_the_equation_of_p56(speech: list[np.ndarray]) -> None:
    """Threshold 15.9 dB below level, energy over active time: both at once, by an envelope computed here."""
    for one in speech:
        keep = np.exp(-1 / (RATE * 0.03))
        envelope = np.zeros(len(one))
        first = second = 0.0
        for index, sample in enumerate(np.abs(one.astype(np.float64))):
            first = keep * first + (1 - keep) * sample
            second = keep * second + (1 - keep) * first
            envelope[index] = second
        level_db = levels.active_level_db(one, RATE)
        loud = np.flatnonzero(envelope >= 10 ** ((level_db - 15.9) / 20))
        hangover = int(0.2 * RATE)
        active = np.minimum(np.diff(np.append(loud, len(one))), hangover + 1).sum()
        assert 10 * np.log10(np.sum(one.astype(np.float64) ** 2) / active) == pytest.approx(level_db, abs=0.05)


def test_pauses_do_not_lower_the_active_level(speech: list[np.ndarray]) -> None:
    """Seconds of silence around an utterance leave its level, while its rms falls."""
    pause = np.zeros(5 * RATE, np.float32)
    padded = np.concatenate([pause, speech[0], pause])
    assert levels.active_level_db(padded, RATE) == pytest.approx(levels.active_level_db(speech[0], RATE), abs=0.3)
    assert levels.rms_db(padded) < levels.rms_db(speech[0]) - 3


@given(gain_db=st.floats(-50, 20))
def test_the_active_level_follows_the_gain(gain_db: float) -> None:
    """So SNR does not depend on how loud a recording happens to be."""
    samples = utterance("so762_000010115").astype(np.float64)
    louder = samples * levels.from_db(gain_db) ** 0.5
    assert levels.active_level_db(louder, RATE) == pytest.approx(
        levels.active_level_db(samples, RATE) + gain_db, abs=1e-6
    )


def test_steady_noise_is_active_throughout() -> None:
    """Its active level is its rms level."""
    samples = np.random.default_rng(0).normal(0, 0.1, 5 * RATE)
    assert levels.active_level_db(samples, RATE) == pytest.approx(levels.rms_db(samples), abs=0.1)
    assert levels.active_mask(samples, RATE).mean() > 0.98


def test_the_active_mask_marks_the_burst_and_its_hangover() -> None:
    """One second of noise amid silence: active from its start until about 0.2 s after its end."""
    samples = np.zeros(4 * RATE)
    samples[RATE : 2 * RATE] = np.random.default_rng(0).normal(0, 0.1, RATE)
    active = np.flatnonzero(levels.active_mask(samples, RATE))
    assert active[0] / RATE == pytest.approx(1.0, abs=0.05)
    assert 2.2 <= active[-1] / RATE < 2.45
    assert len(active) == active[-1] - active[0] + 1


def test_a_lone_click_has_an_active_level() -> None:
    """Where no threshold is near enough, the time around the click is what is active."""
    samples = np.zeros(2 * RATE)
    samples[RATE] = 1.0
    assert levels.active_level_db(samples, RATE) == pytest.approx(-10 * np.log10(0.2 * RATE + 1), abs=0.1)


@pytest.fixture(scope="module")
def measured_speech() -> tuple[np.ndarray, float]:
    """An utterance and its active level in dB, measured without our code."""
    samples = utterance("so762_000010115")[:40_000]
    return samples, p56(samples, RATE)


def noises() -> dict[str, np.ndarray]:
    """White, impulsive, silence-heavy and speech-like noise of 2.5 s."""
    rng = np.random.default_rng(3)
    white = rng.normal(0, 0.02, 40_000)
    impulsive = np.where(rng.random(40_000) < 2e-4, rng.normal(0, 0.9, 40_000), 1e-5 * white)
    silence_heavy = np.where(np.arange(40_000) > 38_000, white, 0)
    babble = sum(utterance(name)[:28_000] for name in ("so762_000030051", "so762_000030067"))
    return {"white": white, "impulsive": impulsive, "silence_heavy": silence_heavy, "speech": np.resize(babble, 40_000)}


@pytest.mark.parametrize("kind", ["white", "impulsive", "silence_heavy", "speech"])
@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 15.0])
def test_the_realised_snr_is_the_one_asked_for(
    kind: str, snr_db: float, measured_speech: tuple[np.ndarray, float]
) -> None:
    """Measured without our code: P.56's own level over the mean power of the scaled noise, within 0.1 dB."""
    speech, level_db = measured_speech
    noise = noises()[kind][: len(speech)].astype(np.float32)
    scaled = noise * levels.snr_gain(speech, noise, snr_db, RATE)
    measured_db = level_db - 10 * np.log10(np.mean(scaled.astype(np.float64) ** 2))
    assert measured_db == pytest.approx(snr_db, abs=0.1)
    assert levels.measured_snr_db(speech, scaled, RATE) == pytest.approx(snr_db, abs=1e-4)


@pytest.mark.parametrize("silence", [np.zeros(RATE), np.full(RATE, 1e-6), np.zeros(0)])
def test_silence_has_no_snr(silence: np.ndarray) -> None:
    """Silent speech or silent noise is an answer that names which; never a division by zero."""
    tone = np.sin(np.arange(RATE) / 5) / 10
    with pytest.raises(BadAudio, match="The speech is silent"):
        levels.snr_gain(silence, tone, 5.0, RATE)
    with pytest.raises(BadAudio, match="The noise is silent"):
        levels.snr_gain(tone, silence, 5.0, RATE)
    with pytest.raises(BadAudio, match="The noise is silent"):
        levels.measured_snr_db(tone, silence, RATE)


def test_digital_silence_has_a_level_of_minus_infinity() -> None:
    """And nothing in it is active."""
    silence = np.zeros(RATE)
    assert levels.rms_db(silence) == levels.active_level_db(silence, RATE) == -np.inf
    assert not levels.active_mask(silence, RATE).any()


@given(level_db=st.floats(-100, 100))
def test_db_there_and_back(level_db: float) -> None:
    """to_db undoes from_db; both are about powers."""
    assert levels.to_db(levels.from_db(level_db)) == pytest.approx(level_db, abs=1e-9)
    assert levels.from_db(10.0) == pytest.approx(10.0)


@given(seed=st.integers(0, 2**32 - 1), samples=st.integers(1, 3000), scale_db=st.floats(-60, 60))
def test_the_threshold_is_the_lowest_that_solves_the_equation(seed: int, samples: int, scale_db: float) -> None:
    """What elimination finds is, to the last bit, what sorting all values and trying each would find."""
    rng = np.random.default_rng(seed)
    held = np.round(rng.random(samples) ** 4, int(rng.integers(1, 9)))
    energy = float(np.sum(held**2)) * levels.from_db(scale_db)
    descending = np.sort(held)[::-1]
    solves = np.flatnonzero(energy / np.arange(1, samples + 1) <= levels.from_db(levels.MARGIN_DB) * descending**2)
    assert levels._threshold(held, energy) == descending[solves[-1] if len(solves) else 0]


def test_at_snr_is_the_gain_and_the_measurement_in_one() -> None:
    """Equal to `snr_gain` and then `measured_snr_db`, to the last bit."""
    rng = np.random.default_rng(1)
    speech, noise = (rng.standard_normal(8000).astype(np.float32) for _ in range(2))
    scaled, snr_db = levels.at_snr(speech, noise, 7.0, 8000)
    assert np.array_equal(scaled, (noise * levels.snr_gain(speech, noise, 7.0, 8000)).astype(np.float32))
    assert snr_db == levels.measured_snr_db(speech, scaled, 8000) == pytest.approx(7.0, abs=1e-4)
