"""Who may come in: so many requests at a time and a minute, in all and of one caller, and so much memory.

What is more is turned away at once with 429 and the time to come back, before its body is read: waiting would take the
place of those who wait already. Each replica counts its own requests.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from serving.messages import Limits
from serving.wire import Refused

MINUTE_S = 60.0


@dataclass
class _Caller:
    """What is known of one."""

    under_way: int
    allowance: float
    """Requests that it may make now; grows steadily up to a minute's worth."""
    since: float


class Admission:
    """For one event loop."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, told: Callable[[int], None] = lambda under_way: None
    ) -> None:
        """`told` hears how many requests are inside whenever that changes."""
        self._clock, self._told = clock, told
        self._callers: dict[str, _Caller] = {}
        self.under_way = 0
        """Requests that are inside."""
        self.held_mb = 0.0
        """Of bodies and waveforms."""

    @contextmanager
    def request(self, who: str, limits: Limits) -> Iterator[None]:
        """One request of this caller; `Refused` where it is one too many."""
        caller = self._caller(who, limits)
        if self.under_way >= limits.max_requests:
            raise _too_many(f"{self.under_way} requests are under way; this replica takes {limits.max_requests}", 1)
        if caller.under_way >= limits.max_requests_of_a_caller:
            raise _too_many(f"{caller.under_way} requests of yours are under way, which is the most", 1)
        if caller.allowance < 1:
            wait_s = (1 - caller.allowance) * MINUTE_S / limits.max_requests_a_minute
            raise _too_many(f"You may make {limits.max_requests_a_minute:g} requests a minute", int(wait_s) + 1)
        caller.allowance -= 1
        caller.under_way += 1
        self.under_way += 1
        self._told(self.under_way)
        try:
            yield
        finally:
            caller.under_way -= 1
            self.under_way -= 1
            self._told(self.under_way)

    @contextmanager
    def holding(self, limits: Limits) -> Iterator[Callable[[float], None]]:
        """Something to call with the MB that are held from now on, while inside; `Refused` where they are not free.

        What nobody else holds anything beside is let in whatever it takes.
        """
        held = 0.0

        def hold(mb: float) -> None:
            nonlocal held
            others_mb = round(self.held_mb - held, 3)
            if self.held_mb + mb > limits.max_held_mb and others_mb > 0:
                found = f"The audio under way takes {self.held_mb:.0f} MB, and this one would take {held + mb:.0f} MB"
                raise _too_many(found, 2)
            self.held_mb += mb
            held += mb

        try:
            yield hold
        finally:
            self.held_mb -= held

    @contextmanager
    def memory(self, mb: float, limits: Limits) -> Iterator[None]:
        """So much, while inside; `Refused` where it is not free."""
        with self.holding(limits) as hold:
            hold(mb)
            yield

    def _caller(self, who: str, limits: Limits) -> _Caller:
        now, most = self._clock(), limits.max_requests_a_minute
        if len(self._callers) > 10_000:  # those who have all of their allowance back are as good as unknown
            self._callers = {name: c for name, c in self._callers.items() if c.under_way or now - c.since < MINUTE_S}
        caller = self._callers.setdefault(who, _Caller(0, most, now))
        caller.allowance = min(most, caller.allowance + (now - caller.since) * most / MINUTE_S)
        caller.since = now
        return caller


def _too_many(found: str, retry_after_s: int) -> Refused:
    return Refused(429, "too_many", f"{found}. Try again in {retry_after_s} s.", retry_after_s)
