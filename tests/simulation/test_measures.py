"""What is measured of a waveform alone."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from simulation import audio, levels, measures
from simulation.corpora.sample import SAMPLE
from simulation.draw import Plan, draw
from simulation.render import Library, render
from simulation.scenario import Scenario

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Nine seconds of LJ Speech."""
    return audio.mono(audio.read((SAMPLE / "speech/lj_LJ001-0015.flac").read_bytes(), "speech")[0])


def white(samples: int) -> np.ndarray:
    """White noise of power 1."""
    return np.random.default_rng(0).normal(0, 1, samples).astype(np.float32)


@pytest.mark.parametrize("snr_db", [5.0, 10.0, 20.0, 30.0])
def test_the_snr_of_speech_in_a_steady_noise_is_estimated(speech: np.ndarray, snr_db: float) -> None:
    """Within 3 dB, from the noisy signal alone; what was measured is nearer, 0.5 dB at 20 dB."""
    noise = white(len(speech))
    noisy = speech + noise * levels.snr_gain(speech, noise, snr_db, RATE)
    assert measures.estimated_snr_db(noisy, RATE) == pytest.approx(snr_db, abs=3.0)


def test_noise_alone_has_no_snr_to_speak_of() -> None:
    """Nothing stands out of a steady noise: near 0 dB, never below."""
    assert 0.0 <= measures.estimated_snr_db(0.1 * white(3 * RATE), RATE) < 3.0


@pytest.mark.parametrize("cutoff_hz", [2000.0, 4000.0, 6000.0])
def test_bandwidth_is_where_the_sound_ends(speech: np.ndarray, cutoff_hz: float) -> None:
    """Speech through a steep low-pass ends at its skirt, within a quarter above the cutoff, whatever its level."""
    filtered = sosfiltfilt(butter(10, cutoff_hz, output="sos", fs=RATE), speech)
    for gain in (1.0, 0.01):
        assert cutoff_hz <= measures.bandwidth_hz(gain * filtered, RATE) <= 1.25 * cutoff_hz


def test_whole_speech_and_white_noise_fill_the_band(speech: np.ndarray) -> None:
    """Up to half the sample rate, or nearly so; an offset is no sound, and silence has no bandwidth."""
    assert measures.bandwidth_hz(speech, RATE) > 7500
    assert measures.bandwidth_hz(white(RATE), RATE) == 8000
    assert measures.bandwidth_hz(np.zeros(RATE, np.float32), RATE) == 0.0
    assert measures.bandwidth_hz(speech + 0.5, RATE) == pytest.approx(measures.bandwidth_hz(speech, RATE), abs=300)


def test_clipping_is_the_share_of_flat_tops() -> None:
    """Half of a sine cut at sin 45° lies on flat tops; a whole sine and silence have none."""
    sine = np.sin(2 * np.pi * 100.3 * np.arange(RATE) / RATE)
    assert measures.clipped_share(sine.clip(-np.sqrt(0.5), np.sqrt(0.5))) == pytest.approx(0.5, abs=0.02)
    assert measures.clipped_share(sine) < 0.002
    assert measures.clipped_share(np.zeros(100)) == 0.0


def test_silence_is_what_was_cut_out_not_a_quiet_pause(speech: np.ndarray) -> None:
    """A third of zeros counts, the same third of faint noise does not; the noise floor is of what sounds."""
    third = len(speech) // 2
    gated = np.concatenate([speech, np.zeros(third, np.float32)])
    faint = np.concatenate([speech, 1e-3 * white(third)])
    assert measures.silent_share(gated, RATE) == pytest.approx(1 / 3, abs=0.01)
    assert measures.silent_share(faint, RATE) < 0.01
    assert measures.noise_floor_db(gated, RATE) == pytest.approx(measures.noise_floor_db(speech, RATE), abs=1.0)


@pytest.mark.parametrize("samples", [1, 5, 100])
def test_the_shortest_waveforms_are_measured_too(samples: int) -> None:
    """Nothing divides by a frame that is not there."""
    short = 0.1 * white(samples)
    assert np.isfinite([measures.bandwidth_hz(short, RATE), measures.silent_share(short, RATE)]).all()
    assert measures.noise_floor_db(short, RATE) < 0 and measures.clipped_share(short) >= 0.0


def test_every_rendered_row_says_how_its_two_sides_sound(
    tiny_scenario: Callable[..., Scenario], synthetic: Callable[[Scenario], tuple[Plan, Library]]
) -> None:
    """Levels, bandwidth and flat tops of what is stored, so a band-limited row ends where it was told to."""
    plan, library = synthetic(tiny_scenario())
    for index in range(4):
        row = draw(plan, "train", index)
        mixture, measured = render(row, plan.scenario, library)
        assert measured.level_db == pytest.approx(levels.rms_db(mixture.noisy), abs=1e-4)
        assert measured.clean_level_db == pytest.approx(levels.rms_db(mixture.clean), abs=1e-4)
        assert measured.flat_share == pytest.approx(measures.clipped_share(mixture.noisy), abs=1e-4)
        assert measured.bandwidth_hz is not None
        if row.case == "band_limit":
            assert measured.cutoff_hz is not None and measured.bandwidth_hz < 1.5 * measured.cutoff_hz
        else:
            assert measured.bandwidth_hz > 3000
