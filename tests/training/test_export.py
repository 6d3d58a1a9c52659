"""Exported programs and ONNX models: the network's own numbers, without its Python, or none."""

import importlib.util
import io
from typing import Any

import pytest
import torch

from simulation.errors import BadSetting, VerificationFailed
from training import export
from training.export import NAMES, Core, check, exported, onnx_bytes, program_bytes
from training.models import Dm, GruMask, MpSenet, ReNet
from training.models.base import ModelConfig

SMALL: dict[str, Any] = {"channels": 4, "heads": 2, "blocks": 1, "dense_depth": 2, "kernel": 5, "fft_size": 32}
SMALL |= {"hop_size": 16}
RENET: dict[str, Any] = {"magnitude_channels": 4, "phase_channels": 2, "blocks": 1, "heads": 2, "dense_depth": 2}
RENET |= {"fft_size": 32, "hop_size": 16}
FRAMES = 5


writes_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None, reason="onnx and onnxscript write ONNX"
)
every_core = pytest.mark.parametrize(
    "config",
    [
        Dm.Config(**SMALL),
        Dm.Config(**SMALL, phase_decoder=True),
        MpSenet.Config(**SMALL),
        MpSenet.Config(**SMALL, edition="2023"),
        ReNet.Config(**RENET),
    ],
    ids=["dm", "dm_phase", "mp_senet_2024", "mp_senet_2023", "renet"],
)


@every_core
def test_a_program_computes_what_the_network_computes(config: ModelConfig) -> None:
    """Written, read again and run on another input than it was made with."""
    torch.manual_seed(0)
    model = config.build().eval()
    program = torch.export.load(io.BytesIO(program_bytes(exported(model, FRAMES, batch=2)))).module()
    heard = torch.rand(2, 17, FRAMES), 6 * torch.rand(2, 17, FRAMES) - 3
    with torch.no_grad():
        for found, wanted in zip(program(*heard), Core(model)(*heard), strict=True):
            assert torch.allclose(found, wanted, atol=1e-6)
            assert wanted.std() > 0
    with pytest.raises(Exception, match=r"(?i)guard|shape|size"):
        program(*(each[..., 1:] for each in heard))


@pytest.mark.long
@writes_onnx
@every_core
def test_onnx_computes_what_the_network_computes(config: ModelConfig) -> None:
    """Read and run by ONNX Runtime, on another input than it was made or checked with; other shapes are refused."""
    import onnxruntime

    torch.manual_seed(0)
    model = config.build().eval()
    session = onnxruntime.InferenceSession(onnx_bytes(model, FRAMES), providers=["CPUExecutionProvider"])
    heard = torch.rand(1, 17, FRAMES), 6 * torch.rand(1, 17, FRAMES) - 3
    found = session.run(list(NAMES[1]), dict(zip(NAMES[0], (each.numpy() for each in heard), strict=True)))
    with torch.no_grad():
        wanted = Core(model)(*heard)
    assert torch.allclose(torch.polar(*map(torch.from_numpy, found)), torch.polar(*wanted), atol=1e-5)
    with pytest.raises(Exception, match=r"(?i)invalid dimensions|shape"):
        session.run(None, dict(zip(NAMES[0], (each[..., 1:].numpy() for each in heard), strict=True)))


def test_a_program_with_other_numbers_is_refused() -> None:
    """An exporter that gets it wrong is told from one that does not by running both."""
    torch.manual_seed(0)
    core = Core(Dm.Config(**SMALL).build().eval())
    heard = core.heard(1, FRAMES)
    check(core, core, heard, "itself")
    with pytest.raises(VerificationFailed, match="Dm gives other numbers through a wrong one"):
        check(core, lambda *given: [1.01 * core(*given)[0], given[1]], heard, "a wrong one")
    with pytest.raises(VerificationFailed, match="differ by nan"):
        check(core, lambda *given: [torch.nan * given[0], given[1]], heard, "nothing")


@writes_onnx
def test_onnx_is_checked_before_it_is_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose numbers are not the network's never reaches anybody."""
    model = Dm.Config(**SMALL).build()
    core, wrong = Core(model.eval()), MpSenet.Config(**SMALL).build()
    monkeypatch.setattr(export, "exported", lambda *_: exported(wrong, FRAMES))
    with pytest.raises(VerificationFailed, match="through ONNX Runtime"):
        onnx_bytes(core.model, FRAMES)


def test_onnx_without_its_packages_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to type."""
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadSetting, match=r"onnx, onnxscript\. Type: pip install 'unmuffle\[onnx\]'"):
        onnx_bytes(Dm.Config(**SMALL).build(), FRAMES)


def test_a_network_without_a_core_is_answered() -> None:
    """A recurrent mask works on frames as they come."""
    with pytest.raises(BadSetting, match="GruMask has no core from spectrum to spectrum; expected DM"):
        exported(GruMask.Config(width=8).build(), FRAMES)
