"""A network without its Python: the graph from spectrum to spectrum, as a `torch.export` program or as ONNX.

The transforms to and from the waveform stay outside: they are complex-valued and cheap, and every host has an FFT. One
graph is for one number of frames, as long as a block that is served; every other number is refused by whoever runs it.
Frames are never left open: torch 2.13 then gives some of these networks other numbers without a word. For the same
reason nothing leaves here before it was run beside the network it was made from.
"""

import importlib.util
import io
import warnings
from collections.abc import Callable
from typing import Any

import onnxruntime
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from simulation.errors import BadSetting, VerificationFailed
from training.models import Dm, Enhancer
from training.models.base import Polar
from training.models.polar import PolarEnhancer

Spectrogram = Float[Tensor, "batch bins frames"]
Inputs = tuple[Tensor, Tensor]
"""Magnitude and phase."""

OPSET = 18
"""Of ONNX's standard operators."""
NAMES = ("magnitude", "phase"), ("enhanced_magnitude", "enhanced_phase")
"""Inputs and outputs of an ONNX graph."""
TOLERANCE = 1e-4
"""Largest difference of a spectrum from the network's, over its RMS, in single precision."""


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

    def heard(self, batch: int, frames: int) -> Inputs:
        """Something like compressed magnitudes and phases, drawn apart from torch's own chance."""
        chance = torch.Generator().manual_seed(0)
        shape = (batch, self.model.config.fft_size // 2 + 1, frames)
        return torch.rand(shape, generator=chance) + 0.1, torch.pi * (2 * torch.rand(shape, generator=chance) - 1)


def exported(model: Enhancer, frames: int, batch: int = 1) -> ExportedProgram:
    """The core of a network as a program for spectra of this shape.

    A program refuses every other shape. Raises BadSetting for a network that has no such core, VerificationFailed where
    the program gives other numbers than the network.
    """
    core = Core(model.eval())
    magnitude, phase = core.heard(batch, frames)
    with torch.no_grad(), _PlainAttention(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The tensor attributes")  # a recurrent layer's list of its weights
        program = torch.export.export(core, (torch.ones_like(magnitude), torch.zeros_like(phase)))
    check(core, program.module(), (magnitude, phase), "torch.export")
    return program


class _PlainAttention(TorchFunctionMode):
    """Attention as two products and a softmax: a fused kernel would write the strides of its output into the graph."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not scaled_dot_product_attention:
            return func(*args, **kwargs)
        query, key, value = args
        bias = kwargs.get("attn_mask")
        logits = query @ key.mT * query.shape[-1] ** -0.5
        return (logits if bias is None else logits + bias).softmax(-1) @ value


def program_bytes(program: ExportedProgram) -> bytes:
    """What `torch.export.load` reads, weights included."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found")  # of weights that are views; on the CPU
        torch.export.save(program, buffer)
    return buffer.getvalue()


def onnx_bytes(model: Enhancer, frames: int, batch: int = 1) -> bytes:
    """The core of a network as an ONNX model for spectra of this shape, weights included; inputs and outputs: `NAMES`.

    Raises BadSetting where the packages that write ONNX are missing or the network has no core, VerificationFailed
    where ONNX Runtime gives other numbers than the network.
    """
    if missing := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise BadSetting(
            f"ONNX is written by packages that are not here: {', '.join(missing)}. Type: pip install 'unmuffle[onnx]'"
        )
    program = exported(model, frames, batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own ways
        written = torch.onnx.export(
            program, dynamo=True, verbose=False, opset_version=OPSET, input_names=NAMES[0], output_names=NAMES[1]
        )
    assert written is not None, "torch.onnx.export with dynamo=True gives a program"
    graph: bytes = written.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def run(*heard: Tensor) -> list[Tensor]:
        given = dict(zip(NAMES[0], (each.numpy() for each in heard), strict=True))
        return [torch.from_numpy(each) for each in session.run(list(NAMES[1]), given)]

    core = Core(model)
    check(core, run, core.heard(batch, frames), "ONNX Runtime")
    return graph


@torch.no_grad()
def check(core: Core, program: Callable[..., tuple[Tensor, ...] | list[Tensor]], heard: Inputs, what: str) -> None:
    """VerificationFailed where a program makes another spectrum of these than the network that it was made from."""
    found, wanted = (torch.polar(*each) for each in (program(*heard), core(*heard)))
    difference = ((found - wanted).abs().max() / wanted.abs().square().mean().sqrt()).item()
    if not difference <= TOLERANCE:
        raise VerificationFailed(
            f"{type(core.model).__name__} gives other numbers through {what} than by itself: they differ by "
            f"{difference:.1e} of the spectrum's RMS, at most {TOLERANCE:.0e} was expected. Nothing was written. Try "
            "another number of frames, and report it with the versions of torch and onnxruntime."
        )
