"""Acoustic fingerprints of what is asked: level, estimated SNR, bandwidth and RT60, counted; nothing else is kept.

    <store>/fingerprints/<use>/<day>/<replica>.json     how many recordings fell into which range of each measure

No audio, no caller and no single recording can be read from counts. A corpus is counted by the same measures, so what
is estimated is compared with what is estimated in the same way: how loud, noisy, narrow and reverberant the requests
are, beside what the champion was trained on (`pipelines/drift.py`).
"""

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from simulation import levels, storage
from simulation.audio import Waveform
from simulation.errors import UnmuffleError
from simulation.home import Home
from simulation.measures import bandwidth_hz, estimated_snr_db
from simulation.schema import Schema

log = logging.getLogger(__name__)

EDGES: dict[str, tuple[float, ...]] = {
    "level_db": tuple(range(-72, 1, 4)),
    "snr_db": tuple(range(3, 49, 3)),
    "bandwidth_hz": (1000, 1500, 2000, 2500, 3000, 3500, 4000, 5000, 6000, 7000, 8000, 12_000, 16_000, 20_000),
    "rt60_s": (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5),
}
"""Measures, and where their ranges meet; below the first and above the last there is one more range each."""

LONGEST_S = 30.0
"""Of a recording: a fingerprint needs no more."""
EVERY_S = 1.0
"""Between two measurements of a replica: an answer must not get slower for them, and more would tell no more."""
WRITTEN_EVERY = 50
"""Recordings between two writes; a replica that dies takes as many along."""

FRAME_S, DECAY_FRAMES = 0.01, 12
"""A decay is looked for in 120 ms at a time."""
LEAST_FALL_DB = 8.0
"""In that time."""
STRAIGHT_DB = 1.5
"""How far, root mean square, a decay may lie beside a straight line."""
FAST = 25
"""Percentile of the decays that stands for the room: nothing in it dies away faster than the room does."""
LEAST_DECAYS = 3


class Counts(Schema):
    """Recordings by the range that they fell into."""

    recordings: int = 0
    counts: dict[str, tuple[int, ...]] = Field(
        default_factory=lambda: {name: (0,) * (len(edges) + 1) for name, edges in EDGES.items()}
    )
    """By measure; a recording that has no such measure is not among them."""

    def added(self, found: dict[str, float]) -> "Counts":
        """With one more recording."""
        counts = dict(self.counts)
        for name, value in found.items():
            place = int(np.searchsorted(EDGES[name], value, side="right"))
            counts[name] = tuple(count + (at == place) for at, count in enumerate(counts[name]))
        return Counts(recordings=self.recordings + 1, counts=counts)

    @classmethod
    def together(cls, several: Iterable["Counts"]) -> "Counts":
        """All of them in one."""
        total, counts = 0, {name: np.zeros(len(edges) + 1, int) for name, edges in EDGES.items()}
        for one in several:
            total += one.recordings
            for name, row in one.counts.items():
                counts[name] += row
        return cls(recordings=total, counts={name: tuple(map(int, row)) for name, row in counts.items()})

    def shares(self, name: str) -> NDArray[np.float64]:
        """Of the recordings with this measure, which share fell into each range; zeros where there are none."""
        counted = np.array(self.counts[name], float)
        return counted / max(counted.sum(), 1.0)


def fingerprint(samples: Waveform, sample_rate: int) -> dict[str, float]:
    """`[samples, channels]` -> measures of their mean; one that cannot be told is left out. Some 5 ms for 5 s."""
    mono = samples[: round(LONGEST_S * sample_rate)].mean(axis=1, dtype=np.float64)
    if not len(mono) or not mono.any():
        return {}
    found = {
        "level_db": levels.rms_db(mono),
        "snr_db": estimated_snr_db(mono, sample_rate),
        "bandwidth_hz": bandwidth_hz(mono, sample_rate),
        "rt60_s": estimated_rt60_s(mono, sample_rate),
    }
    return {name: float(value) for name, value in found.items() if not math.isnan(value)}


def estimated_rt60_s(samples: NDArray[np.floating], sample_rate: int) -> float:
    """RT60 in s by how fast sounds die away: the fast quartile of straight decays; NaN where there are too few.

    In a dry recording this is how fast the speaker ends a sound. After Wen, Habets and Naylor, "Blind estimation of
    reverberation time based on the distribution of signal decay rates", ICASSP 2008, without its mapping.
    """
    frame = max(round(FRAME_S * sample_rate), 1)
    if len(samples) < frame * (DECAY_FRAMES + 1):
        return math.nan
    whole = samples[: len(samples) // frame * frame].reshape(-1, frame)
    level_db = 10 * np.log10(np.mean(np.square(whole, dtype=np.float64), axis=1) + 1e-12)
    windows = np.lib.stride_tricks.sliding_window_view(level_db, DECAY_FRAMES)
    at = (np.arange(DECAY_FRAMES) - (DECAY_FRAMES - 1) / 2) * FRAME_S
    centred = windows - windows.mean(axis=1, keepdims=True)
    slope_db_s = centred @ at / (at @ at)
    beside_db = np.sqrt(np.mean((centred - slope_db_s[:, None] * at) ** 2, axis=1))
    decays = slope_db_s[(slope_db_s * DECAY_FRAMES * FRAME_S < -LEAST_FALL_DB) & (beside_db < STRAIGHT_DB)]
    return float(np.percentile(-60.0 / decays, FAST)) if len(decays) >= LEAST_DECAYS else math.nan


class Fingerprints:
    """Those of one replica. Measures one recording a second at most, beside the answers; the others are left out."""

    def __init__(self, told: Callable[[str, str], None] = lambda measure, at_most: None) -> None:
        """`told` hears the range of each measure, as its upper edge, the last one's is `more`."""
        self._told = told
        self._replica = uuid.uuid4().hex[:12]
        self._thread = ThreadPoolExecutor(1, "fingerprints")
        self._busy = threading.Lock()
        self._next = time.monotonic()
        """When a recording is measured again, at the earliest."""
        self._counted: dict[tuple[str, str], Counts] = {}

    def note(self, use: str, samples: Waveform, sample_rate: int) -> None:
        """Count a recording, unless another one is being measured, or was a moment ago."""
        if time.monotonic() >= self._next and self._busy.acquire(blocking=False):
            self._next = time.monotonic() + EVERY_S
            self._thread.submit(self._count, use, samples, sample_rate)

    def _count(self, use: str, samples: Waveform, sample_rate: int) -> None:
        try:
            of_today = (use, time.strftime("%Y-%m-%d", time.gmtime()))
            found = fingerprint(samples, sample_rate)
            for name, value in found.items():
                self._told(name, next((f"{edge:g}" for edge in EDGES[name] if value < edge), "more"))
            counts = self._counted.get(of_today, Counts()).added(found)
            self._counted = {key: value for key, value in self._counted.items() if key[1] == of_today[1]}
            self._counted[of_today] = counts
            if counts.recordings % WRITTEN_EVERY == 0:
                storage.replace(address(Home.current().store, *of_today, self._replica), counts.canonical())
        except UnmuffleError as error:
            log.warning("fingerprints are not kept: %s", error)
        finally:
            self._busy.release()


def address(store: str, use: str, day: str, replica: str) -> str:
    """Where the counts of a replica lie."""
    return storage.join(store, "fingerprints", use, day, f"{replica}.json")


def asked_since(store: str, use: str, first_day: str) -> Counts:
    """What was asked of a use from this day on (year-month-day, UTC), of all replicas."""
    folder = storage.join(store, "fingerprints", use)
    found = [one.address for one in storage.listing(folder) if one.address.split("/")[-2] >= first_day]
    return Counts.together(Counts.parse(data, at) for data, at in zip(storage.read_many(found), found, strict=True))
