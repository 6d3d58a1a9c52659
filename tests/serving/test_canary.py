import numpy as np
import pytest

from serving.canary import CHECKS, Check, Evidence, Rules, Tally, decide, log_evidence_against
from simulation.errors import BadSetting

TRIALS = 1000


def outcome(rng: np.random.Generator, shares: dict[str, float], rules: Rules, percent: float = 5.0) -> tuple[str, int]:
    """How a step ends for a candidate that fails each check on these shares of the requests, and after how many."""
    evidence = Evidence(percent=percent)
    while True:
        failed = {check.name: "x" * (rng.random() < shares.get(check.name, 0.0)) for check in rules.checks}
        evidence = evidence.with_one_more(failed)
        decision = decide(evidence, rules)
        if decision.action != "go on":
            return decision.action, evidence.mirrored


def test_an_acceptable_candidate_is_seldom_rolled_back_for_a_check() -> None:
    """On the very edge of what is tolerated, watched after each of 400 requests, at most alpha of a check's share."""
    rng, check, alpha = np.random.default_rng(1), Check(name="level", tolerated=0.05, unacceptable=0.2), 0.1
    failed = np.cumsum(rng.random((TRIALS, 400)) < check.tolerated, axis=1)
    enough = np.log(1 / alpha)
    smallest = [
        next(few for few in range(n + 2) if log_evidence_against(check, Tally(judged=n, failed=few)) >= enough)
        for n in range(1, 401)
    ]
    alarmed = (failed >= np.array(smallest)).any(axis=1).mean()
    assert 0.0 < alarmed <= alpha


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_candidate_that_always_fails_a_check_is_rolled_back_within_a_few_requests(check: Check) -> None:
    """Whichever check it is; a false alarm stays as rare as alpha says."""
    action, mirrored = outcome(np.random.default_rng(0), {check.name: 1.0}, Rules())
    assert action == "roll back" and mirrored <= 20


def test_a_candidate_that_fails_now_and_then_is_rolled_back_within_200_requests() -> None:
    """A fault on a quarter of the requests is found as surely as one on all of them."""
    rng = np.random.default_rng(2)
    ends = [outcome(rng, {"level": 0.25}, Rules()) for _ in range(10)]
    assert all(action == "roll back" and mirrored <= 200 for action, mirrored in ends)


def test_a_candidate_without_faults_is_stepped_up() -> None:
    """After as many requests as it takes to refute an unacceptable share at beta, not after the first."""
    action, mirrored = outcome(np.random.default_rng(0), {}, Rules())
    assert (action, mirrored) == ("step up", 55)


def test_an_unacceptable_candidate_is_seldom_stepped_up() -> None:
    """At the unacceptable share of one check and without a fault in the others, at most beta of the steps pass."""
    rng, rules = np.random.default_rng(3), Rules(beta=0.05, checks=CHECKS[:2])
    ends = [outcome(rng, {"answers": CHECKS[0].unacceptable}, rules)[0] for _ in range(100)]
    assert ends.count("step up") <= 0.05 * 100 + 3 * np.sqrt(0.05 * 0.95 * 100)


def test_what_cannot_be_told_is_no_pass() -> None:
    """A check that never said anything keeps a candidate from being stepped up, and at the end says no."""
    rules, evidence = Rules(most=100), Evidence(percent=5.0)
    for _ in range(99):
        evidence = evidence.with_one_more({check.name: "" for check in CHECKS if check.name != "delay"})
    assert decide(evidence, rules).action == "go on"
    decision = decide(evidence.with_one_more({}), rules)
    assert decision.action == "roll back" and decision.reason.endswith("do not settle delay")


def test_a_rollback_says_which_check_how_often_and_what_was_found() -> None:
    """The sentence of the audit log."""
    evidence = Evidence(percent=5.0)
    for _ in range(4):
        evidence = evidence.with_one_more({"answers": "", "level": "+6.0 dB"})
    reason = decide(evidence, Rules()).reason
    assert reason.startswith("level: failed on 4 of 4 mirrored requests, where 2% are tolerated")
    assert reason.endswith("the latest: +6.0 dB")


@pytest.mark.parametrize("steps", ["", "5", "25,5,100", "5,25", "-1,100", "5,5,100", "five,100", "5,101"])
def test_steps_that_do_not_rise_to_100_are_refused(steps: str) -> None:
    """The answer says what to type."""
    with pytest.raises(BadSetting, match="5,25,100"):
        Rules.of(steps)
