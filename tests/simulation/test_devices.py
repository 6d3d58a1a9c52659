"""Physics of what a device does: clipping, quantisation, equalisers, filters, gains."""

import numpy as np
import pytest

from simulation.chance import Chance
from simulation.degradations.adc_filter import AdcFilter
from simulation.degradations.agc import Agc
from simulation.degradations.alias import Alias
from simulation.degradations.base import Degradation, Mixture
from simulation.degradations.clip import Clip
from simulation.degradations.clip_quantiles import ClipQuantiles
from simulation.degradations.equalise import Band, Equalise
from simulation.degradations.expand import Expand
from simulation.degradations.gain_steps import GainSteps
from simulation.degradations.level import Level
from simulation.degradations.quantise import Quantise
from simulation.errors import BadAudio
from simulation.levels import active_level_db, rms_db
from simulation.schema import OneOf, Range

RATE = 16_000


def after(degradation: Degradation, samples: np.ndarray, sample_rate: int = RATE) -> Mixture:
    """The mixture of these samples with themselves after the degradation."""
    return degradation.apply(Mixture(samples, samples, sample_rate), None)  # type: ignore[arg-type]


def white(seconds: float = 4.0) -> np.ndarray:
    """White noise at -20 dBFS."""
    rng = np.random.Generator(np.random.Philox(4))
    return (0.1 * rng.standard_normal(int(seconds * RATE))).astype(np.float32)


def tone(frequency_hz: float, amplitude: float = 0.1, seconds: float = 1.0) -> np.ndarray:
    """A sine."""
    return (amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def gain_at(degradation: Degradation, frequency_hz: float) -> float:
    """Gain of a long tone in dB, measured away from its ends."""
    before = tone(frequency_hz, seconds=2.0)
    middle = slice(RATE // 2, 3 * RATE // 2)
    return rms_db(after(degradation, before).noisy[middle]) - rms_db(before[middle])


# ---- clipping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ceiling_db", [-3.0, -12.0])
def test_clipping_lowers_the_peak_by_what_was_drawn(ceiling_db: float) -> None:
    """Told -12 dB the peak is 12 dB lower; samples below the ceiling stay, and the share of the others is recorded."""
    before = white()
    result = after(Clip(ceiling_db=ceiling_db), before)
    peak = np.abs(before).max()
    assert 20 * np.log10(np.abs(result.noisy).max() / peak) == pytest.approx(ceiling_db, abs=0.01)
    beyond = np.abs(before) > peak * 10 ** (ceiling_db / 20)
    assert result.measured["clipped_share"] == pytest.approx(beyond.mean(), abs=1e-5)
    assert np.array_equal(result.noisy[~beyond], before[~beyond])


def test_quantiles_clip_their_share_on_each_side() -> None:
    """3 % below, 10 % above, each at its own ceiling."""
    before = white()
    result = after(ClipQuantiles(lower=0.03, upper=0.9), before)
    assert np.mean(result.noisy > before) == pytest.approx(0.03, abs=1e-4)
    assert np.mean(result.noisy < before) == pytest.approx(0.10, abs=1e-4)
    assert result.measured["clipped_share"] == pytest.approx(0.13, abs=2e-4)


def test_quantiles_that_cross_are_refused() -> None:
    """A floor above a ceiling is no clipping."""
    with pytest.raises(ValueError, match="every lower one below every upper one"):
        ClipQuantiles(lower=Range(low=0.0, high=0.6), upper=Range(low=0.5, high=1.0)).check(RATE)


# ---- quantisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_quantisation_costs_six_decibels_a_bit(bits: int) -> None:
    """A sine at full scale has 6.02 dB a bit and 1.76 dB above the error; every sample lies on a step."""
    result = after(Quantise(bits=bits, seed=1.0), tone(441.3, amplitude=1 - 2.0 ** (1 - bits), seconds=4.0))
    assert result.measured["quantisation_snr_db"] == pytest.approx(6.02 * bits + 1.76, abs=1.0)
    steps = result.noisy * 2 ** (bits - 1)
    assert np.array_equal(steps, np.rint(steps)) and len(np.unique(steps)) <= 2**bits


def test_dither_keeps_what_is_smaller_than_a_step() -> None:
    """0.3 of a step is lost without dither, and is the mean with it; another seed is another noise."""
    steady = np.full(200_000, 0.3 / 128, np.float32)
    assert not after(Quantise(bits=8, seed=1.0), steady).noisy.any()
    dithered = [after(Quantise(bits=8, dither=True, seed=seed), steady).noisy for seed in (1.0, 1.0, 2.0)]
    assert dithered[0].mean() * 128 == pytest.approx(0.3, abs=0.01)
    assert np.array_equal(dithered[0], dithered[1]) and not np.array_equal(dithered[0], dithered[2])
    assert np.var(dithered[0] * 128 - 0.3) == pytest.approx(0.25, abs=0.01)  # a twelfth of a step, three times


def test_a_converter_clips_at_full_scale() -> None:
    """What is louder than full scale does not wrap."""
    assert after(Quantise(bits=8, seed=1.0), tone(100.0, amplitude=3.0)).noisy.max() == 127 / 128
    with pytest.raises(ValueError, match="2 to 24"):
        Quantise(bits=OneOf(values=(8, 40))).check(RATE)


# ---- equaliser and filters -------------------------------------------------------------------------------------------


def test_an_equaliser_reaches_the_gain_that_was_drawn() -> None:
    """At the centre of a peak, at the far end of a shelf and half of it at its corner; 0 dB elsewhere."""
    flat = {"low_shelf": None, "high_shelf": None, "peaks": (), "peak_count": 0}
    peak = Equalise(**flat | {"peaks": (Band(frequency_hz=2000.0, gain_db=-6.0, q=5.0),), "peak_count": 1})
    low = Equalise(**flat | {"low_shelf": Band(frequency_hz=500.0, gain_db=9.0)})
    high = Equalise(**flat | {"high_shelf": Band(frequency_hz=4000.0, gain_db=-12.0)})
    for degradation, frequency_hz, gain_db in (
        (peak, 2000.0, -6.0),
        (peak, 200.0, 0.0),
        (peak, 7000.0, 0.0),
        (low, 30.0, 9.0),
        (low, 500.0, 4.5),
        (low, 6000.0, 0.0),
        (high, 7500.0, -12.0),
        (high, 4000.0, -6.0),
        (high, 100.0, 0.0),
    ):
        assert gain_at(degradation, frequency_hz) == pytest.approx(gain_db, abs=0.25)
    assert after(Equalise(**flat), white()).measured["equaliser_db"] == 0.0


@pytest.mark.parametrize(
    "degradation",
    [
        Equalise(
            low_shelf=Band(frequency_hz=300.0, gain_db=12.0),
            high_shelf=Band(frequency_hz=5000.0, gain_db=-12.0),
            peaks=(Band(frequency_hz=1500.0, gain_db=6.0, q=5.0),),
            peak_count=1,
        ),
        AdcFilter(highpass_hz=100.0, lowpass_hz=5000.0),
    ],
    ids=["equalise", "adc_filter"],
)
def test_filters_of_a_device_have_no_phase(degradation: Degradation) -> None:
    """An impulse spreads evenly to both sides, so no correlation peak moves."""
    impulse = np.zeros(16_001, np.float32)
    impulse[8000] = 1.0
    noisy = after(degradation, impulse).noisy
    assert np.argmax(np.abs(noisy)) == 8000
    assert np.allclose(noisy, noisy[::-1], atol=2e-4 * noisy.max())


def test_a_row_lists_the_peaks_that_happen_and_no_other() -> None:
    """As many as were drawn, the same as with any other count; bands that the corpus does not have are left out."""
    catalogue: dict = {"noise": {}, "rir": {}, "speech": {}}
    drawn = [Equalise().draw(Chance(7, "train", index, "x", catalogue)) for index in range(60)]
    assert {len(one.peaks) for one in drawn if one} == set(range(8))
    assert all(len(one.peaks) == one.peak_count for one in drawn if one)
    fewer = Equalise(peak_count=1).draw(Chance(7, "train", 3, "x", catalogue))
    more = Equalise(peak_count=7).draw(Chance(7, "train", 3, "x", catalogue))
    assert fewer and more and more.peaks[:1] == fewer.peaks and len(set(more.peaks)) == 7
    high = Equalise(low_shelf=None, high_shelf=Band(frequency_hz=7500.0, gain_db=12.0), peaks=(), peak_count=0)
    narrow = white(0.5)
    assert np.array_equal(after(high, narrow, 8000).noisy, narrow)


def test_the_filters_of_a_converter_are_six_decibels_down_where_they_say() -> None:
    """At both frequencies, and flat between; without one it is not there."""
    both = AdcFilter(highpass_hz=100.0, lowpass_hz=5000.0)
    for frequency_hz, gain_db in ((100.0, -6.0), (5000.0, -6.0), (800.0, 0.0)):
        assert gain_at(both, frequency_hz) == pytest.approx(gain_db, abs=0.3)
    assert gain_at(AdcFilter(highpass_hz=None, lowpass_hz=5000.0), 100.0) == pytest.approx(0.0, abs=0.05)
    steep = AdcFilter(highpass_hz=100.0, lowpass_hz=None, rolloff_db_per_octave=48)
    assert gain_at(steep, 50.0) < -40 < -14 < gain_at(both, 50.0)


def test_filters_that_leave_nothing_are_refused() -> None:
    """A high-pass above the low-pass, or above the corpus's band; too few samples to filter are bad audio."""
    for fields in ({"highpass_hz": 6000.0}, {"highpass_hz": 9000.0, "lowpass_hz": None}):
        with pytest.raises(ValueError, match="must stay below"):
            AdcFilter(**fields).check(RATE)
    with pytest.raises(BadAudio, match="63 samples are too short"):
        after(AdcFilter(highpass_hz=100.0, lowpass_hz=5000.0), white()[:63])


# ---- gains -----------------------------------------------------------------------------------------------------------


def test_a_gain_step_lasts_from_start_to_end() -> None:
    """12 dB more from a quarter to three quarters of the utterance, 5 ms later on its way; 0 dB before and after."""
    before = white(2.0)
    result = after(GainSteps(gain_db=12.0, start=0.25, end=0.75), before)
    gain_db = 20 * np.log10(result.noisy / before)
    edges = np.array([0.25, 0.75]) * len(before)
    assert np.allclose(gain_db[: int(edges[0]) - 1], 0, atol=1e-4)
    assert np.allclose(gain_db[int(edges[0]) + 80 : int(edges[1])], 12, atol=1e-4)
    assert np.allclose(gain_db[int(edges[1]) + 80 :], 0, atol=1e-4)
    assert np.all(np.diff(gain_db[int(edges[0]) : int(edges[0]) + 80]) > 0)
    assert result.measured["gain_step_share"] == pytest.approx(0.5, abs=0.005)


def test_a_gain_step_without_an_end_or_a_ramp() -> None:
    """An end of 1 never moves back; a start of 0 without a ramp is a constant gain."""
    before = white(0.5)
    constant = after(GainSteps(gain_db=-6.0, start=0.0, ramp_ms=0.0), before)
    assert np.allclose(constant.noisy, before * 10 ** (-6 / 20), atol=1e-7)
    assert constant.measured["gain_step_share"] == 1.0
    with pytest.raises(ValueError, match=r"start goes from 0 to 1\.5"):
        GainSteps(start=Range(low=0.0, high=1.5)).check(RATE)


def _loud_and_quiet(quiet_db: float) -> np.ndarray:
    samples = white(2.0)
    samples[RATE:] *= 10 ** (quiet_db / 20)
    return samples


def test_an_expander_makes_the_quiet_quieter_by_its_ratio() -> None:
    """30 dB quieter becomes 48 dB quieter at a ratio of 2 from 12 dB below the mean on; what is loud stays."""
    before = _loud_and_quiet(-30.0)
    noisy = after(Expand(ratio=2.0, threshold_db=-9.0), before).noisy
    loud, quiet = slice(RATE // 2, RATE - 800), slice(3 * RATE // 2, 2 * RATE)
    assert rms_db(noisy[loud]) == pytest.approx(rms_db(before[loud]), abs=0.1)
    below_db = rms_db(before) - 9.0 - rms_db(before[quiet])
    assert rms_db(before[quiet]) - rms_db(noisy[quiet]) == pytest.approx(below_db, abs=0.7)


def test_an_expander_does_not_go_below_its_floor_nor_follow_the_gain() -> None:
    """Its floor bounds what it takes; the same recording at another level is treated alike."""
    before = _loud_and_quiet(-60.0)
    floored = after(Expand(ratio=2.0, threshold_db=0.0, floor_db=-10.0), before)
    quiet = slice(3 * RATE // 2, 2 * RATE)
    assert rms_db(before[quiet]) - rms_db(floored.noisy[quiet]) == pytest.approx(10.0, abs=0.2)
    steady = _loud_and_quiet(-20.0)
    first, softer = (after(Expand(ratio=1.5, threshold_db=0.0), (gain * steady).astype("f4")) for gain in (1.0, 0.1))
    assert np.allclose(first.noisy, 10 * softer.noisy, rtol=1e-3, atol=1e-6)


def test_a_gain_control_brings_loud_and_quiet_to_its_level() -> None:
    """20 dB apart before, both at the target a second later, as far as its largest gain reaches."""
    before = _loud_and_quiet(-20.0)
    loud, quiet = slice(RATE // 2, RATE), slice(7 * RATE // 4, 2 * RATE)
    fast = {"attack_ms": 10.0, "release_ms": 100.0}
    noisy = after(Agc(target_db=-25.0, most_db=18.0, **fast), before).noisy
    assert rms_db(noisy[loud]) == pytest.approx(-25.0, abs=0.7)
    assert rms_db(noisy[quiet]) == pytest.approx(-25.0, abs=0.7)
    limited = after(Agc(target_db=-25.0, most_db=6.0, **fast), before)
    assert rms_db(limited.noisy[quiet]) == pytest.approx(rms_db(before[quiet]) + 6.0, abs=0.1)
    assert limited.measured["agc_range_db"] == pytest.approx(11.0, abs=2.0)


def test_a_slow_gain_control_pumps() -> None:
    """With a release of 1 s the quiet part begins quiet and swells."""
    noisy = after(Agc(target_db=-25.0, most_db=18.0, attack_ms=10.0, release_ms=1000.0), _loud_and_quiet(-20.0)).noisy
    parts = [rms_db(noisy[start : start + 3200]) for start in range(RATE + 800, 2 * RATE - 3200, 3200)]
    assert parts == sorted(parts) and parts[-1] > parts[0] + 3


@pytest.mark.parametrize("sides", ["both", "noisy"])
@pytest.mark.parametrize("measure", ["rms", "active"])
def test_a_level_is_reached_by_one_gain(sides: str, measure: str) -> None:
    """RMS or active level of the noisy side; the target moves by the same gain, or not at all."""
    before = np.concatenate([np.zeros(RATE, np.float32), white(1.0)])
    result = after(Level(level_db=-31.0, measure=measure, sides=sides), before)
    found = rms_db(result.noisy) if measure == "rms" else active_level_db(result.noisy, RATE)
    assert found == pytest.approx(-31.0, abs=0.01)
    gain = 10 ** (result.measured["level_gain_db"] / 20)
    assert np.allclose(result.noisy, gain * before, atol=1e-6)
    assert np.array_equal(result.clean, result.noisy if sides == "both" else before)


def test_silence_has_no_level() -> None:
    """The row says what was asked of it."""
    with pytest.raises(BadAudio, match="no gain brings it to -20 dBFS"):
        after(Level(level_db=-20.0), np.zeros(RATE, np.float32))


# ---- aliasing --------------------------------------------------------------------------------------------------------


def test_aliasing_folds_a_tone_back() -> None:
    """A tone of 3.3 kHz through 4 kHz is heard at 0.7 kHz; one of 0.3 kHz stays what it is."""
    samples = after(Alias(rate_hz=4000.0), tone(3300.0, seconds=2.0)).noisy
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert np.argmax(spectrum[: 2 * 2000]) == pytest.approx(2 * 700, abs=4)
    low = tone(300.0, seconds=2.0)
    kept = after(Alias(rate_hz=4000.0), low).noisy
    assert np.corrcoef(kept, low)[0, 1] > 0.97


def test_a_rate_above_the_corpus_does_nothing() -> None:
    """The row records the corpus's own rate."""
    before = white(0.5)
    result = after(Alias(rate_hz=32_000.0), before)
    assert np.array_equal(result.noisy, before) and result.measured["alias_rate_hz"] == RATE
