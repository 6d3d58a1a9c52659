import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.degradations.base import Mixture
from simulation.degradations.packet_loss import FADE_S, PacketLoss, lost_bursts
from simulation.schema import OneOf, Range

RATE = 16_000
PACKET = 320
"""20 ms."""


def lossy(samples: np.ndarray, **fields: object) -> Mixture:
    """The mixture of these samples with themselves after losing packets."""
    chosen = {"loss_rate": 0.2, "seed": 11.0} | fields
    return PacketLoss(**chosen).apply(Mixture(samples, samples, RATE), None)  # type: ignore[arg-type]


def speech(packets: int) -> np.ndarray:
    """Samples none of which is zero, `packets` long."""
    return (0.1 + np.random.Generator(np.random.Philox(3)).random(packets * PACKET)).astype(np.float32)


@given(st.integers(1, 3000), st.floats(0, 1), st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=300, deadline=None)
def test_exactly_the_drawn_share_is_lost_in_separate_bursts(packets: int, rate: float, longest: int, seed: int) -> None:
    """To rounding of packets; no burst overlaps or touches another or runs off the end; none is longer than allowed,
    as long as there are packets enough to keep them apart."""
    bursts = lost_bursts(packets, rate, longest, seed)
    firsts, lengths = bursts.T
    assert lengths.sum() == round(rate * packets)
    assert np.all(lengths >= 1) and np.all(firsts >= 0) and np.all(firsts + lengths <= packets)
    assert np.all(firsts[1:] > firsts[:-1] + lengths[:-1])
    if rate <= 0.5:
        assert np.all(lengths <= longest)


def test_which_packets_are_lost_is_a_pure_function_of_the_row() -> None:
    """The same seed loses the same packets; another seed others."""
    assert np.array_equal(lost_bursts(500, 0.2, 9, 5), lost_bursts(500, 0.2, 9, 5))
    assert not np.array_equal(lost_bursts(500, 0.2, 9, 5), lost_bursts(500, 0.2, 9, 6))


def test_every_packet_is_as_likely_to_be_lost() -> None:
    """Over many seeds all are lost equally often, but for the first and last few, since no burst is cut by an end; and
    bursts have the mean length of their distribution."""
    lost, lengths = np.zeros(100), []
    for seed in range(2000):
        for first, count in lost_bursts(100, 0.2, 5, seed):
            lost[first : first + count] += 1 / 2000
            lengths.append(count)
    assert lost[5:-5] == pytest.approx(np.full(90, 0.205), abs=0.04)
    assert np.all(lost > 0.05)
    assert np.mean(lengths) == pytest.approx(3.0, abs=0.2)


@given(samples=st.integers(1, 40_000), rate=st.floats(0, 0.6), index=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_the_recorded_rate_is_the_lost_one(samples: int, rate: float, index: int) -> None:
    """Counted in the samples that came out; within half a packet of what was drawn, for any length."""
    before = speech(samples // PACKET + 1)[:samples]
    result = lossy(before, loss_rate=rate, seed=float(index))
    packets = -(-samples // PACKET)
    silent = sum(not result.noisy[start : start + PACKET].any() for start in range(0, samples, PACKET))
    assert result.measured["loss_rate"] == silent / packets
    assert abs(silent / packets - rate) <= 0.5 / packets + 1e-9
    assert np.array_equal(result.noisy[result.noisy != 0], before[result.noisy != 0]) and result.clean is before


@pytest.mark.parametrize("concealment", ["zero", "repeat", "fade"])
def test_what_is_played_in_place_of_a_packet(concealment: str) -> None:
    """Nothing; the last packet again and again; or that, gone after 60 ms. What arrived stays bit for bit."""
    before = speech(400)
    noisy = lossy(before, concealment=concealment).noisy.reshape(-1, PACKET)
    arrived = np.ones(400, bool)
    fade = 1 - np.arange(1, 9 * PACKET + 1) / (FADE_S * RATE)
    for first, count in lost_bursts(400, 0.2, 9, 11):
        arrived[first : first + count] = False
        found, last = noisy[first : first + count].ravel(), noisy[first - 1] * (first > 0)
        gain = {"zero": 0.0, "repeat": 1.0, "fade": np.maximum(fade, 0)[: len(found)]}[concealment]
        assert np.allclose(found, np.tile(last, count) * gain, atol=1e-6)
    assert np.array_equal(noisy[arrived], before.reshape(-1, PACKET)[arrived]) and 0 < (~arrived).sum() == 80


def test_before_the_first_packet_there_is_nothing_to_repeat() -> None:
    """A call that begins with a loss begins with silence, however losses are concealed."""
    seed = next(seed for seed in range(500) if lost_bursts(50, 0.3, 3, seed)[0, 0] == 0)
    for concealment in ("repeat", "fade"):
        noisy = lossy(speech(50), loss_rate=0.3, longest_burst=3, seed=float(seed), concealment=concealment).noisy
        assert not noisy[:PACKET].any() and noisy[-PACKET:].any() | noisy[PACKET:].any()


def test_everything_may_be_lost() -> None:
    """A rate of 1 leaves silence, whatever would have been repeated."""
    result = lossy(speech(20), loss_rate=1.0, concealment="repeat")
    assert not result.noisy.any() and result.measured["loss_rate"] == 1.0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"loss_rate": Range(low=0.5, high=1.2)}, "loss_rate goes from 0.5 to 1.2"),
        ({"longest_burst": OneOf(values=(0, 3))}, "a burst has at least one packet"),
        ({"packet_ms": 0.01}, "a packet holds at least one sample"),
    ],
)
def test_what_cannot_be_lost_is_refused(fields: dict, reason: str) -> None:
    """When the scenario is read."""
    with pytest.raises(ValueError, match=reason):
        PacketLoss(**fields).check(RATE)
