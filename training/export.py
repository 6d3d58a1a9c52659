"""A network without its Python: the graph from spectrum to spectrum, by `torch.export`.

The transforms to and from the waveform stay outside: they are complex-valued and cheap, and every host has an FFT. One
program is for one number of frames, as long as a block that is served; recurrent layers are written out over it. ONNX
is not offered: torch's exporters want the packages onnx and onnxscript, which nothing else here needs.
"""

import io
import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from simulation.errors import BadSetting
from training.models import Dm, Enhancer
from training.models.base import Polar
from training.models.polar import PolarEnhancer

Spectrogram = Float[Tensor, "batch bins frames"]


class Core(nn.Module):
    """The network between the transforms: compressed magnitude and phase of the noisy, at a mean power of one, to those
    of the enhanced.

    DM and the networks around (magnitude, phase) have one; for phase retrieval the caller gives phase zero.
    """

    def __init__(self, model: Enhancer) -> None:
        super().__init__()
        if not isinstance(model, Dm | PolarEnhancer):
            raise BadSetting(
                f"{type(model).__name__} has no core from spectrum to spectrum; expected DM, MP-SENet or RENet."
            )
        self.model = model

    def forward(self, magnitude: Spectrogram, phase: Spectrogram) -> tuple[Spectrogram, Spectrogram]:
        """Magnitude and phase."""
        if isinstance(self.model, PolarEnhancer):
            found = self.model.polar(Polar(magnitude, phase))
            return found.magnitude, found.phase
        hidden = self.model.hidden(magnitude.mT, phase.mT)
        fused = self.model.read(hidden, magnitude.mT).fused.mT
        return fused, phase if self.model.phase_decoder is None else self.model.phase_decoder(hidden).mT


def exported(model: Enhancer, frames: int, batch: int = 1) -> ExportedProgram:
    """The core of a network as a program for spectra of this shape.

    A program refuses every other shape. Raises BadSetting for a network that has no such core.
    """
    core = Core(model.eval())
    config = model.config
    shape = (batch, config.fft_size // 2 + 1, frames)  # type: ignore[attr-defined]  # those with a core have one
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The tensor attributes")  # a recurrent layer's list of its weights
        return torch.export.export(core, (torch.ones(shape), torch.zeros(shape)))


def program_bytes(program: ExportedProgram) -> bytes:
    """What `torch.export.load` reads, weights included."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found")  # of weights that are views; on the CPU
        torch.export.save(program, buffer)
    return buffer.getvalue()
