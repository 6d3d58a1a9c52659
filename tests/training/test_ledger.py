"""The cost ledger: what a run used, and what of that was lost."""

import time
from pathlib import Path

import pytest

from simulation import storage
from simulation.traffic import count
from training.ledger import Account, Cost, accounts, ledger_address, metered, spent, total


def account(began: float, seconds: float, *marks: tuple[int, float], cores: float = 2.0, gpus: float = 0.0) -> Account:
    """What one worker used in one attempt."""
    return Account(began=began, seconds=seconds, cores=cores, gpus=gpus, marks=marks)


def test_a_run_without_accounts_has_cost_nothing(tmp_path: Path) -> None:
    """Asking before anything ran is fine."""
    assert spent(f"file://{tmp_path}/run") == Cost()


def test_a_worker_that_holds_cores_is_charged_for_their_seconds_and_its_bytes(tmp_path: Path) -> None:
    """Cores and GPUs times seconds; bytes that this process moved while it was metered, and no others."""
    run = f"file://{tmp_path}/run"
    storage.replace(f"file://{tmp_path}/before", b"not its own")
    began = time.monotonic()
    with metered(run, cores=4.0, gpus=0.5):
        storage.replace(f"file://{tmp_path}/object", b"x" * 1000)
        storage.read(f"file://{tmp_path}/object")
        storage.read_range(f"file://{tmp_path}/object", 0, 10)
        count(written=7_000_000)
        time.sleep(0.2)
    longest = time.monotonic() - began
    cost = spent(run)
    assert 4 * 0.2 <= cost.core_seconds <= 4 * longest
    assert cost.gpu_seconds == pytest.approx(cost.core_seconds / 8, abs=0.01)
    assert (cost.attempts, cost.bytes_read) == (1, 1010)
    assert 7_001_000 <= cost.bytes_written < 7_002_000  # with the accounts themselves
    assert cost.wasted_seconds == 0


def test_a_worker_that_is_killed_has_lost_no_more_of_its_account_than_a_beat(tmp_path: Path) -> None:
    """While the work goes on the account is in the store already."""
    run = f"file://{tmp_path}/run"
    with metered(run, cores=1.0, every_s=0.05) as meter:
        meter.mark(3)
        time.sleep(0.4)
        (so_far,) = accounts(run)
    assert so_far.seconds >= 0.2
    assert [step for step, _ in so_far.marks] == [3]


def test_two_workers_and_two_attempts_have_an_account_each(tmp_path: Path) -> None:
    """Nobody overwrites anybody's."""
    run = f"file://{tmp_path}/run"
    for _ in range(2):
        with metered(run, cores=1.0), metered(run, cores=2.0):
            pass
    assert len(storage.listing(ledger_address(run))) == 4
    assert sorted(one.cores for one in accounts(run)) == [1, 1, 2, 2]


def test_what_a_killed_attempt_did_after_its_last_commit_is_wasted() -> None:
    """It was killed 8 s after the checkpoint from which the next attempt went on: 8 s on 2 cores."""
    killed = account(1000, 38, (0, 4), (10, 20), (20, 30))
    cost = total([killed, account(1050, 25, (20, 5), (30, 20))])
    assert (cost.wasted_seconds, cost.wasted_core_seconds, cost.core_seconds) == (8, 16, 126)


def test_a_checkpoint_that_never_arrived_saves_nothing() -> None:
    """The next attempt went on from step 10, so what came after it was done twice, whatever was marked."""
    killed = account(1000, 38, (0, 4), (10, 20), (20, 30))
    assert total([killed, account(1050, 25, (10, 5))]).wasted_seconds == 18


def test_an_attempt_that_never_began_is_wasted_whole() -> None:
    """Killed while it loaded, before it took the run up."""
    first, second, third = account(1000, 20, (0, 4), (10, 19)), account(1050, 3), account(1060, 10, (10, 2))
    assert total([first, second, third]).wasted_seconds == 1 + 3


def test_every_worker_of_a_killed_attempt_loses_its_own_seconds() -> None:
    """Two workers side by side are no successors of each other; a smaller attempt follows both."""
    pair = [account(1000, 38, (0, 4), (10, 20)), account(1000.5, 37, (0, 4), (10, 20))]
    cost = total([*pair, account(1050, 25, (10, 5)), account(1100, 25, (30, 5)), account(1100.5, 25, (30, 5))])
    assert cost.wasted_seconds == 18 + 17 + 20
    assert total(pair).wasted_seconds == 0


def test_gpus_that_worked_in_vain_are_counted() -> None:
    """Per worker: its GPUs times its lost seconds."""
    cost = total([account(0, 10, (0, 0), gpus=1.0), account(20, 5, (0, 0), gpus=1.0)])
    assert (cost.gpu_seconds, cost.wasted_gpu_seconds) == (15, 10)


def test_a_store_that_fails_costs_the_account_and_not_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The work inside goes on and its result stands."""
    (tmp_path / "run").write_text("a file where the run's folder should be")
    with metered(f"file://{tmp_path}/run", cores=1.0) as meter:
        meter.mark(0)
    assert "the cost ledger misses an account" in caplog.text


def test_a_cost_says_itself_in_hours() -> None:
    """What a person reads."""
    assert Cost(core_seconds=7200).line() == "2.000 core-hours, 0.000 core-hours lost to failures"
    assert "1.50 GPU-hours" in Cost(core_seconds=7200, gpu_seconds=5400).line()


def test_what_was_wasted_is_no_more_than_what_was_spent() -> None:
    """For any order of marks: a share of the whole."""
    for step in range(0, 40, 5):
        cost = total([account(1000, 38, (0, 4), (10, 20), (20, 30)), account(1050, 25, (step, 5))])
        assert 0 <= cost.wasted_seconds <= 38
