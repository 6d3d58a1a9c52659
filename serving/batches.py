"""Pieces of many requests pass the network together: those of one length, whoever has waited longest first.

There is no thread of its own: of those that wait, one gets the turn, takes what waits by then along in a batch, and
hands everybody their answer. So a single caller waits for nobody, and under load a batch is whatever came in while the
one before it was at work. A piece is filled up to the next length of a grid, whether or not it has company: an answer
does not depend on the neighbours in its batch, but for the rounding of sums (1e-6 of full scale).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Lock

import numpy as np

from simulation.audio import Waveform

GRID_S = 0.25
"""Lengths that batches have: multiples of this."""


@dataclass
class _Ticket:
    """A piece that waits, and what became of it."""

    piece: Waveform
    answer: Waveform | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None


class Batches:
    """The turn at one network. Any number of threads may call it."""

    def __init__(self, run: Callable[[Waveform], Waveform], sample_rate: int, causal: bool) -> None:
        """`run`: `[batch, samples]` -> the same shape; called by one thread at a time."""
        self.most_s = 16.0
        """Audio in a batch: memory goes with it. 0: a piece at a time."""
        self.window_s = 0.002
        """How long a batch waits for callers that are known to be on their way."""
        self.sizes: list[int] = []
        """Of the batches that ran, since somebody emptied the list."""
        self._run, self._sample_rate = run, sample_rate
        self._grid = round(GRID_S * sample_rate)
        # Zeros are what a causal network hears after the end anyway; to the others a sudden silence would be an event.
        self._filling = "constant" if causal else "symmetric"
        self.turn = Lock()
        """Entered around every call of the network, also those that cannot be shared."""
        self._changed = Condition()
        self._waiting: list[_Ticket] = []
        self._callers = 0

    @contextmanager
    def caller(self) -> Iterator[None]:
        """Entered by whoever will ask for something soon."""
        with self._changed:
            self._callers += 1
        try:
            yield
        finally:
            with self._changed:
                self._callers -= 1
                self._changed.notify_all()

    def many(self, pieces: Sequence[Waveform]) -> list[Waveform]:
        """`[samples]` each -> the same lengths, enhanced. Raises what the network raised for their batch."""
        tickets = [_Ticket(self._filled(piece)) for piece in pieces]
        with self._changed:
            self._waiting += tickets
            self._changed.notify_all()
        for ticket in tickets:
            while not ticket.done:
                with self.turn:
                    if not ticket.done:
                        self._lead()
        return [self._answer(ticket, len(piece)) for ticket, piece in zip(tickets, pieces, strict=True)]

    def _lead(self) -> None:
        """Take a batch and run it."""
        batch = self._taken()
        self.sizes = [*self.sizes[-999:], len(batch)]
        try:
            answers = self._run(np.stack([ticket.piece for ticket in batch]))
            for ticket, answer in zip(batch, answers, strict=True):
                ticket.answer = answer
        except BaseException as error:
            for ticket in batch:
                ticket.error = error
            if not isinstance(error, Exception):
                raise

    def _taken(self) -> list[_Ticket]:
        with self._changed:
            deadline = time.monotonic() + self.window_s
            while len(self._waiting) < self._callers and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            length = len(self._waiting[0].piece)
            most = max(1, int(self.most_s * self._sample_rate / length))
            batch = [ticket for ticket in self._waiting if len(ticket.piece) == length][:most]
            taken = {id(ticket) for ticket in batch}
            self._waiting = [ticket for ticket in self._waiting if id(ticket) not in taken]
            return batch

    def _filled(self, piece: Waveform) -> Waveform:
        missing = -len(piece) % self._grid
        if missing == 0 or len(piece) == 0:
            return piece
        filled: Waveform = np.pad(piece, (0, missing), mode=self._filling)  # type: ignore[call-overload]
        return filled

    @staticmethod
    def _answer(ticket: _Ticket, length: int) -> Waveform:
        if ticket.error is not None:
            raise ticket.error
        assert ticket.answer is not None
        return ticket.answer[:length]
