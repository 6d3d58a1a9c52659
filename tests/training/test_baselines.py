"""Baselines: what learnt nothing, and what it is worth."""

import numpy as np
import pytest

from simulation import audio
from simulation.corpora.sample import SAMPLE
from training.baselines import BASELINES, MeanSpectrumFill
from training.contrast import stretch
from training.metrics import METRICS

RATE = 16_000


def noisy_speech() -> tuple[np.ndarray, np.ndarray]:
    """A woman reads, and the same with white noise at 10 dB."""
    samples, _ = audio.read((SAMPLE / "speech/lj_LJ001-0015.flac").read_bytes(), "speech")
    clean = samples[: 4 * RATE, 0]
    noise = np.random.default_rng(0).standard_normal(len(clean)) * np.sqrt(np.mean(clean**2) / 10)
    return clean, (clean + noise).astype(np.float32)


def test_contrast_stretching_alone_raises_pesq_and_leaves_intelligibility() -> None:
    """Without removing any noise it gains what a network has to be better than."""
    clean, noisy = noisy_speech()
    stretched = stretch(noisy, RATE)
    gain = {name: METRICS[name].score(clean, stretched, RATE) - METRICS[name].score(clean, noisy, RATE)
            for name in ("pesq", "stoi")}  # fmt: skip
    assert gain["pesq"] > 0.02 and abs(gain["stoi"]) < 0.02
    assert np.abs(stretched).max() == pytest.approx(np.abs(noisy).max(), rel=1e-5)


def test_contrast_stretching_depends_on_level() -> None:
    """The stretching is that of log(1 + |X|): next to nothing but a gain for soft audio, more for loud."""
    _, noisy = noisy_speech()
    soft, loud = (stretch((gain * noisy).astype(np.float32), RATE) / gain for gain in (1e-3, 1.0))
    assert np.sqrt(np.mean((soft - loud) ** 2) / np.mean(loud**2)) > 0.05


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("samples", [1, 100, 511, 1_537, 16_001])
def test_a_baseline_keeps_the_length_at_every_rate(name: str, sample_rate: int, samples: int) -> None:
    """Same length out, finite; silence stays silence."""
    noisy = noisy_speech()[1][:samples]
    enhanced = BASELINES[name](noisy, sample_rate)
    assert enhanced.shape == (samples,) and np.isfinite(enhanced).all()
    assert not BASELINES[name](np.zeros(samples, np.float32), sample_rate).any()


def low_passed(clean: np.ndarray, cutoff_hz: float) -> np.ndarray:
    """A hard cut in the spectrum of the whole utterance."""
    spectrum = np.fft.rfft(clean)
    spectrum[np.fft.rfftfreq(len(clean), 1 / RATE) > cutoff_hz] = 0
    return np.fft.irfft(spectrum, len(clean)).astype(np.float32)


def test_filling_with_the_mean_spectrum_is_nearer_than_an_empty_band() -> None:
    """At 2 kHz of bandwidth the log-spectral distance falls by far, and the band that is there is left alone."""
    clean, _ = noisy_speech()
    narrow = low_passed(clean, 2000.0)
    filled = MeanSpectrumFill([clean[: 2 * RATE], 0.1 * clean[2 * RATE :]], RATE)(narrow, RATE)
    assert METRICS["lsd"].score(clean, filled, RATE) < 0.6 * METRICS["lsd"].score(clean, narrow, RATE)
    assert np.abs(low_passed(filled - narrow, 1800.0)).max() < 0.02 * np.abs(narrow).max()


def test_the_mean_spectrum_is_filled_in_at_the_level_of_the_utterance() -> None:
    """A louder utterance gets a louder filling; silence and what is shorter than a frame are left as they are."""
    clean, _ = noisy_speech()
    fill = MeanSpectrumFill([clean], RATE)
    narrow = low_passed(clean, 2000.0)
    added, softer = (np.std(fill(gain * narrow, RATE) - gain * narrow) for gain in (1.0, 0.1))
    assert softer == pytest.approx(0.1 * added, rel=0.01) and added > 0
    for unchanged in (np.zeros(RATE, np.float32), clean[:100]):
        assert (fill(unchanged, RATE) == unchanged).all()
