import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from serving import traffic
from serving.canary import Rules
from serving.messages import ServedVersion, Split
from serving.mirrored import Answered
from serving.tolerances import Tolerances
from serving.traffic import Judge, Traffic, position
from serving.verification import PROBE_RATE, probe
from simulation.audio import Waveform
from training.registry import Version

CANARY, SHADOW, ALONE = 1.0, 99.0, 50.0
"""Places of requests, for a split of 5 % heard and 20 % mirrored."""
CHAMPION, CANDIDATE = probe(), (probe() * np.float32(0.9)).astype(np.float32)


def answering(samples: Waveform, after_s: float = 0.0) -> Callable:
    """A version that answers so."""

    async def ask() -> Waveform:
        await asyncio.sleep(after_s)
        return samples

    return ask


def failing(error: BaseException) -> Callable:
    """A version that does not."""

    async def ask() -> Waveform:
        raise error

    return ask


@pytest.fixture
def split(versions: tuple[Version, Version]) -> Split:
    """5 % heard, 20 % mirrored; a candidate that takes 50 ms more than thrice the champion's time is slow."""
    tolerances = Tolerances(slack_s=0.05)
    return Split(candidate=ServedVersion.of(versions[1]), percent=5.0, mirrored_percent=20.0, tolerances=tolerances)


class Reports:
    """Takes down what is reported, and says whether to go on."""

    def __init__(self, go_on: bool = True) -> None:
        self.seen: list[tuple[float, Answered, Answered]] = []
        self.go_on = go_on

    async def __call__(self, percent: float, ours: Answered, theirs: Answered, sample_rate: int) -> bool:
        """One more."""
        self.seen.append((percent, ours, theirs))
        return self.go_on


def asked(split: Split, reports: Callable, *requests: tuple[float, Callable]) -> list[tuple[Waveform, bool]]:
    """Answers to requests, one after the other, each with its place and what the candidate does."""

    async def all_of_them() -> list[tuple[Waveform, bool]]:
        one = Traffic(split, reports)
        answers = []
        for place, candidate in requests:
            answers.append(await one.answered(place, answering(CHAMPION), candidate, PROBE_RATE))
            while one._under_way:
                await asyncio.sleep(0.01)
        return answers

    return asyncio.run(all_of_them())


def test_requests_fall_evenly_and_equal_keys_alike() -> None:
    """The share of a step is the share of the keys, and who is in at 5 % is in at 25 %."""
    places = [position(str(number), b"body") for number in range(4000)]
    assert np.mean(np.array(places) < 5) == pytest.approx(0.05, abs=0.01)
    assert np.mean(np.array(places) < 25) == pytest.approx(0.25, abs=0.02)
    assert position("caller", b"one") == position("caller", b"another") != position("", b"one")
    assert position("", b"one") == position("", b"one") != position("", b"another")


def test_who_is_heard_and_who_is_asked_follows_from_the_place(split: Split) -> None:
    """The canary's share hears the candidate, the shadow's hears the champion, and the rest is not mirrored."""
    reports = Reports()
    answers = asked(split, reports, *((place, answering(CANDIDATE)) for place in (CANARY, SHADOW, ALONE)))
    assert [by_candidate for _, by_candidate in answers] == [True, False, False]
    assert np.array_equal(answers[0][0], CANDIDATE) and np.array_equal(answers[1][0], CHAMPION)
    assert len(reports.seen) == 2
    for percent, ours, theirs in reports.seen:
        assert percent == 5.0 and np.array_equal(ours.samples, CHAMPION) and np.array_equal(theirs.samples, CANDIDATE)


@pytest.mark.parametrize(
    ("candidate", "problem"),
    [
        (failing(RuntimeError("the actor died\nbecause")), "because"),
        (answering(CANDIDATE[:-1]), "shape"),
        (answering(CANDIDATE * np.float32("nan")), "NaN"),
        (answering(CANDIDATE, after_s=0.3), ""),
    ],
    ids=["crashing", "short", "NaN", "slow"],
)
def test_a_candidate_that_fails_never_costs_its_caller_the_answer(
    split: Split, candidate: Callable, problem: str
) -> None:
    """The champion's is at hand, and the judge hears of it."""
    reports = Reports()
    ((answer, by_candidate),) = asked(split, reports, (CANARY, candidate))
    assert np.array_equal(answer, CHAMPION) and not by_candidate
    assert [theirs.problem.partition(" ")[0] for _, _, theirs in reports.seen] == [problem]


def test_an_error_of_the_champion_is_the_callers(split: Split) -> None:
    """As without a canary; the candidate is not judged by it."""

    async def ask() -> None:
        await Traffic(split, reports).answered(CANARY, failing(ValueError("bad")), answering(CANDIDATE), PROBE_RATE)

    reports = Reports()
    with pytest.raises(ValueError, match="bad"):
        asyncio.run(ask())
    assert not reports.seen


async def gone(*_: object) -> bool:
    """A judge that died with the promotion."""
    raise RuntimeError("the actor died")


@pytest.mark.parametrize("reports", [Reports(go_on=False), gone], ids=["stop", "judge is gone"])
def test_after_the_judge_said_stop_the_champion_answers_alone(split: Split, reports: Callable) -> None:
    """At once, without anybody telling the replica; and where the judge cannot be reached at all."""
    answers = asked(split, reports, *[(CANARY, answering(CANDIDATE))] * 3)
    assert [by_candidate for _, by_candidate in answers] == [True, False, False]


def test_a_candidate_that_hangs_is_given_up(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """And counts as one that does not answer."""
    monkeypatch.setattr(traffic, "ABANDONED_S", 0.1)
    reports = Reports()
    asked(split, reports, (SHADOW, answering(CANDIDATE, after_s=60)))
    assert reports.seen[0][2].problem == "no answer within 0 s"


def test_the_beginning_of_long_answers_is_compared_and_the_whole_is_checked(split: Split) -> None:
    """What travels to the judge does not grow with the request; NaN behind that beginning is told all the same."""
    reports, long = Reports(), np.tile(CHAMPION, (12, 1))
    broken = long.copy()
    broken[-1] = np.nan

    async def both() -> None:
        one = Traffic(split, reports)
        for candidate in (long, broken):
            await one.answered(SHADOW, answering(long), answering(candidate), PROBE_RATE)
            while one._under_way:
                await asyncio.sleep(0.01)

    asyncio.run(both())
    assert {len(each.samples) for _, *answers in reports.seen for each in answers} == {10 * PROBE_RATE}
    assert [theirs.problem for _, _, theirs in reports.seen] == ["", "NaN or infinity"]


def test_mirrored_requests_in_flight_are_few(split: Split) -> None:
    """A slow candidate does not pile up waveforms in the champion's memory."""

    async def many() -> int:
        one, reports = Traffic(split, Reports()), 0
        for _ in range(3 * traffic.MOST_UNDER_WAY):
            await one.answered(SHADOW, answering(CHAMPION), answering(CANDIDATE, after_s=5), PROBE_RATE)
            reports = max(reports, len(one._under_way))
        for task in one._under_way:
            task.cancel()
        return reports

    assert asyncio.run(many()) == traffic.MOST_UNDER_WAY


def test_the_judge_counts_for_one_step_until_it_is_decided() -> None:
    """Answers of another step count for nothing, and neither does what comes after the decision."""
    silent = Answered(0.05, np.zeros_like(CHAMPION))
    judge, ours = Judge(Rules()), Answered(0.05, CHAMPION)
    judge.begin(5.0)
    assert judge.observe(25.0, ours, silent, PROBE_RATE)
    assert judge.evidence().mirrored == 0
    go_on = [judge.observe(5.0, ours, silent, PROBE_RATE) for _ in range(6)]
    decided = go_on.index(False) + 1
    assert not any(go_on[decided:]) and judge.evidence().mirrored == decided <= 5
    judge.begin(25.0)
    assert judge.evidence().mirrored == 0
