from collections.abc import Callable

import numpy as np
import pytest

from simulation.degradations.band_limit import RATE_STEP_HZ, BandLimit
from simulation.degradations.base import Mixture
from simulation.errors import BadAudio, BadSetting
from simulation.scenario import Case, Scenario, Size
from simulation.schema import OneOf, Range

RATE = 16_000
EDGES = {"butter": 1.2, "cheby1": 1.1, "ellip": 1.05, "bessel": 2.2, "polyphase": 1.2, "soxr": 1.0, "stft": 1.1}
"""Above so many times the cutoff, each family leaves less than a hundred-thousandth of the energy."""


def white(sample_rate: int = RATE, seconds: float = 4.0) -> np.ndarray:
    """White noise at -20 dBFS."""
    rng = np.random.Generator(np.random.Philox(4))
    return (0.1 * rng.standard_normal(int(seconds * sample_rate))).astype(np.float32)


def limited(samples: np.ndarray, sample_rate: int = RATE, **settings: object) -> Mixture:
    """The mixture after a band limit with these settings."""
    return BandLimit(**settings).apply(Mixture(samples, samples, sample_rate), None)  # type: ignore[arg-type]


def change_db(before: np.ndarray, after: np.ndarray, sample_rate: int, low_hz: float, high_hz: float) -> float:
    """By how much the energy between two frequencies changed."""
    frequency_hz, window = np.fft.rfftfreq(len(before), 1 / sample_rate), np.hanning(len(before))
    band = (frequency_hz >= low_hz) & (frequency_hz < high_hz)
    energy = [float(np.sum(np.abs(np.fft.rfft(side * window)[band]) ** 2)) for side in (before, after)]
    return 10 * np.log10(energy[1] / energy[0])


@pytest.mark.parametrize("family", EDGES)
@pytest.mark.parametrize(("sample_rate", "cutoff_hz"), [(16_000, 1000.0), (16_000, 3000.0), (48_000, 8000.0)])
def test_nothing_is_left_above_the_cutoff(family: str, sample_rate: int, cutoff_hz: float) -> None:
    """Every family: more than 50 dB lost above its edge, nothing below 0.8 times the cutoff (Bessel: 0.5, 0.5 dB)."""
    before = white(sample_rate)
    result = limited(before, sample_rate, family=family, cutoff_hz=cutoff_hz)
    found_hz = result.measured["cutoff_hz"]
    assert found_hz == pytest.approx(cutoff_hz, abs=RATE_STEP_HZ / 2 if family == "polyphase" else 0)
    assert change_db(before, result.noisy, sample_rate, EDGES[family] * found_hz, sample_rate / 2) < -50
    kept, tolerance_db = (0.5, 0.5) if family == "bessel" else (0.8, 0.15)
    assert change_db(before, result.noisy, sample_rate, 0, kept * found_hz) == pytest.approx(0, abs=tolerance_db)
    assert result.clean is before


@pytest.mark.parametrize("family", ["butter", "bessel"])
def test_the_cutoff_is_where_half_the_amplitude_is_left(family: str) -> None:
    """-6 dB at the cutoff, whatever the steepness, for the two families that say so."""
    before = white(seconds=8.0)
    for rolloff in (24, 120):
        after = limited(before, family=family, cutoff_hz=2500.0, rolloff_db_per_octave=rolloff).noisy
        assert change_db(before, after, RATE, 2475, 2525) == pytest.approx(-6, abs=0.5)


@pytest.mark.parametrize("family", EDGES)
def test_no_family_has_a_phase(family: str) -> None:
    """An impulse spreads evenly to both sides."""
    impulse = np.zeros(8001, np.float32)
    impulse[4000] = 1.0
    noisy = limited(impulse, family=family, cutoff_hz=2000.0).noisy
    assert np.argmax(np.abs(noisy)) == 4000
    tolerance = 0.02 if family == "stft" else 1e-4  # frames of the STFT do not lie evenly around the impulse
    assert np.allclose(noisy, noisy[::-1], atol=tolerance * noisy.max())


@pytest.mark.parametrize("family", EDGES)
def test_a_target_rate_stands_for_half_of_it(family: str) -> None:
    """8 kHz leaves what 4 kHz as a cutoff leaves, sample by sample, and `cutoff_hz` has no say."""
    before = white(seconds=0.5)
    by_rate = limited(before, family=family, target_rate=8000, cutoff_hz=1000.0)
    by_cutoff = limited(before, family=family, cutoff_hz=4000.0)
    assert np.array_equal(by_rate.noisy, by_cutoff.noisy)
    assert by_rate.measured == by_cutoff.measured == {"cutoff_hz": 4000.0}


@pytest.mark.parametrize("family", EDGES)
def test_the_shortest_waveforms_are_filtered(family: str, waveform: Callable[..., np.ndarray]) -> None:
    """From 64 samples on; fewer cannot be filtered forwards and backwards, and the row says so."""
    short = waveform("short", 0.004, RATE)
    assert len(limited(short, family=family, cutoff_hz=2000.0).noisy) == len(short) == 64
    with pytest.raises(BadAudio, match="63 samples are too short"):
        limited(short[:63], family=family, cutoff_hz=2000.0)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"cutoff_hz": Range(low=1000.0, high=8000.0)}, "cutoff_hz goes from 1000 to 8000; .* 0 and 8000"),
        ({"cutoff_hz": OneOf(values=(0, 500))}, "cutoff_hz goes from 0 to 500"),
        ({"target_rate": OneOf(values=(8000, 24_000))}, "target_rate goes from 8000 to 24000; .* 0 and 16000"),
    ],
)
def test_a_band_that_the_corpus_does_not_have_is_refused(settings: dict[str, object], reason: str) -> None:
    """When the scenario is read, not in the middle of a corpus."""
    case = {"name": "limited", "degradations": [BandLimit(**settings).model_dump(mode="json")]}  # type: ignore[arg-type]
    size = Size(train_hours=1.0, valid_rows=1, test_rows=1).model_dump()
    with pytest.raises(BadSetting, match=reason):
        Scenario.parse({"name": "mine", "cases": [case], "size": size}, "mine.json")
    assert Case.model_validate(case)
