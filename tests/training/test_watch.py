"""What a training run says: each row once, whatever happens to the workers that post it."""

from pathlib import Path
from typing import Any

import pytest
import ray

from simulation.cluster import ClusterInfo
from simulation.errors import StoreUnreachable
from training import watch
from training.watch import Mailbox, Row, Watch


@pytest.fixture
def mailbox() -> Mailbox:
    """As it lives in its actor."""
    return Mailbox()


def rows(*steps: int) -> list[Row]:
    """Rows of these steps."""
    return [{"step": step, "train/loss": 1.0 / step} for step in steps]


def test_rows_wait_for_their_checkpoint(mailbox: Mailbox) -> None:
    """Those of a checkpoint that never came are not given out."""
    mailbox.wait(rows(2, 4))
    assert mailbox.take() == (None, [])
    mailbox.committed(4)
    mailbox.wait(rows(6))
    assert mailbox.take()[1] == rows(2, 4)
    assert mailbox.take()[1] == []


def test_a_row_without_its_figures_holds_back_those_behind_it(mailbox: Mailbox) -> None:
    """Figures come later than their row: it waits for them, so that a record is in order."""
    mailbox.wait(rows(2, 4, 6), owed=4)
    mailbox.committed(6)
    assert mailbox.take()[1] == rows(2)
    assert mailbox.take()[1] == []
    mailbox.figures(4, {"valid/loss": 0.5})
    assert mailbox.take()[1] == [{**rows(4)[0], "valid/loss": 0.5}, *rows(6)]


def test_figures_that_a_lost_worker_owed_are_given_by_its_successor(mailbox: Mailbox) -> None:
    """It posts its rows again, and gives the figures a step had before its checkpoint was committed."""
    mailbox.wait(rows(2, 4), owed=4)
    mailbox.figures(4, {"valid/loss": 0.5})
    mailbox.wait([{**row, "valid/loss": 0.5} for row in rows(4)])
    mailbox.committed(4)
    assert mailbox.take()[1] == [*rows(2), *[{**rows(4)[0], "valid/loss": 0.5}] * 2]
    assert mailbox.committed_step() == 4


def test_a_worker_that_dies_before_its_commit_logs_nothing_twice(
    ray_cluster: ClusterInfo, mailbox: Mailbox, tmp_path: Path
) -> None:
    """It posts steps 6 and 8 and dies; its successor posts its history, then both again; a second driver knows them."""
    logged: list[int] = []

    def log(values: dict[str, Any], step: int) -> None:
        logged.append(step)

    mailbox.wait(rows(2, 4))
    mailbox.committed(4)
    mailbox.wait(rows(6, 8))
    mailbox.wait(rows(2, 4))
    mailbox.committed(4)
    mailbox.wait(rows(6, 8))
    mailbox.committed(8)
    for _ in range(2):
        with Watch(f"file://{tmp_path}/logged.json", log, None) as one:
            one.hand_on(mailbox.take()[1] or rows(2, 4, 6, 8))
    assert logged == [2, 4, 6, 8]


def test_what_was_committed_right_before_the_end_is_logged_too(
    ray_cluster: ClusterInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is refused just after a checkpoint has its rows in the record, though nobody looked in between."""
    monkeypatch.setattr(watch, "INTERVAL_S", 60.0)
    logged: list[int] = []
    with pytest.raises(KeyError), Watch(f"file://{tmp_path}/x", lambda values, step: logged.append(step), None) as one:
        ray.get([one.mailbox.wait.remote(rows(2)), one.mailbox.committed.remote(2)])
        raise KeyError
    assert logged == [2]


def test_rows_wait_while_the_store_is_away(
    ray_cluster: ClusterInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a row nor its place is lost, and none is logged twice, whichever of the two the store refused."""
    monkeypatch.setattr(watch, "INTERVAL_S", 60.0)
    logged: list[int] = []
    away = {"log", "place"}

    def refuse(what: str) -> None:
        if what in away:
            away.discard(what)
            raise StoreUnreachable("away for a moment")

    def log(values: dict[str, Any], step: int) -> None:
        refuse("log")
        logged.append(step)

    def replace(address: str, data: bytes) -> None:
        refuse("place")
        storage_replace(address, data)

    storage_replace = watch.storage.replace
    monkeypatch.setattr(watch.storage, "replace", replace)
    with Watch(f"file://{tmp_path}/logged.json", log, None) as one:
        ray.get([one.mailbox.wait.remote(rows(2, 4)), one.mailbox.committed.remote(4)])
        one._look()
        one._look()
        assert not away
    assert logged == [2, 4]
    assert (tmp_path / "logged.json").read_bytes() == b'{"step": 4}'
