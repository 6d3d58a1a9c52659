"""What waits for the judges: which pairs, for how long, whose."""

import io

import pytest
import torch

from training.objectives import waiting
from training.objectives.waiting import Waiting


def batch(step: int, items: int = 5) -> torch.Tensor:
    """The clean side of a step's batch: its items are told apart by their values."""
    return 100.0 * step + torch.arange(items, dtype=torch.float32)[:, None].repeat(1, 4)


def lived(queue: Waiting, steps: range, pieces: tuple[int, ...] = (5,)) -> list[torch.Tensor | None]:
    """What is taken at each step, in pieces of these sizes, while the steps' batches are put."""
    taken = []
    for step in steps:
        queue.begin(step)
        found = [queue.take(each) for each in batch(step).split(pieces)]
        taken.append(None if found[0] is None else torch.cat([each for each in found if each is not None]))
        for piece in batch(step).split(pieces):
            queue.put(piece, -piece)
        queue.end()
    return taken


@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize("pieces", [(5,), (2, 3), (1, 1, 3)])
def test_pairs_come_back_after_the_delay_in_any_pieces(delay: int, pieces: tuple[int, ...]) -> None:
    """Nothing before the delay is over; then the batch of so many steps ago, whole and in its order."""
    taken = lived(Waiting(delay), range(6), pieces)
    assert taken[:delay] == [None] * delay
    for step, found in enumerate(taken[delay:]):
        assert found is not None
        assert torch.equal(found[:, 0], batch(step)) and torch.equal(found[:, 1], -batch(step))


def test_no_more_waits_than_is_needed() -> None:
    """A run of a million steps keeps the batches of the delay."""
    queue = Waiting(2)
    lived(queue, range(10))
    assert list(queue.steps) == [8, 9]


def test_what_waits_survives_a_checkpoint() -> None:
    """As tensors, read without pickle; the steps after it take what they would have taken."""
    undisturbed, stopped = Waiting(3), Waiting(3)
    wanted = lived(undisturbed, range(8))[5:]
    lived(stopped, range(5))
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    other = Waiting(3)
    other.load_state_dict(torch.load(file, weights_only=True))
    for found, want in zip(lived(other, range(5, 8)), wanted, strict=True):
        assert found is not None and want is not None and torch.equal(found, want)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_of_workers_make_up_the_batch(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of workers is now, each item is judged by one of them: the one whose share it is in."""
    queue = Waiting(1)
    lived(queue, range(1))
    shares = []
    for rank in range(world):
        monkeypatch.setattr(waiting, "_place", lambda rank=rank: (rank, world))
        shares.append(queue.share(0))
    assert torch.equal(torch.cat([share for share in shares if share is not None])[:, 0], batch(0))
    assert {len(share) for share in shares if share is not None} <= {5 // world, 5 // world + 1}


def test_gradients_do_not_wait() -> None:
    """What is put aside keeps no graph."""
    queue, clean = Waiting(1), torch.ones(2, 3, requires_grad=True)
    queue.begin(0)
    queue.put(clean, 2 * clean)
    share = queue.end()
    assert share is not None and not share.requires_grad


def test_a_share_that_ends_gives_what_is_left() -> None:
    """Asked for more than waits, it gives fewer, and then nothing."""
    queue = Waiting(1)
    lived(queue, range(1))
    queue.begin(1)
    found = [queue.take(torch.zeros(3, 4)) for _ in range(3)]
    assert [None if each is None else len(each) for each in found] == [3, 2, None]
