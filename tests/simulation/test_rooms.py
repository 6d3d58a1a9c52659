from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyroomacoustics
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import room_acoustics
from simulation.errors import BadAudio, BadSetting
from simulation.rir import Rir, drr_db, measured_rir, rt60_s
from simulation.room_acoustics import PRE_DELAY_SAMPLES, SPEED_OF_SOUND_M_PER_S, eyring_absorption, hybrid
from simulation.rooms import RoomBank, is_simulated, simulated_room
from simulation.schema import Range

RATE = 16_000
SMALL = RoomBank(rooms=3, positions=2, rt60_s=Range(low=0.15, high=0.25))


def _decay(rt60: float, seconds: float, floor_db: float = -200.0) -> Rir:
    """White noise that decays by 60 dB in `rt60`, over a noise floor."""
    rng = np.random.Generator(np.random.Philox(3))
    time_s = np.arange(int(seconds * RATE)) / RATE
    tail = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / rt60)
    floor = rng.standard_normal(len(time_s)) * 10 ** (floor_db / 20)
    return Rir((tail + floor).astype(np.float32), 0, RATE)


def test_a_response_is_a_pure_function_of_seed_and_id() -> None:
    """Simulated twice, in any order, a response is equal bit for bit; another seed or position is another response."""
    ids = [member for members in SMALL.groups("train").values() for member in members]
    forwards = {rir: SMALL.simulate(5, rir, RATE).samples for rir in ids}
    backwards = {rir: SMALL.simulate(5, rir, RATE).samples for rir in reversed(ids)}
    assert all(np.array_equal(forwards[rir], backwards[rir]) for rir in ids)
    assert len({samples.tobytes() for samples in forwards.values()}) == len(ids)
    assert not np.array_equal(SMALL.simulate(6, ids[0], RATE).samples, forwards[ids[0]])


def test_the_onset_of_a_simulated_room_follows_from_its_geometry() -> None:
    """Pre-delay plus distance over the speed of sound; the response is silent before, and its first peak is there."""
    for members in RoomBank(rooms=4, positions=4).groups("valid").values():
        for rir_id in members[:2]:
            rir = SMALL.simulate(1, rir_id, RATE)
            distance_m = (rir.onset - PRE_DELAY_SAMPLES) * SPEED_OF_SOUND_M_PER_S / RATE
            assert SMALL.distance_m.low - 0.02 <= distance_m <= SMALL.distance_m.high + 0.02
            size = np.abs(rir.samples)
            assert size[: rir.onset - 1].max() < 0.1 * size[rir.onset]
            assert size[rir.onset] >= size[rir.onset - 5 : rir.onset + 2].max()
            assert size[rir.onset] == pytest.approx(1 / distance_m, rel=0.05)


def test_rooms_of_one_bank_differ_and_positions_of_one_room_share_it() -> None:
    """The walls are drawn by room, the places by position."""
    decays = [
        [rt60_s(RoomBank().simulate(0, member, RATE)) for member in members[:2]]
        for members in list(RoomBank().groups("train").values())[:4]
    ]
    assert all(first == pytest.approx(second, rel=0.15) for first, second in decays)
    assert max(first for first, _ in decays) > 1.2 * min(first for first, _ in decays)


def test_measured_decay_lies_near_the_asked_one() -> None:
    """Sabine's formula is a promise within a third; what is recorded is what was measured."""
    bank = RoomBank(rt60_s=Range(low=0.3, high=0.3))
    found = [rt60_s(bank.simulate(0, members[0], RATE)) for members in list(bank.groups("test").values())[:5]]
    assert all(0.2 < value < 0.42 for value in found)


def test_no_room_is_in_two_splits() -> None:
    """Ids carry the split, so rooms are disjoint by construction."""
    bank = RoomBank()
    rooms = [set(bank.groups(split)) for split in ("train", "valid", "test")]
    assert sum(map(len, rooms)) == len(set.union(*rooms)) == 3 * bank.rooms
    for room, members in bank.groups("test").items():
        assert all(is_simulated(member) and simulated_room(member) == room for member in members)


def test_simulating_leaves_pyroomacoustics_as_it_was() -> None:
    """The pin to one thread is undone, and no global random state is read or moved."""
    pyroomacoustics.constants.set("num_threads", 3)
    before = np.random.get_state()[1].tolist()
    SMALL.simulate(0, "room/train/0000/0", RATE)
    assert pyroomacoustics.constants.get("num_threads") == 3
    assert np.random.get_state()[1].tolist() == before


def test_threads_of_one_process_do_not_disturb_each_other() -> None:
    """Simulated by four threads at once, responses are equal bit for bit to those of one thread."""
    ids = [member for members in SMALL.groups("train").values() for member in members] * 4
    alone = {rir: SMALL.simulate(5, rir, RATE).samples for rir in ids[:6]}
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda rir: SMALL.simulate(5, rir, RATE).samples, ids))
    assert all(np.array_equal(samples, alone[rir]) for rir, samples in zip(ids, together, strict=True))


@pytest.mark.parametrize(
    "settings_of_bank",
    [
        {"rt60_s": Range(low=0.05, high=0.4)},
        {"distance_m": Range(low=0.5, high=4.0)},
        {"height_m": Range(low=1.5, high=3.0)},
        {"rooms": 0},
        {"area_m2": 20.0},
    ],
)
def test_impossible_banks_are_refused(settings_of_bank: dict[str, object]) -> None:
    """Before anything is simulated, and naming the field."""
    with pytest.raises(BadSetting, match=next(iter(settings_of_bank))):
        RoomBank.parse(settings_of_bank, "bank")  # type: ignore[arg-type]


def test_the_smallest_of_allowed_rooms_can_be_simulated() -> None:
    """Every extreme that validation lets through has places for speaker and microphone, and an absorption."""
    tight = RoomBank(
        rooms=1,
        positions=3,
        length_m=Range(low=3.0, high=3.0),
        width_m=Range(low=3.0, high=3.0),
        height_m=Range(low=2.2, high=2.2),
        distance_m=Range(low=2.0, high=2.0),
        rt60_s=Range(low=0.15, high=0.15),
    )
    for rir in tight.groups("train")["room/train/0000"]:
        assert tight.simulate(0, rir, RATE).onset == PRE_DELAY_SAMPLES + round(2.0 / SPEED_OF_SOUND_M_PER_S * RATE)


@given(
    delay=st.integers(5, 3000),
    sign=st.sampled_from([-1.0, 1.0]),
    reflection=st.floats(0.1, 3.0),
    after=st.integers(40, 900),
)
@settings(max_examples=50, deadline=None)
def test_the_onset_of_a_measured_response_is_its_first_arrival(
    delay: int, sign: float, reflection: float, after: int
) -> None:
    """Found whatever its sign, though a later reflection be louder than the direct sound."""
    samples = np.zeros(4500, np.float32)
    samples[delay - 2 : delay + 3] = sign * np.array([0.05, 0.4, 1.0, 0.4, 0.05], np.float32)
    samples[delay + after] += reflection
    assert measured_rir(samples, RATE).onset == delay


def test_a_silent_response_is_bad_audio() -> None:
    """It has no onset."""
    with pytest.raises(BadAudio, match="silent"):
        measured_rir(np.zeros(100, np.float32), RATE)


@pytest.mark.parametrize("rt60", [0.15, 0.4, 1.2])
def test_rt60_of_a_known_decay(rt60: float) -> None:
    """Within 5 % for an exponential tail."""
    assert rt60_s(_decay(rt60, 2 * rt60)) == pytest.approx(rt60, rel=0.05)


def test_rt60_under_a_noise_floor() -> None:
    """A floor at -40 dB bends the decay: still right within 10 %; one at -20 dB hides it, and nothing is claimed."""
    assert rt60_s(_decay(0.4, 1.5, floor_db=-40.0)) == pytest.approx(0.4, rel=0.1)
    assert rt60_s(_decay(0.4, 1.5, floor_db=-20.0)) is None


def test_drr_of_a_known_response() -> None:
    """A pulse of energy 1 and a later one of energy 1/100 are 20 dB apart."""
    samples = np.zeros(2000, np.float32)
    samples[100], samples[1500] = 1.0, 0.1
    assert drr_db(Rir(samples, 100, RATE)) == pytest.approx(20.0, abs=0.01)
    assert drr_db(Rir(samples, 100, RATE).normalised) == pytest.approx(20.0, abs=0.01)


# ---- image sources with a diffuse tail ------------------------------------------------------------------------------

SIZES_M = [(4.0, 3.0, 2.5), (6.0, 5.0, 3.0), (10.0, 8.0, 4.0)]
ASKED_S = [0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.2]

every_size = pytest.mark.parametrize("size_m", SIZES_M)


def _hybrid(size_m: tuple[float, float, float], rt60: float, key: int = 0, rate: int = RATE) -> Rir:
    """A speaker 1.2 m from the microphone."""
    size, microphone = np.array(size_m), np.array([1.1, 1.3, 1.2])
    samples = hybrid(size, microphone, microphone + np.array([1.0, 0.6, 0.28]), rt60, rate, key=("test", key))
    onset = PRE_DELAY_SAMPLES + round(float(np.linalg.norm([1.0, 0.6, 0.28])) / SPEED_OF_SOUND_M_PER_S * rate)
    return Rir(samples.astype(np.float32), onset, rate)


def _power_db(rir: Rir, start_s: float) -> float:
    """Mean power of 10 ms, from so long after the direct sound on (before the end, where negative), in dB."""
    start = round(start_s * rir.sample_rate) + (rir.onset if start_s >= 0 else len(rir.samples))
    piece = rir.samples[start : start + round(0.01 * rir.sample_rate)].astype(np.float64)
    return float(10 * np.log10(np.mean(np.square(piece))))


@every_size
@pytest.mark.parametrize("asked_s", ASKED_S)
def test_a_hybrid_decays_as_asked(size_m: tuple[float, float, float], asked_s: float) -> None:
    """Measured within 6 % of the asked time in each of three positions, from 0.2 to 1.2 s, in small and large rooms."""
    for key in range(3):
        assert rt60_s(_hybrid(size_m, asked_s, key)) == pytest.approx(asked_s, rel=0.06)


@every_size
@pytest.mark.parametrize("asked_s", ASKED_S)
def test_no_decay_is_cut_short(size_m: tuple[float, float, float], asked_s: float) -> None:
    """The last 10 ms of a response lie at least 60 dB below the reverberation that follows the direct sound."""
    rir = _hybrid(size_m, asked_s)
    assert _power_db(rir, -0.01) < _power_db(rir, 0.02) - 60
    assert _power_db(rir, -0.01) > -200


@every_size
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_the_first_50_ms_of_a_hybrid_are_image_sources(size_m: tuple[float, float, float], rate: int) -> None:
    """Every image that arrives by then is there: image sources of a much higher order give the same samples."""
    rir, size, microphone = _hybrid(size_m, 0.6, rate=rate), np.array(size_m), np.array([1.1, 1.3, 1.2])
    speaker, absorption = microphone + np.array([1.0, 0.6, 0.28]), eyring_absorption(size, 0.6)
    exact = room_acoustics._image_sources(size, microphone, speaker, absorption, 40, rate)
    end = rir.onset + round(0.05 * rate) - 1
    steps = np.diff(rir.samples[:end] - exact[:end])  # pyroomacoustics' 10 Hz high-pass moves the floor, not the steps
    assert np.abs(steps).max() < 2e-4 * np.abs(exact).max()


@every_size
def test_the_tail_begins_at_the_level_of_the_images(size_m: tuple[float, float, float]) -> None:
    """Over the fade the energy goes on falling as before: within 3 dB of the asked slope."""
    rir = _hybrid(size_m, 0.6)
    before, after = (np.mean([_power_db(rir, start) for start in starts]) for starts in ((0.03, 0.04), (0.06, 0.07)))
    assert after - before == pytest.approx(-60 * 0.03 / 0.6, abs=3.0)


def test_the_cost_of_a_hybrid_does_not_follow_its_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    """1.2 s take as many image sources as 0.2 s: a few thousand where image sources throughout take millions."""
    orders = []
    plain = room_acoustics._image_sources
    monkeypatch.setattr(room_acoustics, "_image_sources", lambda *room: (orders.append(room[4]), plain(*room))[1])
    for asked_s in (0.2, 1.2):
        _hybrid(SIZES_M[0], asked_s)
    assert orders[0] == orders[1] <= 20


def test_the_method_moves_no_speaker_and_no_onset() -> None:
    """A hybrid of the same bank stands in the same place, equal bit for bit whenever it is simulated."""
    tailed = SMALL.model_copy(update={"method": "hybrid"})
    for rir_id in ("room/train/0000/0", "room/test/0002/1"):
        first, again = (tailed.simulate(5, rir_id, RATE) for _ in range(2))
        assert np.array_equal(first.samples, again.samples)
        assert first.onset == SMALL.simulate(5, rir_id, RATE).onset
        assert measured_rir(first.samples, RATE).onset == first.onset


def test_a_hybrid_bank_may_be_drier_than_sabine_allows() -> None:
    """Large rooms of 0.18 s are refused for image sources with Sabine's walls, and simulated as hybrids."""
    spans = {"length_m": (9.0, 10.0), "width_m": (7.0, 8.0), "height_m": (4.5, 5.0), "rt60_s": (0.18, 0.18)}
    large = {name: {"low": low, "high": high} for name, (low, high) in spans.items()}
    with pytest.raises(BadSetting, match="rt60_s must stay above"):
        RoomBank.parse(large, "bank")  # type: ignore[arg-type]
    bank = RoomBank.parse(large | {"method": "hybrid"}, "bank")  # type: ignore[arg-type]
    assert rt60_s(bank.simulate(0, "room/train/0000/0", RATE)) == pytest.approx(0.18, rel=0.1)
