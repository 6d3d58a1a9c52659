"""The streams of one replica: who has a place, who is cut off and may come back."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from serving.messages import Limits, StreamResume
from serving.stream_session import Session
from serving.wire import Refused


@dataclass
class Place:
    """A session, and the conversation it is in."""

    session: Session
    talk: "asyncio.Task[None] | None" = None
    """None while its client is cut off."""
    left_at: float = 0.0
    """When the client was cut off, by the clock of `time.monotonic`."""


class Streams:
    """For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._places: dict[str, Place] = {}
        self._clock = clock

    def __len__(self) -> int:
        """Streams that have not ended."""
        return sum(not place.session.ended for place in self._places.values())

    def open(self, session: Session, limits: Limits) -> Place:
        """A place for a new stream; `Refused` where there is none."""
        self._forget_lost(limits)
        if len(self) >= limits.max_streams:
            raise Refused(
                429,
                "too_many",
                f"{len(self)} streams are open; this replica takes up to {limits.max_streams}. Try again soon.",
                retry_after_s=5,
            )
        place = self._places[session.id] = Place(session)
        return place

    async def take_over(self, resume: StreamResume, limits: Limits) -> Place:
        """The place of a stream whose client was cut off, or is about to notice that it was; `Refused` for others."""
        self._forget_lost(limits)
        place = self._places.get(resume.session)
        if place is None:
            raise Refused(
                410,
                "unknown_session",
                f"There is no such stream here: sessions are kept for {limits.resume_s:g} s after a connection is lost,"
                " by the replica that had them. Start a new one.",
            )
        while place.talk is not None:  # again, where another client has taken it over meanwhile
            talk = place.talk
            talk.cancel()
            await asyncio.wait([talk])
        place.session.acknowledge(resume.received)
        return place

    def leave(self, place: Place) -> None:
        """The client was cut off, or has all but the last of the output; it may come back."""
        place.talk, place.left_at = None, self._clock()

    def close(self, place: Place) -> None:
        """Nothing more comes of this stream."""
        self._places.pop(place.session.id, None)

    def _forget_lost(self, limits: Limits) -> None:
        too_old = self._clock() - limits.resume_s
        for id in [id for id, place in self._places.items() if place.talk is None and place.left_at < too_old]:
            del self._places[id]
