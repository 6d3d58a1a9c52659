import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.batches import Batches
from simulation.audio import Waveform


class Recorder:
    """Doubles its input; remembers the shapes; can be held up."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.go = threading.Event()
        self.go.set()
        self.busy = threading.Event()

    def __call__(self, batch: Waveform) -> Waveform:
        self.shapes.append(batch.shape)
        self.busy.set()
        assert self.go.wait(10)
        return batch * 2


def pieces(*lengths: int) -> list[Waveform]:
    """Each of its own value."""
    return [np.full(length, number + 1.0, np.float32) for number, length in enumerate(lengths)]


def asked_while_busy(batches: Batches, network: Recorder, asked: Sequence[Waveform]) -> list[Waveform]:
    """Answers of callers that all came while the network was at work."""
    network.go.clear()
    with ThreadPoolExecutor(len(asked) + 1) as threads:
        first = threads.submit(batches.many, pieces(1000))
        assert network.busy.wait(10)
        callers = [threads.submit(batches.many, [piece]) for piece in asked]
        while len(batches._waiting) < len(asked):
            threading.Event().wait(0.001)
        network.go.set()
        first.result(10)
        return [caller.result(10)[0] for caller in callers]


def test_what_waits_passes_together_by_length() -> None:
    """One batch for each length of the grid, oldest first; everybody gets their own answer, at their own length."""
    network = Recorder()
    batches = Batches(network, 1000, causal=True)
    asked = pieces(1000, 990, 2000, 1000, 760, 1999)
    answers = asked_while_busy(batches, network, asked)
    assert network.shapes == [(1, 1000), (4, 1000), (2, 2000)]
    for piece, answer in zip(asked, answers, strict=True):
        assert np.array_equal(answer, piece * 2)


def test_a_batch_holds_no_more_than_it_may() -> None:
    """Seconds of audio, and one piece in any case."""
    network = Recorder()
    batches = Batches(network, 1000, causal=True)
    batches.most_s = 2.5
    asked_while_busy(batches, network, pieces(1000, 1000, 1000, 4000, 4000))
    assert network.shapes == [(1, 1000), (2, 1000), (1, 1000), (1, 4000), (1, 4000)]


def test_a_single_caller_waits_for_nobody() -> None:
    """However long the window: it is for callers that are known to be on their way."""
    batches = Batches(Recorder(), 1000, causal=True)
    batches.window_s = 60.0
    with batches.caller():
        assert len(batches.many(pieces(1000))) == 1


def test_a_batch_waits_for_a_caller_that_is_on_its_way() -> None:
    """Until it comes, or gives up."""
    network = Recorder()
    batches = Batches(network, 1000, causal=True)
    batches.window_s = 10.0
    with ThreadPoolExecutor(1) as threads, batches.caller():
        with batches.caller():
            early = threads.submit(batches.many, pieces(1000))
            batches.many(pieces(1000))
        early.result(10)
    assert network.shapes == [(2, 1000)]


def test_a_batch_that_fails_fails_for_those_in_it() -> None:
    """The next one goes on."""

    def failing(batch: Waveform) -> Waveform:
        if len(batch[0]) == 2000:
            raise MemoryError("too much")
        return batch

    batches = Batches(failing, 1000, causal=True)
    with pytest.raises(MemoryError, match="too much"):
        batches.many(pieces(2000))
    assert np.array_equal(batches.many(pieces(1000))[0], pieces(1000)[0])


@pytest.mark.parametrize(("causal", "last"), [(True, 0.0), (False, 7.0)])
def test_what_a_piece_is_filled_with_is_no_event(causal: bool, last: float) -> None:
    """Zeros, as behind every recording, for causal networks; the sound itself, backwards, for the others."""
    heard: list[Waveform] = []

    def listening(batch: Waveform) -> Waveform:
        heard.append(batch)
        return batch

    Batches(listening, 1000, causal).many([np.full(990, 7.0, np.float32)])
    assert heard[0].shape == (1, 1000) and np.all(heard[0][0, 990:] == last)
