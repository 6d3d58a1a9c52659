"""A version as a callable: whole files of any length, sample rate and channel count, in bounded memory; and streams.

Each channel is enhanced on its own, at the network's sample rate. What lies above half that rate in the input (8 kHz
for a network at 16 kHz) is lost: the answer has the input's sample rate and length, not its bandwidth. No gain is
applied but the network's own; what it lets overshoot is clipped at full scale.

Long input passes the network in blocks or, where it is causal, with its state: see `training/blocks.py`.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch

from serving.batches import Batches
from serving.streaming import Stream, resampled
from simulation.audio import Waveform, resample
from simulation.errors import BadAudio, BadSetting, CheckpointIncompatible
from training.blocks import BLOCK_S, CONTEXT_S, FADE_S, fits, streamed, through_blocks
from training.checkpoint import load_version
from training.models.base import Enhancer, Streamer

SHORTEST_S = 1.0
"""Shorter input is filled up with silence, which is cut off again: no network is asked about a single sample."""

LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 768_000
LOUDEST = 1000.0
"""Peak above which samples are on another scale than full scale 1, and networks overflow."""

MOST_ASKED_OTHERWISE = 16
"""Samplings of a diffusion network that are remembered, the latest ones: each holds requests for it together."""


class Engine:
    """One network, ready to enhance. Several threads may call it at once.

    One batch at a time passes the network, so that memory does not grow with the number of callers, and a short file
    gets its turn between two blocks of a long one. Streams wait for each other only, not for files.
    """

    def __init__(self, model: Enhancer) -> None:
        self.model = model.eval()
        self.batches = Batches(self._forward, model.sample_rate, model.causal)
        self._turn_of_streams = Lock()
        self._turn_of_asking = Lock()
        self._streamer: Streamer | None = None
        self._asked_otherwise: dict[Any, Engine] = {}

    @classmethod
    def load(cls, address: str) -> "Engine":
        """The version in this folder, its weights checked against its own digest (`CheckpointIncompatible`)."""
        return cls(load_version(address))

    @property
    def sample_rate(self) -> int:
        """Hz at which the network works."""
        return self.model.sample_rate

    def enhance(self, samples: Waveform, sample_rate: int) -> Waveform:
        """`[samples, channels]` at any sample rate -> the same shape at the same rate, finite and within [-1, 1].

        Raises `BadAudio` for a sample rate or a level that no audio has, `CheckpointIncompatible` if the network gives
        NaN.
        """
        check_rate(sample_rate)
        check_level(samples)
        with self.batches.caller():
            filled = _of_length(samples, max(len(samples), round(SHORTEST_S * sample_rate)))
            enhanced = self._at_model_rate(resample(filled, sample_rate, self.sample_rate))
        self._check_finite(enhanced)
        return np.clip(_of_length(resample(enhanced, self.sample_rate, sample_rate), len(samples)), -1.0, 1.0)

    def enhance_chunks(self, chunks: Iterable[Waveform], sample_rate: int, channels: int) -> Iterator[Waveform]:
        """`[samples, channels]` in pieces -> as many samples, in other pieces; memory does not grow with the length.

        Equals `enhance` of the whole, but for the rounding of sums. Raises what that raises, once it gets there.
        """
        check_rate(sample_rate)
        through = self._chunks_through_state if self.model.causal else self._chunks_through_blocks
        return through(_checked(chunks), sample_rate, channels)

    def _chunks_through_state(self, chunks: Iterable[Waveform], sample_rate: int, channels: int) -> Iterator[Waveform]:
        shortest = round(SHORTEST_S * sample_rate)
        stream = Stream(self.model, sample_rate, channels, self.batches.turn, shortest)
        for chunk in chunks:
            yield stream.feed(chunk)
        yield stream.end()

    def _chunks_through_blocks(self, chunks: Iterable[Waveform], sample_rate: int, channels: int) -> Iterator[Waveform]:
        length = _Length()
        filled = length.counted(chunks, at_least=round(SHORTEST_S * sample_rate), channels=channels)
        at_model_rate = resampled(filled, sample_rate, self.sample_rate, channels)
        enhanced = through_blocks(self._many, at_model_rate, self.sample_rate, self._together(channels))
        given = 0
        for piece in resampled(self._finite(enhanced), self.sample_rate, sample_rate, channels):
            ready = np.clip(piece[: length.samples - given], -1.0, 1.0)
            given += len(ready)
            yield ready
        yield np.zeros((length.samples - given, channels), np.float32)

    def stream(self, sample_rate: int, channels: int = 1) -> Stream:
        """A stream of its own through the network; `BadSetting` where the network is not causal."""
        check_rate(sample_rate)
        if not self.model.causal:
            raise BadSetting(
                f"This {self.model.config.kind} network needs the whole recording: it is not causal, and cannot stream."
                " Send the recording to POST /v1/enhance, or serve a causal version."
            )
        shortest = round(SHORTEST_S * sample_rate)
        return Stream(self.model, sample_rate, channels, self._turn_of_streams, shortest, self._step)

    def _step(self, state: Any, chunk: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """`stream` of the network, in the form that it has for small chunks; it is made for the first of them."""
        if self._streamer is None:
            self._streamer = self.model.streamer()
        return self._streamer(state, chunk)

    def sampled_by(self, sampling: Any) -> "Engine":
        """The same weights of a diffusion network under another `Sampling`; both take turns."""
        with self._turn_of_asking:
            other = self._asked_otherwise.pop(sampling, None) or self._asked(sampling)
            self._asked_otherwise[sampling] = other
            if len(self._asked_otherwise) > MOST_ASKED_OTHERWISE:
                del self._asked_otherwise[next(iter(self._asked_otherwise))]
            return other

    def _asked(self, sampling: Any) -> "Engine":
        model = copy.copy(self.model)
        model.config = self.model.config.model_copy(update={"sampling": sampling})
        model.stochastic = sampling.stochastic
        other = Engine(model)
        ours, theirs = self.batches, other.batches
        theirs.turn, theirs.most_s, theirs.window_s = ours.turn, ours.most_s, ours.window_s
        return other

    def _at_model_rate(self, samples: Waveform) -> Waveform:
        """`[samples, channels]`."""
        if self.model.causal and not fits(len(samples), self.sample_rate):
            channels = [streamed(self.model, channel, self.batches.turn) for channel in samples.T]
            return np.stack(channels, axis=1)
        pieces = through_blocks(self._many, [samples], self.sample_rate, self._together(samples.shape[1]))
        return np.concatenate(list(pieces))

    def _together(self, channels: int) -> int:
        """Blocks of one file that pass as a batch."""
        return max(1, int(self.batches.most_s / ((BLOCK_S + FADE_S + 2 * CONTEXT_S) * channels)))

    def _many(self, pieces: Sequence[Waveform]) -> list[Waveform]:
        """`[samples, channels]` each; every channel by itself."""
        answers = iter(self.batches.many([channel for piece in pieces for channel in piece.T]))
        return [np.stack([next(answers) for _ in range(piece.shape[1])], axis=1) for piece in pieces]

    def _forward(self, batch: Waveform) -> Waveform:
        with torch.inference_mode():
            enhanced: Waveform = self.model(torch.from_numpy(batch)).numpy()
        return enhanced

    def _finite(self, pieces: Iterable[Waveform]) -> Iterator[Waveform]:
        for piece in pieces:
            self._check_finite(piece)
            yield piece

    def _check_finite(self, samples: Waveform) -> None:
        if not np.isfinite(samples).all():
            raise CheckpointIncompatible(
                f"This {self.model.config.kind} network answers with NaN or infinity. Expected finite samples;"
                " serve another version: unmuffle rollback"
            )


class _Length:
    """Counts what passes."""

    samples = 0

    def counted(self, chunks: Iterable[Waveform], at_least: int, channels: int) -> Iterator[Waveform]:
        """The chunks, and silence behind where there is less than `at_least`, which does not count."""
        for chunk in chunks:
            self.samples += len(chunk)
            yield chunk
        if self.samples < at_least:
            yield np.zeros((at_least - self.samples, channels), np.float32)


def _checked(chunks: Iterable[Waveform]) -> Iterator[Waveform]:
    for chunk in chunks:
        check_level(chunk)
        yield chunk


def check_rate(sample_rate: int) -> None:
    """Raise `BadAudio` for a sample rate that no recording has."""
    if not LOWEST_RATE_HZ <= sample_rate <= HIGHEST_RATE_HZ:
        raise BadAudio(
            f"The sample rate is {sample_rate} Hz; expected between {LOWEST_RATE_HZ} and {HIGHEST_RATE_HZ} Hz."
        )


def check_level(samples: Waveform) -> None:
    """Raise `BadAudio` for samples on another scale than full scale 1."""
    peak = np.abs(samples).max(initial=0.0)
    if peak > LOUDEST:
        raise BadAudio(
            f"The samples reach {peak:.4g}; expected a waveform within [-1, 1]. Divide it by its full scale."
        )


def _of_length(samples: Waveform, length: int) -> Waveform:
    """`[samples, channels]`, cut, or filled up with silence, at the end."""
    return np.pad(samples[:length], ((0, max(0, length - len(samples))), (0, 0)))
