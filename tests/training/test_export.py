"""Exported programs: the network's own numbers, without its Python."""

import io
from typing import Any

import pytest
import torch

from simulation.errors import BadSetting
from training.export import Core, exported, program_bytes
from training.models import Dm, GruMask, MpSenet, ReNet
from training.models.base import ModelConfig

SMALL: dict[str, Any] = {"channels": 4, "heads": 2, "blocks": 1, "dense_depth": 2, "kernel": 5, "fft_size": 32}
SMALL |= {"hop_size": 16}
RENET: dict[str, Any] = {"magnitude_channels": 4, "phase_channels": 2, "blocks": 1, "heads": 2, "dense_depth": 2}
RENET |= {"fft_size": 32, "hop_size": 16}
FRAMES = 5


@pytest.mark.parametrize(
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


def test_a_network_without_a_core_is_answered() -> None:
    """A recurrent mask works on frames as they come."""
    with pytest.raises(BadSetting, match="GruMask has no core from spectrum to spectrum; expected DM"):
        exported(GruMask.Config(width=8).build(), FRAMES)
