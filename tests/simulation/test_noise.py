from collections.abc import Callable

import numpy as np
import pytest

from simulation import levels
from simulation.chance import Chance
from simulation.degradations import AddHiss, AddNoise, AddTalker, AddWind, Reverberate
from simulation.degradations.base import Degradation, Mixture
from simulation.degradations.noise import Others, Take
from simulation.draw import Plan, draw
from simulation.errors import BadAudio, BadSetting
from simulation.rir import Rir
from simulation.scenario import Case, Scenario
from simulation.schema import OneOf, Range
from simulation.sources import SPLITS, SourceManifest

RATE = 16_000

Tiny = Callable[..., Scenario]
Manifest = Callable[..., SourceManifest]
Waveform = Callable[..., np.ndarray]


class Shelf:
    """Recordings by name, and one room."""

    def __init__(self, recordings: dict[str, np.ndarray]) -> None:
        self.recordings = recordings

    def samples(self, recording: str) -> np.ndarray:
        return self.recordings[recording]

    def rir(self, recording: str) -> Rir:
        samples = np.zeros(4000, np.float32)
        samples[[50, 400, 900, 2500]] = [1.0, 0.5, -0.4, 0.3]
        return Rir(samples, 50, RATE)


@pytest.fixture(scope="module")
def noises(waveform: Waveform) -> dict[str, np.ndarray]:
    """Speech, white, impulsive and mostly silent noise."""
    white = np.random.Generator(np.random.Philox(9)).standard_normal(3 * RATE).astype(np.float32)
    impulses = np.zeros_like(white)
    impulses[:: RATE // 3] = 0.9
    seldom = white * (np.arange(len(white)) % RATE < RATE // 10)
    return {"speech": waveform("other", 2.5, RATE), "white": 0.1 * white, "impulsive": impulses, "silence": seldom}


def _applied(operation: Degradation, speech: np.ndarray, shelf: Shelf) -> tuple[Mixture, np.ndarray]:
    """The mixture, and what was added."""
    mixture = operation.apply(Mixture(speech, speech, RATE), shelf)
    return mixture, mixture.noisy.astype(np.float64) - speech


# ---- several noises --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snr_db", [-5.0, 5.0, 20.0])
@pytest.mark.parametrize("first", ["speech", "white", "impulsive", "silence"])
def test_several_noises_have_the_asked_snr_together(
    first: str, snr_db: float, noises: dict[str, np.ndarray], waveform: Waveform
) -> None:
    """Within 0.1 dB for the sum of four unlike noises, whichever is first, each at its own level beside it."""
    speech, shelf = waveform("talking", 2.0, RATE), Shelf(noises)
    others = tuple(Take(recording=name, offset=0.3, level_db=-6.0) for name in noises if name != first)
    alone = AddNoise(recording=first, offset=0.1, snr_db=snr_db)
    mixture, added = _applied(alone.model_copy(update={"others": others}), speech, shelf)
    assert levels.active_level_db(speech, RATE) - levels.rms_db(added) == pytest.approx(snr_db, abs=0.1)
    assert mixture.measured["snr_db"] == pytest.approx(snr_db, abs=0.1)
    offsets = {name: 0.1 if name == first else 0.3 for name in noises}
    pieces = [_applied(AddNoise(recording=name, offset=offsets[name], snr_db=0.0), speech, shelf)[1] for name in noises]
    shares, *_ = np.linalg.lstsq(np.stack(pieces).T, added, rcond=None)
    beside_db = {name: 20 * np.log10(share) for name, share in zip(noises, shares, strict=True)}
    assert all(beside_db[take.recording] - beside_db[first] == pytest.approx(-6.0, abs=0.1) for take in others)


def test_other_noises_are_drawn_apart_and_never_the_same_recording_twice(
    tiny_scenario: Tiny, manifest_in_memory: Manifest
) -> None:
    """As many as drawn, of groups of their own and of the row's split; the first noise keeps its draw."""
    several = AddNoise(others=Others(count=OneOf(values=(0, 1, 2))))
    drawn = {}
    for label, noise in (("one", AddNoise()), ("several", several)):
        scenario = tiny_scenario(cases=(Case(name="a", degradations=(noise,)),))
        plan = Plan(scenario, manifest_in_memory(), 7)
        drawn[label] = [draw(plan, "train", index).operations[0] for index in range(90)]
    for one, more in zip(drawn["one"], drawn["several"], strict=True):
        assert more.model_copy(update={"others": ()}) == one
        groups = [plan.sources.find(each.recording).group for each in (more, *more.others)]  # type: ignore[union-attr,arg-type]
        assert len(set(groups)) == len(groups) and all(group.startswith("train") for group in groups)
    counts = [len(more.others) for more in drawn["several"]]  # type: ignore[union-attr,arg-type]
    assert {counts.count(count) > 15 for count in (0, 1, 2)} == {True}


def test_a_split_with_few_noises_has_as_many_as_there_are(tiny_scenario: Tiny, manifest_in_memory: Manifest) -> None:
    """Asked for nine others of three groups, a row has two."""
    scenario = tiny_scenario(cases=(Case(name="a", degradations=(AddNoise(others=Others(count=9)),)),))
    row = draw(Plan(scenario, manifest_in_memory(), 7), "valid", 0)
    assert len(row.operations[0].others) == 2  # type: ignore[union-attr,arg-type]


def test_a_cropped_noise_has_no_seam(waveform: Waveform) -> None:
    """A long recording is heard in one piece from any offset; a short one goes round."""
    ramp, speech = np.linspace(0.1, 0.9, 3 * RATE, dtype=np.float32), waveform("s", 1.0, RATE)
    shelf = Shelf({"long": ramp, "short": ramp[: RATE // 2]})
    for offset in (0.0, 0.5, 0.9, 0.999999):
        _, added = _applied(AddNoise(recording="long", offset=offset, snr_db=0.0, fit="crop"), speech, shelf)
        assert np.diff(added).min() > -1e-6
        _, around = _applied(AddNoise(recording="long", offset=offset, snr_db=0.0), speech, shelf)
        assert (np.diff(around).min() < -0.01) == (offset >= 0.9)
    _, short = _applied(AddNoise(recording="short", offset=0.0, snr_db=0.0, fit="crop"), speech, shelf)
    assert np.count_nonzero(np.diff(short) < -0.001) == 1


# ---- another talker --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sir_db", [-5.0, 0.0, 25.0])
@pytest.mark.parametrize("talker", ["speech", "silence"])
def test_the_realised_sir_is_the_asked_one(
    talker: str, sir_db: float, noises: dict[str, np.ndarray], waveform: Waveform
) -> None:
    """Active level over active level within 0.1 dB, whatever the pauses of either."""
    speech = np.concatenate([np.zeros(RATE, np.float32), waveform("talking", 2.0, RATE)])
    mixture, added = _applied(AddTalker(recording=talker, offset=0.2, sir_db=sir_db), speech, Shelf(noises))
    realised = levels.active_level_db(speech, RATE) - levels.active_level_db(added, RATE)
    assert realised == pytest.approx(sir_db, abs=0.1)
    assert mixture.measured["sir_db"] == pytest.approx(sir_db, abs=0.1) and mixture.clean is speech


def test_a_silent_talker_is_bad_audio(waveform: Waveform) -> None:
    """There is no ratio of speech to silence: the row is refused by name."""
    shelf = Shelf({"speech/hush": np.zeros(RATE, np.float32)})
    with pytest.raises(BadAudio, match="speech/hush"):
        _applied(AddTalker(recording="speech/hush", offset=0.0, sir_db=5.0), waveform("s", 1.0, RATE), shelf)


def test_the_other_talker_is_never_the_speaker(tiny_scenario: Tiny, manifest_in_memory: Manifest) -> None:
    """In every row somebody else of the same split; the row names them, and all others of the split are met."""
    case = Case(name="a", degradations=(AddTalker(), AddTalker(label="third")))
    plan = Plan(tiny_scenario(cases=(case,)), manifest_in_memory(), 7)
    for split in SPLITS.values():
        rows = [draw(plan, split, index) for index in range(80)]
        pairs = {(row.speaker, row.interferer) for row in rows}
        assert len(pairs) == 6 and all(who != other and str(other).startswith(split) for who, other in pairs)
        for row in rows:
            for operation in row.operations:
                assert plan.sources.find(operation.recording).group != row.speaker  # type: ignore[union-attr,arg-type]


def test_a_split_with_one_speaker_has_no_interferers(tiny_scenario: Tiny, manifest_in_memory: Manifest) -> None:
    """The plan is refused before anything is drawn, naming the split."""
    case = Case(name="a", degradations=(AddTalker(),))
    kept = [
        one
        for one in manifest_in_memory().recordings
        if (one.kind, one.split) != ("speech", "test") or one.group == "test0"
    ]
    with pytest.raises(BadSetting, match="'test' has one speaker"):
        Plan(tiny_scenario(cases=(case,)), SourceManifest(recordings=tuple(kept)), 0)


# ---- wind and hiss ---------------------------------------------------------------------------------------------------

STILL = {"seed": 4.0, "gusts_per_s": 0.5, "corner_hz": 200.0}


SYNTHESISED = [AddWind(**STILL, snr_db=-10.0), AddWind(**STILL, snr_db=15.0), AddHiss(seed=1.0, snr_db=7.0)]


@pytest.mark.parametrize("operation", SYNTHESISED)
def test_synthesised_noise_has_the_asked_snr(operation: AddWind | AddHiss, waveform: Waveform) -> None:
    """Within 0.1 dB; the clean side is left alone, and the same row gives the same samples."""
    speech = waveform("talking", 3.0, RATE)
    mixture, added = _applied(operation, speech, Shelf({}))
    realised = levels.active_level_db(speech, RATE) - levels.rms_db(added)
    assert realised == pytest.approx(operation.snr_db, abs=0.1)
    assert mixture.clean is speech
    assert np.array_equal(mixture.noisy, _applied(operation, speech, Shelf({}))[0].noisy)
    other = operation.model_copy(update={"seed": 2.0})
    assert abs(np.corrcoef(added, _applied(other, speech, Shelf({}))[1])[0, 1]) < 0.3


def test_wind_is_low_and_comes_in_gusts(waveform: Waveform) -> None:
    """Four fifths of its power lie below its corner, and its level wanders by more than 10 dB within ten seconds."""
    speech = waveform("talking", 10.0, RATE)
    _, added = _applied(AddWind(**STILL, snr_db=0.0), speech, Shelf({}))
    power, frequency_hz = np.abs(np.fft.rfft(added)) ** 2, np.fft.rfftfreq(len(added), 1 / RATE)
    assert power[frequency_hz < 200].sum() > 0.8 * power.sum()
    assert power[frequency_hz > 1000].sum() < 0.01 * power.sum()
    blocks_db = [levels.rms_db(block) for block in np.split(added, 20)]
    assert max(blocks_db) - min(blocks_db) > 10


def test_hiss_is_white(waveform: Waveform) -> None:
    """Each eighth of the band has an eighth of the power."""
    _, added = _applied(AddHiss(seed=3.0, snr_db=0.0), waveform("talking", 4.0, RATE), Shelf({}))
    bands = np.add.reduceat(np.abs(np.fft.rfft(added)) ** 2, np.arange(8) * (len(added) // 16))
    assert bands[:8] / bands.sum() == pytest.approx(np.full(8, 1 / 8), rel=0.1)


def test_ducking_lowers_the_speech_under_gusts_and_not_the_target(waveform: Waveform) -> None:
    """With ratio 20 the speech loses level where the wind is strong and keeps it elsewhere; the wind is the same."""
    speech = waveform("talking", 10.0, RATE)
    plain = AddWind(**STILL, snr_db=0.0)
    ducked = plain.model_copy(update={"ratio": 20.0, "threshold_db": -15.0, "attack_ms": 5.0, "release_ms": 50.0})
    (mixture, wind), (result, _) = (_applied(one, speech, Shelf({})) for one in (plain, ducked))
    heard = result.noisy - wind
    gains = [
        np.dot(block, whole) / np.dot(whole, whole)
        for block, whole in zip(np.split(heard, 20), np.split(speech, 20), strict=True)
    ]
    strong = np.argsort([levels.rms_db(block) for block in np.split(wind, 20)])
    assert np.mean(np.array(gains)[strong[-5:]]) < 0.6 and np.mean(np.array(gains)[strong[:5]]) > 0.95
    assert max(gains) < 1.01
    assert -15 < result.measured["ducking_db"] < -0.5 and "ducking_db" not in mixture.measured
    assert result.clean is speech and result.measured["snr_db"] == mixture.measured["snr_db"]


def test_a_wind_of_a_few_samples_is_a_wind() -> None:
    """However short the utterance, the result is finite and as long."""
    for samples in (1, 2, 7, 160):
        speech = np.full(samples, 0.1, np.float32)
        operation = AddWind(ratio=4.0).draw(Chance(1, "train", 0, "wind", {}))
        assert operation is not None
        mixture, _ = _applied(operation, speech, Shelf({}))
        assert len(mixture.noisy) == samples and np.isfinite(mixture.noisy).all()


# ---- what the target keeps of the room -------------------------------------------------------------------------------


def test_the_reverberant_target_is_what_noise_was_added_to(noises: dict[str, np.ndarray], waveform: Waveform) -> None:
    """Room and noise: the target is the speech in the whole room, so that noise alone is left to remove."""
    speech, shelf = waveform("talking", 1.0, RATE), Shelf(noises)
    wet = Reverberate(rir="r", target="reverberant").apply(Mixture(speech, speech, RATE), shelf)
    assert np.array_equal(wet.clean, wet.noisy) and not np.array_equal(wet.clean, speech)
    noisy = AddNoise(recording="white", offset=0.0, snr_db=5.0).apply(wet, shelf)
    assert np.array_equal(noisy.clean, wet.clean)


def test_a_range_in_the_others_is_drawn_for_each() -> None:
    """Levels and offsets of two other noises differ, and stay when the first noise's range changes."""
    catalogue = {"noise": {f"n{group}": [f"noise/n{group}"] for group in range(4)}}
    rows = [
        AddNoise(snr_db=span, others=Others(count=2)).draw(Chance(7, "train", 3, "noise", catalogue))
        for span in (Range(low=0.0, high=1.0), Range(low=5.0, high=9.0))
    ]
    first, second = rows[0].others  # type: ignore[union-attr,misc]
    assert (first.offset, first.level_db) != (second.offset, second.level_db)
    assert rows[0].others == rows[1].others  # type: ignore[union-attr]
