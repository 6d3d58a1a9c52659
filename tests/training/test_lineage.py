"""What weights have learnt from: each row where it came in the order, through checkpoints, epoch by epoch."""

import numpy as np
import pytest

from simulation.errors import CheckpointIncompatible
from training.lineage import Lineage
from training.loop import Seat


def noted(lineage: Lineage, *rows: int) -> Lineage:
    """The lineage after one more step that learnt from these rows, and a checkpoint."""
    lineage.note(tuple(f"train-{row:08d}" for row in rows))
    lineage.gather(Seat())
    return lineage


def test_a_lineage_survives_its_checkpoint() -> None:
    """Bytes and back; a run that goes on adds to what was there."""
    lineage = noted(noted(Lineage(3), 2, 0), 1, 1)
    again = Lineage.from_bytes(lineage.to_bytes())
    assert again.learnt.tolist() == [2, 0, 1, 1]
    assert again.corpus_rows == 3
    assert noted(again, 0, 2).learnt.tolist() == [2, 0, 1, 1, 0, 2]


def test_what_was_not_saved_does_not_count() -> None:
    """A worker that is lost between checkpoints takes its steps with it."""
    lineage = noted(Lineage(3), 2, 0)
    lineage.note(("train-00000001",))
    assert Lineage.from_bytes(lineage.to_bytes()).learnt.tolist() == [2, 0]


def test_epochs_say_what_came_twice() -> None:
    """Row 1 stood in for another in the second epoch; the third is not over."""
    first, second, third = noted(Lineage(3), 2, 0, 1, 1, 0, 1, 2).epochs()
    assert sorted(first.rows.tolist()) == [0, 1, 2] and first.repeated.tolist() == []
    assert second.repeated.tolist() == [1]
    assert (third.number, third.rows.tolist()) == (2, [2])


def test_facts_tell_lineages_apart() -> None:
    """Equal rows in another order are another lineage."""
    one, other = noted(Lineage(3), 0, 1, 2).facts(), noted(Lineage(3), 0, 2, 1).facts()
    assert (one["items"], one["corpus_rows"]) == (3, 3)
    assert one["sha256"] != other["sha256"] == noted(noted(Lineage(3), 0), 2, 1).facts()["sha256"]


def test_four_bytes_an_item_are_enough() -> None:
    """Before compression, whatever the corpus; a million items are a file of some megabytes."""
    order = np.random.default_rng(0).permutation(100_000).astype(np.uint32)
    assert len(Lineage(100_000, order).to_bytes()) <= 4 * len(order) + 1000


def test_an_id_without_a_row_is_answered() -> None:
    """Nobody's mixture is left out in silence."""
    with pytest.raises(CheckpointIncompatible, match="train-00000012"):
        Lineage(3).note(("somebody",))
