"""The ledger of looks: every look counts once, and a worn gate corpus is warned about."""

from pathlib import Path

import pytest

from serving.ledger import looks, record, worn_out
from serving.policy import POLICIES


def test_every_look_counts_once(tmp_path: Path) -> None:
    """A stage that is repeated is no second look; other corpora are counted on their own."""
    store = f"file://{tmp_path}"
    assert looks(store, "a" * 64) == 0
    assert [record(store, "a" * 64, what) for what in ("run-1", "run-1", "run-2")] == [1, 1, 2]
    assert record(store, "b" * 64, "run-1") == 1
    assert looks(store, "a" * 64) == 2


def test_a_look_that_was_written_down_is_never_rewritten(tmp_path: Path) -> None:
    """The first account of it stays, with its time."""
    store = f"file://{tmp_path}"
    record(store, "a" * 64, "run-1")
    (path,) = tmp_path.glob("ledger/*/run-1.json")
    before = path.read_bytes()
    record(store, "a" * 64, "run-1")
    assert path.read_bytes() == before


@pytest.mark.parametrize(("count", "warned"), [(0, False), (19, False), (20, True), (200, True)])
def test_a_worn_corpus_is_warned_about(count: int, warned: bool) -> None:
    """From the policy's number of looks on, with the false champions to expect and what to do."""
    policy = POLICIES["denoise-16k"]
    warnings = worn_out(count, policy.alpha, policy.most_looks)
    assert bool(warnings) == warned
    if count == 200:
        assert "looked at 200 times: 5 versions that are no better" in warnings[0]
        assert "--gate-corpus" in warnings[0]
