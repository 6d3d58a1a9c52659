"""One stream as a conversation has it: PCM in, PCM out, and what is kept until the client says that it has it.

Output is kept until it is acknowledged, and no more input is taken while too much is not: the same window bounds the
memory of a stream, holds a client back that sends faster than it listens, and lets one that was cut off go on where it
was, exactly.
"""

import secrets
import threading
from collections.abc import Iterator

import numpy as np

from serving.engine import check_level
from serving.messages import ServedVersion, StreamEnded, StreamStart
from serving.streaming import Stream
from simulation import audio
from simulation.audio import Waveform
from simulation.errors import BadAudio

PIECE = 1 << 16
"""Bytes of one message of output that is sent again."""


class Session:
    """State of one stream; its methods may be called from any thread."""

    def __init__(self, stream: Stream, start: StreamStart, version: ServedVersion, window_s: float) -> None:
        self.id = secrets.token_urlsafe(16)
        self.start, self.version = start, version
        self.window = round(window_s * start.sample_rate)
        """Samples of each channel that may be out and not acknowledged."""
        self.frame_bytes = start.channels * (2 if start.encoding == "s16le" else 4)
        """Of one sample of all channels."""
        self.chunks, self.misses = 0, 0
        self.ended = False
        """Nothing more comes in."""
        self._stream, self._lock = stream, threading.Lock()
        self._kept = bytearray()
        """Output that is not acknowledged."""
        self._kept_from = 0
        """Its first sample."""

    @property
    def latency_samples(self) -> int:
        """Of its network."""
        return self._stream.latency_samples

    @property
    def position(self) -> int:
        """Samples of each channel that came in."""
        return self._stream.fed

    @property
    def unacknowledged(self) -> int:
        """Samples of each channel that went out and may have been lost."""
        return len(self._kept) // self.frame_bytes

    def feed(self, pcm: bytes) -> bytes:
        """Enhanced PCM that is ready. Raises `BadAudio` for half a sample, NaN, or another scale."""
        samples = self._decoded(pcm)
        with self._lock:
            return self._keep(self._stream.feed(samples))

    def end(self) -> bytes:
        """The rest of the output; b"" when it ended before."""
        with self._lock:
            if self.ended:
                return b""
            self.ended = True
            return self._keep(self._stream.end())

    def acknowledge(self, received: int) -> None:
        """Forget output before sample `received`; `BadAudio` for one that never went out or was acknowledged before."""
        with self._lock:
            if not self._kept_from <= received <= self._kept_from + self.unacknowledged:
                raise BadAudio(
                    f"{received} samples were acknowledged; expected between {self._kept_from} and"
                    f" {self._kept_from + self.unacknowledged}, which are those that went out."
                )
            del self._kept[: (received - self._kept_from) * self.frame_bytes]
            self._kept_from = received

    def pending(self) -> Iterator[bytes]:
        """All output that is not acknowledged, in pieces."""
        with self._lock:
            kept = bytes(self._kept)
        yield from (kept[at : at + PIECE] for at in range(0, len(kept), PIECE))

    def summary(self) -> StreamEnded:
        """What is said at the end."""
        return StreamEnded(
            samples=self._stream.given,
            chunks=self.chunks,
            deadline_misses=self.misses,
            version=self.version.name,
        )

    def check(self, pcm: bytes) -> None:
        """`BadAudio` for half a sample."""
        if len(pcm) % self.frame_bytes:
            raise BadAudio(
                f"A chunk has {len(pcm)} bytes; expected a multiple of {self.frame_bytes}, the bytes of one"
                f" {self.start.encoding} sample of {self.start.channels} channels."
            )

    def seconds(self, pcm: bytes) -> float:
        """Duration of a chunk."""
        return len(pcm) / self.frame_bytes / self.start.sample_rate

    def _keep(self, samples: Waveform) -> bytes:
        pcm = encoded(samples, self.start.encoding)
        self._kept += pcm
        return pcm

    def _decoded(self, pcm: bytes) -> Waveform:
        self.check(pcm)
        samples = decoded(pcm, self.start.encoding, self.start.channels)
        if len(samples):
            audio.check(samples, "A chunk")
            check_level(samples)
        return samples


def encoded(samples: Waveform, encoding: str) -> bytes:
    """`[samples, channels]` as little-endian PCM, channels side by side."""
    if encoding == "s16le":
        return np.rint(audio.quantise(samples, 16) * 2.0**15).astype("<i2").tobytes()
    return samples.astype("<f4").tobytes()


def decoded(pcm: bytes, encoding: str, channels: int) -> Waveform:
    """The inverse; 16-bit samples are divided by 2^15."""
    flat = np.frombuffer(pcm, "<i2") / np.float32(2**15) if encoding == "s16le" else np.frombuffer(pcm, "<f4")
    samples: Waveform = flat.astype(np.float32).reshape(-1, channels)
    return samples
