"""What causal networks share: the memory of their layers, and the frames that samples wait in.

A causal network is written once, for the frames of a chunk behind what its layers remember; a whole utterance is one
chunk behind silence. So streaming and whole utterances cannot disagree.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from training.models.layers import without_autocast
from training.spectral import CausalStft

Spectrum: TypeAlias = Complex[Tensor, "batch bins frames"]


class Memory:
    """What the layers of a causal network keep from one chunk to the next, in the order in which they ask for it."""

    def __init__(self, kept: tuple[Tensor, ...] = (), frames: int = 0) -> None:
        """`frames`: how many were heard before this chunk."""
        self.frames = frames
        self._kept, self._new = kept, list[Tensor]()

    def behind(self, x: Tensor, places: int, axis: int) -> Tensor:
        """`x` behind the `places` along `axis` that came before it, which are zeros at first."""
        shape = [*x.shape[:axis], places, *x.shape[axis + 1 :]]
        whole = torch.cat([self.earlier(x.new_zeros(shape)), x], dim=axis)
        self.keep(whole.narrow(axis, whole.shape[axis] - places, places))
        return whole

    def through(self, layer: nn.GRU, x: Tensor) -> Tensor:
        """A recurrent layer that goes on where it stopped."""
        out, hidden = layer(x, self.earlier(x.new_zeros(layer.num_layers, x.shape[0], layer.hidden_size)))
        self.keep(hidden)
        return out

    def earlier(self, first: Tensor) -> Tensor:
        """What was kept here after the last chunk; `first` before there was any. To be followed by `keep`."""
        place = len(self._new)
        return self._kept[place] if place < len(self._kept) else first

    def keep(self, value: Tensor) -> None:
        """For the next chunk."""
        self._new.append(value)

    def kept(self) -> tuple[Tensor, ...]:
        """All of it."""
        return tuple(self._new)


@dataclass(frozen=True)
class Heard:
    """What a causal network on spectra remembers between two chunks."""

    samples: Float[Tensor, "batch waiting"]
    """The newest samples: those a coming frame still needs."""
    frames: int
    """How many were heard."""
    layers: tuple[Tensor, ...]
    """What each layer keeps."""
    tail: Float[Tensor, "batch overlap"]
    """Output to which the frames to come will add."""
    early: int
    """Output samples still to drop: those that lie before the beginning."""


def streamed(
    stft: CausalStft,
    enhance: Callable[[Spectrum, Any], Spectrum],
    state: Heard | None,
    chunk: Float[Tensor, "batch chunk"],
    remembering: Callable[[tuple[Tensor, ...], int], Memory] = Memory,
) -> tuple[Heard, Float[Tensor, "batch ready"]]:
    """Feed a chunk to a network that maps spectra; its new state and the samples that are ready: `Enhancer.stream`.

    `remembering` makes the memory out of what was kept and of the number of frames heard.
    """
    state = state or _silence(stft, chunk)
    samples = torch.cat([state.samples, chunk], dim=-1)
    hops = (samples.shape[-1] - stft.overlap) // stft.hop_size
    if hops == 0:
        return replace(state, samples=samples), chunk[:, :0]
    memory = remembering(state.layers, state.frames)
    with without_autocast(chunk):
        spectrum_BFT = stft(samples[:, : stft.overlap + hops * stft.hop_size])
    enhanced_BFT = enhance(spectrum_BFT, memory)
    with without_autocast(chunk):
        ready, tail = stft.inverse(enhanced_BFT, state.tail)
    dropped = min(state.early, ready.shape[-1])
    waiting = samples[:, hops * stft.hop_size :]
    return Heard(waiting, state.frames + hops, memory.kept(), tail, state.early - dropped), ready[:, dropped:]


def _silence(stft: CausalStft, like: Float[Tensor, "batch chunk"]) -> Heard:
    nothing = like.new_zeros(like.shape[0], stft.overlap)
    return Heard(nothing, 0, (), nothing, stft.overlap)
