"""Activation checkpointing: the same training in less memory."""

from typing import Any

import pytest
import torch

from training.models import Dm, MpSenet, ReNet
from training.models.base import Enhancer, ModelConfig

SMALL: dict[str, Any] = {"channels": 4, "heads": 2, "blocks": 2, "dense_depth": 3, "kernel": 5, "hop_size": 200}
RENET: dict[str, Any] = {"magnitude_channels": 4, "phase_channels": 2, "blocks": 2, "heads": 2, "hop_size": 200}

CONFIGS: list[ModelConfig] = [
    Dm.Config(**SMALL, dropout=0.3),
    Dm.Config(**SMALL, phase_decoder=True, tie_decoders=False, tie_head=True),
    MpSenet.Config(**SMALL),
    MpSenet.Config(**SMALL, edition="2023", dropout=0.3),
    ReNet.Config(**RENET),
]

every_network = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind}-{CONFIGS.index(config)}")


def pair(config: ModelConfig) -> list[Enhancer]:
    """The network as it is and with checkpointing, in training mode and double precision, equal weights."""
    models = []
    for switched in (False, True):
        torch.manual_seed(0)
        built = config.model_copy(update={"activation_checkpointing": switched}).build()
        models.append(built.double().train())
    return models


def learnt(model: Enhancer) -> tuple[torch.Tensor, int]:
    """Output of a step of training (gradients are left in the weights), and the bytes kept for the backward pass."""
    noisy = 0.05 * torch.randn(2, 6400, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(2)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        enhanced = model(noisy)
    enhanced.square().sum().backward()
    return enhanced.detach(), sum(kept.values())


@every_network
def test_checkpointing_changes_neither_output_nor_gradient_nor_statistics(config: ModelConfig) -> None:
    """Bit for bit, dropout included; a batch normalisation counts the batch once."""
    plain, thrifty = pair(config)
    assert torch.equal(learnt(plain)[0], learnt(thrifty)[0])
    for (name, one), other in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        assert one.grad is not None and torch.equal(one.grad, other.grad), name
    for (name, one), other in zip(plain.named_buffers(), thrifty.buffers(), strict=True):
        assert torch.equal(one, other), name


@every_network
def test_checkpointing_keeps_a_third_at_most(config: ModelConfig) -> None:
    """Of the bytes that wait for the backward pass."""
    plain, thrifty = pair(config)
    assert learnt(thrifty)[1] < learnt(plain)[1] / 3


@every_network
def test_weights_do_not_know_whether_they_were_trained_with_checkpointing(config: ModelConfig) -> None:
    """The names in the state are the same, so either network loads what the other learnt."""
    plain, thrifty = pair(config)
    thrifty.load_state_dict(plain.state_dict(), strict=True)
    assert list(plain.state_dict()) == list(thrifty.state_dict())


def test_nothing_is_computed_twice_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serving and evaluation do not pay for the switch."""

    def never(*arguments: object, **settings: object) -> None:
        raise AssertionError("checkpointed without a backward pass to come")

    monkeypatch.setattr("training.models.layers.checkpoint", never)
    _, thrifty = pair(CONFIGS[0])
    with torch.no_grad():
        thrifty.eval()(torch.zeros(1, 3200, dtype=torch.float64))
