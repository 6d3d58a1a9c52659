"""RaD-Net 2 frame by frame, for a live stream on one thread: sound in and sound out.

A `FrameByFrame` holds the network's weights as they stood when it was made. Its results are the network's up to the
rounding of sums; what it saves is the cost of thousands of small operations for every 10 ms.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from training.models.rad_net2.compiled import whole_frame
from training.models.rad_net2.denoising import DenoisingNet
from training.models.rad_net2.frame_denoising import FrameDenoising
from training.models.rad_net2.frame_repairing import FrameRepairing
from training.models.rad_net2.frames import Places, State
from training.models.rad_net2.program import Kept
from training.models.rad_net2.repairing import ComNet
from training.spectral import CausalStft

# Shape letters in this file: F bins, P parts (real, imaginary).


@dataclass
class Stream:
    """What one waveform has left behind; `FrameByFrame` writes into it."""

    samples: Tensor
    """The newest ones: those that a coming frame still needs."""
    tail: Tensor
    """Output to which the frames to come will add."""
    early: int
    """Output samples still to drop: those that lie before the beginning."""
    layers: State | Kept
    frames: int = 0
    """How many were heard."""

    def bytes(self) -> int:
        """Memory of all it keeps, but for samples that wait for the rest of their frame."""
        seen: dict[int, int] = {}
        _storages([self.tail, self.layers], seen)
        return sum(seen.values())


def _storages(kept: Any, seen: dict[int, int]) -> None:
    if isinstance(kept, Tensor):
        storage = kept.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    elif isinstance(kept, list | tuple):
        for each in kept:
            _storages(each, seen)


class FrameByFrame:
    """What `RadNet2.streamer` gives; the arguments and answers of `Enhancer.stream`, but a state is used up by a call.

    It serves any number of streams, one call at a time.
    """

    def __init__(
        self,
        stft: CausalStft,
        repairing: ComNet,
        denoising: DenoisingNet | None,
        widths: Sequence[int],
        silence: float,
        compiled: bool = True,
    ) -> None:
        """`widths`: bins of the levels of stage 1; `silence`: RMS below which a frame is taken for silence.

        `compiled`: by a C++ compiler where there is one; PyTorch's own operations answer the same, slower.
        """
        stft, repairing, denoising = copy.deepcopy((stft, repairing, denoising))  # weights may learn on
        places = Places()
        self.stft, self.silence = stft, silence
        with torch.inference_mode():
            self.root_energy = stft.window.square().sum().sqrt()
            parts = (
                FrameRepairing(repairing, widths, places),
                None if denoising is None else FrameDenoising(denoising, widths[0] - 1, places),
            )
            compiled = compiled and stft.window.device.type == "cpu"
            self.compiled = whole_frame(*parts, widths[0], silence, stft.window.dtype) if compiled else None
        self.parts = parts if self.compiled is None else None
        self.places = places

    @torch.inference_mode()
    def __call__(
        self, state: list[Stream] | None, chunk: Float[Tensor, "batch chunk"]
    ) -> tuple[list[Stream], Float[Tensor, "batch ready"]]:
        """See `Enhancer.stream`."""
        streams = [self._begin() for _ in chunk] if state is None else state
        return streams, torch.stack(
            [self._fed(stream, samples) for stream, samples in zip(streams, chunk, strict=True)]
        )

    def _begin(self) -> Stream:
        nothing = self.stft.window.new_zeros(self.stft.overlap)
        return Stream(nothing, nothing, self.stft.overlap, (self.compiled or self.places).begin())

    def _fed(self, stream: Stream, samples: Float[Tensor, " chunk"]) -> Float[Tensor, " ready"]:
        size, hop = self.stft.fft_size, self.stft.hop_size
        samples = torch.cat([stream.samples, samples])
        ready = [samples[:0]]
        while len(samples) >= size:
            ready.append(self._frame(stream, samples[:size]))
            samples = samples[hop:]
        stream.samples = samples.clone()
        out = torch.cat(ready)
        dropped = min(stream.early, len(out))
        stream.early -= dropped
        return out[dropped:]

    def _frame(self, stream: Stream, heard: Float[Tensor, " frame"]) -> Float[Tensor, " hop"]:
        stft = self.stft
        x_FP = torch.view_as_real(torch.fft.rfft(heard * stft.window, stft.padded_size)) / self.root_energy
        enhanced_FP = self._enhanced(x_FP, stream.layers, stream.frames) * self.root_energy
        stream.frames += 1
        frame = torch.fft.irfft(torch.view_as_complex(enhanced_FP), stft.padded_size)[: stft.fft_size] * stft.window
        frame[: stft.overlap] += stream.tail
        stream.tail = frame[stft.hop_size :].clone()
        return frame[: stft.hop_size] / stft.envelope

    def _enhanced(self, x_FP: Tensor, state: State | Kept, frame: int) -> Tensor:
        """[bins, 2] in and out."""
        if self.compiled is not None:
            assert isinstance(state, Kept)
            return self.compiled(x_FP, state, frame)
        assert self.parts is not None and isinstance(state, list)
        repairing, denoising = self.parts
        loud = x_FP.square().mean().sqrt()
        loud = loud / (loud + self.silence)
        repaired_FP = repairing(x_FP, state, frame) * loud
        if denoising is None:
            return repaired_FP
        return torch.cat([denoising(repaired_FP[:-1], state, frame) * loud, repaired_FP[-1:]])
