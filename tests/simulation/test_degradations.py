import random
import typing
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.signal import correlate

from simulation import levels
from simulation.chance import Chance
from simulation.degradations import AddNoise, AnyDegradation, Equalise, Level, Reverberate, table
from simulation.degradations.base import Choice, Degradation, Drawable, Mixture
from simulation.errors import BadAudio, BadSetting
from simulation.manifest import Measured
from simulation.rir import Rir, measured_rir
from simulation.rooms import RoomBank
from simulation.schema import OneOf, Range

ROOT = FilePath(__file__).parents[2]
RATE = 16_000
FAMILY = typing.get_args(typing.get_args(AnyDegradation)[0])
ADAPTER: TypeAdapter[Degradation] = TypeAdapter(AnyDegradation)
CATALOGUE = {
    "noise": {f"n{group}": [f"noise/n{group}-{take}" for take in range(2)] for group in range(5)},
    "rir": RoomBank(rooms=5, positions=2).groups("train"),
    "speech": {f"s{group}": [f"speech/s{group}-{take}" for take in range(2)] for group in range(5)},
}

every_degradation = pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.model_fields["kind"].default)


class Shelf:
    """Recordings from memory: white noise of 1.3 s, and a small simulated bank."""

    bank = RoomBank(rooms=5, positions=2, rt60_s=Range(low=0.15, high=0.25))

    def __init__(self, sample_rate: int = RATE) -> None:
        self.sample_rate = sample_rate

    def samples(self, recording: str) -> np.ndarray:
        white = np.random.Generator(np.random.Philox(5)).standard_normal(int(1.3 * self.sample_rate)).astype(np.float32)
        white.setflags(write=False)
        return 0.05 * white

    def rir(self, recording: str) -> Rir:
        return self.bank.simulate(3, recording, self.sample_rate)


def _chance(index: int = 0, label: str = "x") -> Chance:
    return Chance(7, "train", index, label, CATALOGUE)


def _drawn(kind: type[Degradation], index: int = 0) -> Degradation:
    operation = kind().draw(_chance(index))
    assert operation is not None
    return operation


def _mixture_of(samples: np.ndarray, sample_rate: int = RATE) -> Mixture:
    samples.setflags(write=False)
    return Mixture(clean=samples, noisy=samples, sample_rate=sample_rate)


def _lag(reference: np.ndarray, other: np.ndarray) -> int:
    """By how many samples `other` comes after `reference`."""
    return int(np.argmax(correlate(other, reference, method="fft"))) - (len(reference) - 1)


# ---- what every member of the family keeps -------------------------------------------------------------------------


@every_degradation
def test_drawing_leaves_no_range_and_no_choice(kind: type[Degradation]) -> None:
    """A drawn degradation holds numbers, words and ids only, of those asked for, in its parts too."""
    for index in range(5):
        operation = _drawn(kind, index)
        for path, asked in _fields(kind()):
            found = _field(operation, path)
            if isinstance(asked, Range):
                assert found is None or asked.low <= found <= asked.high
            if isinstance(asked, OneOf):
                assert found in asked.values
            if isinstance(asked, Choice):
                assert any(found in members for members in CATALOGUE[asked.of].values())
        assert not any(isinstance(value, Range | OneOf | Choice) for _, value in _fields(operation))


Path = tuple[str | int, ...]


def _fields(settings: Drawable, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every field of these settings and of their parts, with the way to it."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        parts = value if isinstance(value, tuple) else (value,)
        for place, part in enumerate(parts):
            here = (*path, name, place) if isinstance(value, tuple) else (*path, name)
            yield from _fields(part, here) if isinstance(part, Drawable) else [(here, part)]


def _field(settings: object, path: Path) -> typing.Any:
    """What lies there; None where the drawn object has no such part."""
    for step in path:
        if isinstance(step, str):
            settings = getattr(settings, step)
        elif step < len(settings):  # type: ignore[arg-type]
            settings = settings[step]  # type: ignore[index]
        else:
            return None
    return settings


@every_degradation
@given(seed=st.integers(0, 2**63), index=st.integers(0, 2**40))
@settings(max_examples=20, deadline=None)
def test_a_draw_survives_json_and_repeats(kind: type[Degradation], seed: int, index: int) -> None:
    """The same seed and row give the same numbers, and JSON gives back the very same object."""
    operation = kind().draw(Chance(seed, "test", index, "x", CATALOGUE))
    assert operation is not None
    assert operation == kind().draw(Chance(seed, "test", index, "x", CATALOGUE))
    assert ADAPTER.validate_json(operation.model_dump_json()) == operation


@every_degradation
def test_a_drawn_degradation_applies_bit_equal_after_json(
    kind: type[Degradation], waveform: Callable[..., np.ndarray]
) -> None:
    """What a manifest holds is all that the samples depend on."""
    mixture = _mixture_of(waveform("round trip", 0.6, RATE))
    for index in range(4):
        operation = _drawn(kind, index)
        first, again = (
            one.apply(mixture, Shelf()) for one in (operation, ADAPTER.validate_json(operation.model_dump_json()))
        )
        assert np.array_equal(first.noisy, again.noisy) and np.array_equal(first.clean, again.clean)
        assert first.measured == again.measured


@every_degradation
def test_changing_one_range_shifts_no_other_draw(kind: type[Degradation]) -> None:
    """Every other field of the row stays as it was drawn, for any field that is narrowed or fixed."""
    before, asked = _drawn(kind), kind()
    for name in kind.model_fields:
        for changed in _narrowed(getattr(asked, name)):
            after = kind(**{name: changed}).draw(_chance())
            assert after is not None
            left_out = {name, *DEPENDING.get((kind, name), ())}
            assert after.model_dump(exclude=left_out) == before.model_dump(exclude=left_out)


DEPENDING = {(Equalise, "peak_count"): ("peaks",)}
"""Fields of a row whose number follows another field."""


def _narrowed(value: object) -> list[object]:
    """Other things to ask of a field: half of its range or choices, and just one of them."""
    if isinstance(value, Range):
        middle = (value.low + value.high) / 2
        return [middle, Range(low=value.low, high=middle)]
    if isinstance(value, OneOf):
        return [value.values[0], OneOf(values=value.values[: len(value.values) // 2 + 1])]
    return []


@every_degradation
@given(seconds=st.floats(0.01, 1.5), index=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_length_and_type_are_kept(kind: type[Degradation], seconds: float, index: int) -> None:
    """Two finite float32 waveforms as long as before come out, and what was measured are finite numbers."""
    samples = (0.1 * np.random.Generator(np.random.Philox(index)).standard_normal(int(seconds * RATE))).astype("f4")
    result = _drawn(kind, index).apply(_mixture_of(samples), Shelf())
    for side in (result.clean, result.noisy):
        assert side.shape == samples.shape and side.dtype == np.float32 and np.isfinite(side).all()
    assert all(np.isfinite(value) for value in result.measured.values())
    assert set(result.measured) <= set(Measured.model_fields)


@every_degradation
def test_clean_and_noisy_stay_aligned(kind: type[Degradation], waveform: Callable[..., np.ndarray]) -> None:
    """The cross-correlation of target and input peaks at lag 0."""
    mixture = _mixture_of(waveform("aligned", 1.5, RATE))
    for index in range(8):
        result = _drawn(kind, index).apply(mixture, Shelf())
        assert _lag(result.clean, result.noisy) == 0


@every_degradation
@pytest.mark.parametrize("sample_rate", [8000, 48_000])
def test_other_sample_rates_are_served(
    kind: type[Degradation], sample_rate: int, waveform: Callable[..., np.ndarray]
) -> None:
    """At 8 and 48 kHz too: equal length, finite, lag 0."""
    mixture = _mixture_of(waveform("elsewhere", 0.8, sample_rate), sample_rate)
    for index in range(3):
        result = _drawn(kind, index).apply(mixture, Shelf(sample_rate))
        assert result.noisy.shape == result.clean.shape == mixture.clean.shape
        assert np.isfinite(result.noisy).all() and np.isfinite(result.clean).all()
        assert _lag(result.clean, result.noisy) == 0


ODD = {
    "silent": np.zeros(4000, np.float32),
    "one sample": np.full(1, 0.3, np.float32),
    "shorter than a packet": (0.1 * np.sin(np.arange(100))).astype(np.float32),
    "all clipped": np.sign(np.sin(np.arange(4000) / 7)).astype(np.float32),
    "too loud": (5 * np.sin(np.arange(4000) / 7)).astype(np.float32),
    "constant": np.full(4000, 0.5, np.float32),
}


@every_degradation
@pytest.mark.parametrize("what", ODD)
def test_odd_input_is_rendered_or_refused_with_a_reason(kind: type[Degradation], what: str) -> None:
    """Silence, a single sample, a waveform that is all clipped: finite and as long as before, or `BadAudio`."""
    mixture = _mixture_of(ODD[what])
    for index in range(4):
        try:
            result = _drawn(kind, index).apply(mixture, Shelf())
        except BadAudio as error:
            assert what in ("silent", "one sample", "shorter than a packet", "constant") and len(str(error)) > 20
            continue
        for side in (result.clean, result.noisy):
            assert side.shape == mixture.clean.shape and side.dtype == np.float32 and np.isfinite(side).all()
        assert all(np.isfinite(value) for value in result.measured.values())


@every_degradation
def test_the_target_is_left_alone_or_moved_with_the_input(
    kind: type[Degradation], waveform: Callable[..., np.ndarray]
) -> None:
    """Rooms and levels move the target; nothing else touches a sample of it, so no gain ever comes between the two."""
    mixture = _mixture_of(waveform("untouched", 0.5, RATE))
    for index in range(4):
        result = _drawn(kind, index).apply(mixture, Shelf())
        if kind is Level:
            gain = 10 ** (result.measured["level_gain_db"] / 20)
            assert np.allclose(result.clean, gain * mixture.clean, atol=1e-6)
            assert np.allclose(result.noisy, gain * mixture.noisy, atol=1e-6)
        elif kind is not Reverberate:
            assert result.clean is mixture.clean


@every_degradation
def test_defaults_are_what_the_fields_could_hold(kind: type[Degradation]) -> None:
    """Reading back what a scenario writes changes nothing, and each can be used at 16 and 48 kHz."""
    assert ADAPTER.validate_json(kind().model_dump_json()) == kind()
    kind().check(16_000)
    kind().check(48_000)


@every_degradation
def test_each_says_where_it_comes_from(kind: type[Degradation]) -> None:
    """A source in the docstring, and a line of documentation for every field."""
    assert "Source: " in (kind.__doc__ or "")
    assert [name for name, field in kind.model_fields.items() if not field.description and name != "kind"] == []


@every_degradation
def test_applying_touches_no_global_randomness(kind: type[Degradation], waveform: Callable[..., np.ndarray]) -> None:
    """Neither `random` nor NumPy's global generator is read or moved, and their state changes nothing."""
    mixture, operation, results = _mixture_of(waveform("pure", 1.0, RATE)), _drawn(kind), []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]
        results.append(operation.apply(mixture, Shelf()))
        assert before == (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2])
    assert np.array_equal(results[0].noisy, results[1].noisy)
    assert np.array_equal(results[0].clean, results[1].clean)


@every_degradation
def test_what_was_not_drawn_cannot_be_applied(kind: type[Degradation], waveform: Callable[..., np.ndarray]) -> None:
    """Applying a degradation that still has ranges or choices says what was forgotten."""
    with pytest.raises(RuntimeError, match="call draw"):
        kind().apply(_mixture_of(waveform("undrawn", 0.3, RATE)), Shelf())


@every_degradation
@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_probability_is_the_share_of_rows(kind: type[Degradation], probability: float) -> None:
    """Of 2000 rows the asked share gets the degradation, and never or always means exactly that."""
    degradation = kind(probability=probability)
    share = np.mean([degradation.draw(_chance(index)) is not None for index in range(2000)])
    assert share == pytest.approx(probability, abs=0.03 * (0 < probability < 1))


@every_degradation
def test_probability_shifts_no_draw(kind: type[Degradation]) -> None:
    """The rows that keep a degradation keep its numbers when it becomes rarer."""
    rare = [kind(probability=0.3).draw(_chance(index)) for index in range(50)]
    assert [one for one in rare if one] == [_drawn(kind, index) for index, one in enumerate(rare) if one]


@every_degradation
def test_misspelt_settings_are_refused(kind: type[Degradation]) -> None:
    """A key that does not exist is an error that names it."""
    with pytest.raises(ValidationError, match="loudness"):
        kind(loudness=3)


def test_an_unknown_kind_is_answered_with_those_that_exist() -> None:
    """The union writes the message."""
    with pytest.raises(ValidationError, match="'noise', 'reverb', 'band_limit'"):
        ADAPTER.validate_python({"kind": "reverbb"})


def test_the_document_lists_what_the_code_has() -> None:
    """`docs/degradations.md` is what the union and its docstrings say today."""
    found = (ROOT / "docs" / "degradations.md").read_text()
    assert found == table.document(), "run python -m simulation.degradations.table >docs/degradations.md"


# ---- one of some values --------------------------------------------------------------------------------------------


def test_one_of_is_drawn_as_often_as_its_weights_say() -> None:
    """Equal weights where none are given; a drawn value is one of those listed, never something in between."""
    for weights, shares in ((None, (1 / 3, 1 / 3, 1 / 3)), ((1.0, 2.0, 5.0), (0.125, 0.25, 0.625))):
        degradation = AddNoise(snr_db=OneOf(values=(0, 5, 10), weights=weights))
        drawn = [operation.snr_db for index in range(2000) if (operation := degradation.draw(_chance(index)))]
        assert set(drawn) == {0.0, 5.0, 10.0}
        assert [drawn.count(value) / 2000 for value in (0, 5, 10)] == pytest.approx(shares, abs=0.03)


def test_the_values_of_one_of_are_those_that_the_field_could_hold() -> None:
    """Found when the scenario is read, with the value at fault; whole numbers of a field in dB become its floats."""
    assert AddNoise(snr_db=OneOf(values=(0, 5))).model_dump()["snr_db"]["values"] == (0.0, 5.0)
    for values in (["loud"], [0, "loud"]):
        with pytest.raises(BadSetting, match=r"snr_db.*'loud'"):
            AddNoise.parse({"kind": "noise", "snr_db": {"values": values}}, "mine.json")
    with pytest.raises(BadSetting, match=r"snr_db\.one_of: there are 2 values and 1 weights"):
        AddNoise.parse({"kind": "noise", "snr_db": {"values": [0, 5], "weights": [1]}}, "mine.json")
    with pytest.raises(BadSetting, match=r"snr_db\.one_of\.weights\.0: Input should be greater than 0"):
        AddNoise.parse({"kind": "noise", "snr_db": {"values": [0], "weights": [0]}}, "mine.json")


def test_one_of_that_was_not_drawn_cannot_be_applied(waveform: Callable[..., np.ndarray]) -> None:
    """It answers like a range."""
    with pytest.raises(RuntimeError, match="call draw"):
        AddNoise(recording="n", offset=0.0, snr_db=OneOf(values=(0, 5))).apply(
            _mixture_of(waveform("undrawn", 0.3, RATE)), Shelf()
        )


# ---- noise ---------------------------------------------------------------------------------------------------------


def _noises(waveform: Callable[..., np.ndarray]) -> dict[str, np.ndarray]:
    rng = np.random.Generator(np.random.Philox(9))
    white = rng.standard_normal(3 * RATE).astype(np.float32)
    impulses = np.zeros_like(white)
    impulses[:: RATE // 3] = 0.9
    seldom = white * (np.arange(len(white)) % RATE < RATE // 10)
    return {"speech": waveform("talker", 2.0, RATE), "white": 0.1 * white, "impulsive": impulses, "silence": seldom}


@pytest.mark.parametrize("noise", ["speech", "white", "impulsive", "silence"])
@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 15.0])
@pytest.mark.parametrize("speech", ["dense", "sparse"])
def test_the_realised_snr_is_the_asked_one(
    noise: str, snr_db: float, speech: str, waveform: Callable[..., np.ndarray]
) -> None:
    """Within 0.1 dB for steady, impulsive and mostly silent noise, measured on what was really added."""
    talking = waveform("talking", 2.0, RATE)
    if speech == "sparse":
        talking = np.concatenate([np.zeros(4 * RATE, np.float32), talking])
    shelf = Shelf()
    shelf.samples = lambda recording: _noises(waveform)[noise]  # type: ignore[method-assign]
    result = AddNoise(recording=noise, offset=0.4, snr_db=snr_db).apply(_mixture_of(talking), shelf)
    added = result.noisy.astype(np.float64) - talking
    realised_db = levels.active_level_db(talking, RATE) - levels.rms_db(added)
    assert realised_db == pytest.approx(snr_db, abs=0.1)
    assert result.measured["snr_db"] == pytest.approx(snr_db, abs=0.1)
    assert result.clean is talking


def test_short_noise_goes_round_from_its_offset(waveform: Callable[..., np.ndarray]) -> None:
    """A recording shorter than the utterance repeats without a gap, beginning where the offset says."""
    shelf, noise = Shelf(), waveform("short", 0.3, RATE)
    shelf.samples = lambda recording: noise  # type: ignore[method-assign]
    speech = waveform("long", 1.0, RATE)
    result = AddNoise(recording="n", offset=0.5, snr_db=0.0).apply(_mixture_of(speech), shelf)
    added = result.noisy - speech
    expected = np.resize(np.roll(noise, -len(noise) // 2), len(speech))
    assert np.corrcoef(added, expected)[0, 1] > 0.9999


def test_silent_noise_is_bad_audio(waveform: Callable[..., np.ndarray]) -> None:
    """There is no gain that makes silence 5 dB quieter than speech: the row is refused by name."""
    shelf = Shelf()
    shelf.samples = lambda recording: np.zeros(RATE, np.float32)  # type: ignore[method-assign]
    with pytest.raises(BadAudio, match="noise/hush"):
        AddNoise(recording="noise/hush", offset=0.0, snr_db=5.0).apply(_mixture_of(waveform("s", 1.0, RATE)), shelf)


# ---- reverberation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["early", "direct", "dry"])
@pytest.mark.parametrize("rir", ["simulated", "measured"])
def test_every_target_is_aligned_with_the_dry_speech(
    target: str, rir: str, waveform: Callable[..., np.ndarray]
) -> None:
    """At lag 0 lie the dry speech, the target and the reverberant input, for geometry and for the 10 % rule."""
    speech = (waveform("in a room", 2.0, RATE) * np.float32(1.0)).copy()
    shelf = Shelf()
    if rir == "measured":
        recorded = np.concatenate([np.zeros(333, np.float32), shelf.rir("room/train/0001/0").samples])
        shelf.rir = lambda name: measured_rir(recorded, RATE)  # type: ignore[method-assign]
    result = Reverberate(rir="room/train/0001/0", target=target).apply(_mixture_of(speech), shelf)  # type: ignore[arg-type]
    assert _lag(speech, result.noisy) == _lag(speech, result.clean) == _lag(result.clean, result.noisy) == 0
    if target == "dry":
        assert np.array_equal(result.clean, speech)


def test_targets_keep_as_much_of_the_room_as_they_say() -> None:
    """An impulse comes out as the response itself: 2.5 ms of it in `direct`, 50 ms in `early`, all in the input."""
    impulse = np.zeros(RATE, np.float32)
    impulse[1000] = 0.5
    lengths = {}
    for target in ("direct", "early"):
        result = Reverberate(rir="room/train/0002/1", target=target).apply(_mixture_of(impulse), Shelf())  # type: ignore[arg-type]
        lengths[target] = (np.flatnonzero(np.abs(result.clean) > 1e-6)[-1] - 1000) / RATE
        ends = round({"direct": 0.0025, "early": 0.05}[target] * RATE)
        assert np.allclose(result.clean[: 1000 + ends], result.noisy[: 1000 + ends], atol=1e-6)
        assert np.abs(result.noisy[1000 + ends + 2 :]).max() > 1e-3
    assert lengths["direct"] == pytest.approx(0.0025, abs=0.0005)
    assert lengths["early"] == pytest.approx(0.05, abs=0.002)


def test_the_direct_sound_keeps_level_and_polarity() -> None:
    """Whatever the gain and the sign of the response, the direct target has the energy and the sign of the speech."""
    white = (0.1 * np.random.Generator(np.random.Philox(4)).standard_normal(RATE)).astype(np.float32)
    for scale in (-0.01, 30.0):
        shelf = Shelf()
        rir = shelf.rir("room/train/0000/0")
        scaled = Rir((scale * rir.samples).astype(np.float32), rir.onset, RATE)
        shelf.rir = lambda name, scaled=scaled: scaled  # type: ignore[method-assign]
        result = Reverberate(rir="r", target="direct").apply(_mixture_of(white), shelf)
        assert levels.rms_db(result.clean) == pytest.approx(levels.rms_db(white), abs=0.5)
        assert np.dot(result.clean, white) > 0
