"""A causal network over a waveform that is still being spoken: equal to the whole file, for any cutting into chunks.

The sample rate is changed on the way in and on the way out by resamplers that keep their state; the channels pass the
network together, as a batch. How far the output lags behind is the network's latency and, at other sample rates than
its own, that of two resamplers.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import soxr
import torch

from simulation.audio import Waveform
from simulation.errors import CheckpointIncompatible
from training.models.base import Enhancer, Streamer


class Stream:
    """One stream; for one thread at a time."""

    def __init__(
        self,
        model: Enhancer,
        sample_rate: int,
        channels: int,
        turn: AbstractContextManager[object],
        shortest: int = 0,
        step: Streamer | None = None,
    ) -> None:
        """`turn` is entered around each call of the network; what is shorter than `shortest` is filled with silence.

        `step` answers as the network's `stream` does, which is asked where there is none.
        """
        self._model, self._channels, self._turn, self._shortest = model, channels, turn, shortest
        self._in = _resampler(sample_rate, model.sample_rate, channels)
        self._out = _resampler(model.sample_rate, sample_rate, channels)
        self._step = step or model.stream
        self._state: Any = None
        self._due = 0
        """Samples that the network has been given and has not given back."""
        self.fed = 0
        """Samples of each channel that came in."""
        self.given = 0
        """Samples of each channel that went out."""

    @property
    def latency_samples(self) -> int:
        """Of the network, at its own sample rate."""
        return self._model.latency_samples

    def feed(self, samples: Waveform) -> Waveform:
        """`[samples, channels]` -> what is ready, `[ready, channels]`, within [-1, 1]."""
        self.fed += len(samples)
        return self._give(self._changed(self._out, self._network(self._changed(self._in, samples)), last=False))

    def end(self) -> Waveform:
        """The rest: afterwards as much went out as came in."""
        silence = np.zeros((max(0, self._shortest - self.fed), self._channels), np.float32)
        at_model_rate = self._changed(self._in, silence, last=True)
        waited_for = np.zeros((self._model.latency_samples, self._channels), np.float32)
        enhanced = self._network(at_model_rate, waited_for)
        rest = self._changed(self._out, enhanced, last=True)[: self.fed - self.given]
        missing = self.fed - self.given - len(rest)  # resamplers round the length
        self._in = self._out = self._state = None
        return self._give(np.pad(rest, ((0, missing), (0, 0))))

    def _give(self, samples: Waveform) -> Waveform:
        ready = samples[: self.fed - self.given]
        self.given += len(ready)
        return np.clip(ready, -1.0, 1.0)

    def _network(self, samples: Waveform, waited_for: Waveform | None = None) -> Waveform:
        """What is ready; as much as was ever given, once the samples that the network waits for follow."""
        self._due += len(samples)
        if waited_for is not None:
            samples = np.concatenate([samples, waited_for])
        if len(samples) == 0:
            return samples
        batch = torch.from_numpy(np.ascontiguousarray(samples.T))
        with self._turn, torch.inference_mode():
            self._state, enhanced = self._step(self._state, batch)
        if not torch.isfinite(enhanced).all():
            raise CheckpointIncompatible(
                f"This {self._model.config.kind} network answers with NaN or infinity. Expected finite samples; serve"
                " another version: unmuffle rollback"
            )
        ready: Waveform = enhanced.numpy().T[: self._due]
        self._due -= len(ready)
        return ready

    @staticmethod
    def _changed(resampler: Any, samples: Waveform, last: bool = False) -> Waveform:
        if resampler is None:
            return samples
        changed: Waveform = resampler.resample_chunk(np.ascontiguousarray(samples), last=last)
        return changed


def _resampler(from_rate: int, to_rate: int, channels: int) -> Any:
    """soxr's HQ filter with a state; None where there is nothing to change."""
    if from_rate == to_rate:
        return None
    return soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality="HQ")


def resampled(chunks: Iterable[Waveform], from_rate: int, to_rate: int, channels: int) -> Iterator[Waveform]:
    """`[samples, channels]` in pieces at another sample rate: together what the whole would be."""
    resampler = _resampler(from_rate, to_rate, channels)
    if resampler is None:
        yield from chunks
        return
    for chunk in chunks:
        yield resampler.resample_chunk(np.ascontiguousarray(chunk))
    yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True)
