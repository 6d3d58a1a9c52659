"""A network over a waveform of any length, in bounded memory: the same way for those who score and those who serve.

What fits into one block passes as a whole. Longer input passes a causal network chunk by chunk, with its state, which
is exact. The others get it in blocks. A block is read with context on both sides, which is thrown away, and overlaps
the next one by a cross-fade, so that neither the edges of a block nor a level that differs between two can be heard.
Blocks are short because attention needs memory by the square of their length: 5.5 s, context included, take the full
DM 2.6 GB, 26 s would take it 60.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.models.base import Enhancer

Waveform = NDArray[np.float32]
"""[samples], as in `simulation.audio`, whose libraries a network does not need."""
BLOCK_S = 4.0
"""Seconds between the beginnings of two blocks, or chunks."""
FADE_S = 0.5
"""Seconds over which one block fades into the next."""
CONTEXT_S = 0.5
"""Seconds on either side of a block that the network hears and that are thrown away."""

Turn = AbstractContextManager[object]
"""Entered around each call of the network, as often as it takes; such as a lock."""

Many = Callable[[Sequence[Waveform]], list[Waveform]]
"""Several waveforms -> the same, enhanced."""


def enhance_any_length(model: Enhancer, samples: Waveform, turn: Turn | None = None) -> Waveform:
    """`[samples]` at the model's sample rate -> the same length; see the top of this file."""
    turn = turn or nullcontext()

    def forward(piece: Waveform) -> Waveform:
        with turn, torch.inference_mode():
            return _samples(model(_batch(piece)))

    if model.causal and not fits(len(samples), model.sample_rate):
        return streamed(model, samples, turn)
    return in_blocks(forward, samples, model.sample_rate)


def in_blocks(enhance: Callable[[Waveform], Waveform], samples: Waveform, sample_rate: int) -> Waveform:
    """`enhance` over `[samples]` block by block; one call where everything fits into one block and its fade.

    The fades of two neighbours add up to one, so that what leaves its input alone leaves the joined output alone.
    """
    return np.concatenate(list(through_blocks(lambda pieces: [enhance(p) for p in pieces], [samples], sample_rate)))


def through_blocks(many: Many, source: Iterable[Waveform], sample_rate: int, together: int = 1) -> Iterator[Waveform]:
    """The same over a waveform that comes in chunks, `[samples]` or `[samples, channels]`, `together` blocks at a time.

    Gives as many samples as came in, whatever the chunks; holds `together` blocks in memory, and a chunk.
    """
    block, fade, context = (round(seconds * sample_rate) for seconds in (BLOCK_S, FADE_S, CONTEXT_S))
    ramp, tail = np.linspace(0.0, 1.0, fade, dtype=np.float32), None
    waiting: list[_Window] = []
    for window in _windows(source, block, fade, context):
        waiting.append(window)
        if len(waiting) < together and not window.last:
            continue
        for heard, enhanced in zip(waiting, many([each.samples for each in waiting]), strict=True):
            piece = enhanced[heard.start : heard.stop].copy()
            rising = ramp.reshape(-1, *[1] * (piece.ndim - 1))
            if tail is not None:
                piece[:fade] = piece[:fade] * rising + tail
            if heard.last:  # may be shorter than a fade
                yield piece
            else:
                tail = piece[-fade:] * (1 - rising)
                yield piece[:-fade]
        waiting = []


class _Window(NamedTuple):
    """A block with its context."""

    samples: Waveform
    start: int
    """Where the block begins in it."""
    stop: int
    last: bool


def _windows(source: Iterable[Waveform], block: int, fade: int, context: int) -> Iterator[_Window]:
    """One at least; every block but the last is whole."""
    chunks = iter(source)
    held: Waveform | None = next(chunks, None)
    base = start = 0  # of what is held, of the block: positions in the whole
    while held is not None:
        stop = start + block + fade
        while base + len(held) <= stop + context and (chunk := next(chunks, None)) is not None:
            held = np.concatenate([held, chunk])
        known = base + len(held)  # more than the block and its context, or all there is
        first, stop, last = max(0, start - context), min(stop, known), known <= stop
        yield _Window(held[first - base : min(known, stop + context) - base], start - first, stop - first, last)
        if last:
            return
        start += block
        base, held = max(0, start - context), held[max(0, start - context) - base :]


def fits(samples: int, sample_rate: int) -> bool:
    """Whether so many samples pass as a whole."""
    return samples <= round(BLOCK_S * sample_rate) + round(FADE_S * sample_rate)


def streamed(model: Enhancer, samples: Waveform, turn: Turn) -> Waveform:
    """Through a causal network chunk by chunk, and as many zeros behind as the network waits for."""
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
