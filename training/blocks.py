"""A network over a waveform of any length, in bounded memory: the same way for those who score and those who serve.

What fits into one block passes as a whole. Longer input passes a causal network chunk by chunk, with its state, which
is exact. The others get it in blocks. A block is read with context on both sides, which is thrown away, and overlaps
the next one by a cross-fade, so that neither the edges of a block nor a level that differs between two can be heard.
Blocks are short because attention needs memory by the square of their length: 5.5 s, context included, take the full
DM 2.6 GB, 26 s would take it 60.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from simulation.audio import Waveform
from training.models.base import Enhancer

BLOCK_S = 4.0
"""Seconds between the beginnings of two blocks, or chunks."""
FADE_S = 0.5
"""Seconds over which one block fades into the next."""
CONTEXT_S = 0.5
"""Seconds on either side of a block that the network hears and that are thrown away."""

Turn = AbstractContextManager[object]
"""Entered around each call of the network, as often as it takes; such as a lock."""


def enhance_any_length(model: Enhancer, samples: Waveform, turn: Turn | None = None) -> Waveform:
    """`[samples]` at the model's sample rate -> the same length; see the top of this file."""
    turn = turn or nullcontext()

    def forward(piece: Waveform) -> Waveform:
        with turn, torch.inference_mode():
            return _samples(model(_batch(piece)))

    if model.causal and len(samples) > _longest(model.sample_rate):
        return _streamed(model, samples, turn)
    return in_blocks(forward, samples, model.sample_rate)


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


def _longest(sample_rate: int) -> int:
    """Samples that pass as a whole."""
    return round(BLOCK_S * sample_rate) + round(FADE_S * sample_rate)


def _streamed(model: Enhancer, samples: Waveform, turn: Turn) -> Waveform:
    """Chunk by chunk, and as many zeros behind as the network waits for."""
    state, ready = None, []
    complete = np.pad(samples, (0, model.latency_samples))
    for chunk in _batch(complete).split(round(BLOCK_S * model.sample_rate), dim=-1):
        with turn, torch.inference_mode():
            state, enhanced = model.stream(state, chunk)
            ready.append(_samples(enhanced))
    return np.concatenate(ready)[: len(samples)]


def _batch(samples: Waveform) -> Tensor:
    """`[samples]` -> `[1, samples]`."""
    return torch.from_numpy(np.array(samples, dtype=np.float32)).unsqueeze(0)


def _samples(batch: Tensor) -> Waveform:
    """`[1, samples]` -> `[samples]`."""
    samples: Waveform = batch.squeeze(0).numpy()
    return samples
