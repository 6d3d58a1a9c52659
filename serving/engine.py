"""A version as a callable: whole files of any length, sample rate and channel count, in bounded memory.

Each channel is enhanced on its own, at the network's sample rate. What lies above half that rate in the input (8 kHz
for a network at 16 kHz) is lost: the answer has the input's sample rate and length, not its bandwidth.

Long input passes a causal network chunk by chunk, with its state, which is exact. The others get it in blocks. A block
is read with context on both sides, which is thrown away, and overlaps the next one by a cross-fade, so that neither the
edges of a block nor a level that differs between two can be heard. Blocks are short because attention needs memory by
the square of their length: 5.5 s, context included, take the full DM 2.6 GB, 26 s would take it 60.
"""

from collections.abc import Callable
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from simulation.audio import Waveform, resample
from simulation.errors import BadAudio, CheckpointIncompatible
from training.checkpoint import load_version
from training.models.base import Enhancer

BLOCK_S = 4.0
"""Seconds between the beginnings of two blocks, or chunks."""
FADE_S = 0.5
"""Seconds over which one block fades into the next."""
CONTEXT_S = 0.5
"""Seconds on either side of a block that the network hears and that are thrown away."""
SHORTEST_S = 1.0
"""Shorter input is filled up with silence, which is cut off again: no network is asked about a single sample."""

LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 768_000
LOUDEST = 1000.0
"""Peak above which samples are on another scale than full scale 1, and networks overflow."""


class Engine:
    """One network, ready to enhance. Several threads may call it at once.

    One block at a time passes the network, so that memory does not grow with the number of callers, and a short file
    gets its turn between two blocks of a long one.
    """

    def __init__(self, model: Enhancer) -> None:
        self.model = model.eval()
        self._turn = Lock()

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
        _check(samples, sample_rate)
        enhanced = np.empty_like(samples)
        for channel in range(samples.shape[1]):
            enhanced[:, channel] = self._channel(samples[:, channel], sample_rate)
        return enhanced

    def _channel(self, samples: Waveform, sample_rate: int) -> Waveform:
        filled = _of_length(samples, max(len(samples), round(SHORTEST_S * sample_rate)))
        at_model_rate = resample(filled, sample_rate, self.sample_rate)
        if self.model.causal:
            enhanced = self._streamed(at_model_rate)
        else:
            enhanced = in_blocks(self._forward, at_model_rate, self.sample_rate)
        if not np.isfinite(enhanced).all():
            raise CheckpointIncompatible(
                f"This {self.model.config.kind} network answers with NaN or infinity. Expected finite samples;"
                " serve another version: unmuffle rollback"
            )
        back = resample(enhanced, self.sample_rate, sample_rate)
        return np.clip(_of_length(back, len(samples)), -1.0, 1.0)

    def _forward(self, samples: Waveform) -> Waveform:
        with self._turn, torch.inference_mode():
            return _samples(self.model(_batch(samples)))

    def _streamed(self, samples: Waveform) -> Waveform:
        """Chunk by chunk, and as many zeros behind as the network waits for."""
        state, ready = None, []
        complete = np.pad(samples, (0, self.model.latency_samples))
        for chunk in _batch(complete).split(round(BLOCK_S * self.sample_rate), dim=-1):
            with self._turn, torch.inference_mode():
                state, enhanced = self.model.stream(state, chunk)
                ready.append(_samples(enhanced))
        return np.concatenate(ready)[: len(samples)]


def in_blocks(enhance: Callable[[Waveform], Waveform], samples: Waveform, sample_rate: int) -> Waveform:
    """`enhance` over `[samples]` block by block; one call where everything fits into one block and its fade.

    The fades of two neighbours add up to one, so that what leaves its input alone leaves the joined output alone.
    """
    block, fade, context = (round(seconds * sample_rate) for seconds in (BLOCK_S, FADE_S, CONTEXT_S))
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    length = len(samples)
    joined = np.zeros_like(samples)
    for start in range(0, max(1, length - fade), block):
        stop = min(start + block + fade, length)
        first, last = max(0, start - context), min(length, stop + context)
        piece = enhance(samples[first:last])[start - first : stop - first].copy()
        if start > 0:
            piece[:fade] *= ramp
        if stop < length:
            piece[-fade:] *= 1 - ramp
        joined[start:stop] += piece
    return joined


def _batch(samples: Waveform) -> Tensor:
    """`[samples]` -> `[1, samples]`."""
    return torch.from_numpy(np.array(samples, dtype=np.float32)).unsqueeze(0)


def _samples(batch: Tensor) -> Waveform:
    """`[1, samples]` -> `[samples]`."""
    samples: Waveform = batch.squeeze(0).numpy()
    return samples


def _check(samples: Waveform, sample_rate: int) -> None:
    if not LOWEST_RATE_HZ <= sample_rate <= HIGHEST_RATE_HZ:
        raise BadAudio(
            f"The sample rate is {sample_rate} Hz; expected between {LOWEST_RATE_HZ} and {HIGHEST_RATE_HZ} Hz."
        )
    peak = np.abs(samples).max(initial=0.0)
    if peak > LOUDEST:
        raise BadAudio(
            f"The samples reach {peak:.4g}; expected a waveform within [-1, 1]. Divide it by its full scale."
        )


def _of_length(samples: Waveform, length: int) -> Waveform:
    """Cut, or filled up with silence, at the end."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))
