"""What every network of the union keeps."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from training.checkpoint import load_version, save_version, weights_digest
from training.models import AnyModel, BspMpnet, CausalReNet, Dm, GpUnified, GruMask, MpSenet, RadNet2, ReNet
from training.models.base import Enhancer, ModelConfig

DM = {"channels": 4, "heads": 2, "blocks": 1, "dense_depth": 2, "kernel": 5, "hop_size": 200}
MP_SENET = DM
RENET = {"magnitude_channels": 4, "phase_channels": 2, "blocks": 1, "heads": 2, "magnitude_head": 2, "phase_head": 1}
RENET |= {"glu_width": 3, "dense_depth": 2, "hop_size": 200}
GP_UNIFIED = {"channels": 4, "multipliers": (1, 1, 2), "blocks": 1, "attention_bins": (64,), "sampling": {"steps": 1}}
RAD_NET_2: dict[str, Any] = {
    "window_size": 240,
    "hop_size": 120,
    "fft_size": 256,
    "repairing": {"channels": 4, "stacks": 1, "dilations": (1, 2), "depth": 2},
    "denoising": {"features": 4, "channels": (4, 4), "squeezed": 4, "depth": 2},
}
SSL = {
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "conv_dim": [4] * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
BSP_MPNET: dict[str, Any] = {
    "fft_size": 400,
    "channels": (2,),
    "width": 8,
    "heads": 2,
    "recurrent_width": 4,
    "fine_tuning": "entire",
    "ssl": {"width": 8, "layers": 2, "architecture": SSL},
}

SMOKE: list[ModelConfig] = [
    BspMpnet.Config.model_validate(BSP_MPNET),
    BspMpnet.Config.model_validate(
        BSP_MPNET | {"ssl": BSP_MPNET["ssl"] | {"kind": "data2vec", "normalise": True}, "phase_mask": "residual"}
    ),
    Dm.Config(channels=4, heads=2, blocks=1, dense_depth=2, kernel=5, hop_size=200),
    Dm.Config(channels=4, heads=2, blocks=1, dense_depth=2, kernel=5, hop_size=200, tie_head=True),
    Dm.Config.model_validate(DM | {"relative_positions": False, "tie_decoders": False, "tie_head": True}),
    Dm.Config.model_validate(DM | {"phase_decoder": True}),
    Dm.Config.model_validate(DM | {"branches": "mask"}),
    Dm.Config.model_validate(DM | {"branches": "map", "skip": False}),
    MpSenet.Config.model_validate(MP_SENET),
    MpSenet.Config.model_validate(MP_SENET | {"edition": "2023"}),
    MpSenet.Config.model_validate(MP_SENET | {"mask_decoder": False, "retrieve_phase": True}),
    ReNet.Config.model_validate(RENET),
    ReNet.Config.model_validate(RENET | {"equivariant": False, "interaction": False, "hybrid": False}),
    CausalReNet.Config.model_validate(RENET | {"window": 7}),
    CausalReNet.Config.model_validate(RENET | {"window": 30, "hop_size": 100, "interaction": False, "hybrid": False}),
    GpUnified.Config.model_validate(GP_UNIFIED),
    GpUnified.Config.model_validate(GP_UNIFIED | {"predictive_over_time": True}),
    RadNet2.Config.model_validate(RAD_NET_2),
    RadNet2.Config.model_validate(RAD_NET_2 | {"denoising": RAD_NET_2["denoising"] | {"attention": "full"}}),
    RadNet2.Config.model_validate(RAD_NET_2 | {"denoising": None, "sees_both_sides": True}),
    GruMask.Config(width=8, layers=2),
    GruMask.Config(width=8, layers=1, hop_size=100, mask_floor=0.1),
]


@pytest.fixture(params=SMOKE, ids=lambda config: f"{config.kind}-{SMOKE.index(config)}")
def model(request: pytest.FixtureRequest) -> Enhancer:
    """Each network, small, in eval mode and double precision."""
    torch.manual_seed(0)
    return request.param.build().double().eval()


def noise(batch: int, samples: int) -> torch.Tensor:
    """White noise at a usual level."""
    return 0.05 * torch.randn(batch, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def enhanced(model: Enhancer, noisy: torch.Tensor) -> torch.Tensor:
    """Its output; what a stochastic network draws from torch's generator is the same each time."""
    torch.manual_seed(0)
    return model(noisy)


def test_every_network_is_in_this_test() -> None:
    """A network that joins the union joins the family's promises."""
    union, _ = get_args(AnyModel)
    assert {type(config) for config in SMOKE} == set(get_args(union))


@pytest.mark.parametrize("samples", [1, 399, 16001])
def test_the_same_length_comes_out(model: Enhancer, samples: int) -> None:
    """For odd lengths, and for a single sample."""
    assert model(noise(2, samples)).shape == (2, samples)


def test_every_parameter_learns(model: Enhancer) -> None:
    """A gradient that is finite and not zero everywhere."""
    enhanced, branches = model.train().estimate(noise(2, 8000))[:2]
    (enhanced.square().sum() + sum(branch.square().sum() for branch in branches.values())).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_a_saved_network_is_the_same_network(model: Enhancer, tmp_path: Path) -> None:
    """Weights and settings survive the store bit for bit."""
    model.float()
    digest = save_version(model, str(tmp_path), {"recipe": "none"})
    loaded = load_version(str(tmp_path))
    assert loaded.config == model.config
    assert digest == weights_digest(loaded) == weights_digest(model)
    assert torch.equal(enhanced(loaded, noise(1, 4000).float()), enhanced(model, noise(1, 4000).float()))


def test_an_item_does_not_know_its_batch(model: Enhancer) -> None:
    """One item alone gives what the same item gives among others."""
    noisy = noise(3, 6001) * torch.tensor([[0.1], [1.0], [5.0]])
    together = enhanced(model, noisy)
    for item in range(3):
        assert torch.allclose(enhanced(model, noisy[item : item + 1])[0], together[item], rtol=1e-8, atol=1e-10)


def test_silence_stays_finite(model: Enhancer) -> None:
    """Digital silence neither divides by zero nor explodes."""
    enhanced = model(torch.zeros(1, 4000, dtype=torch.float64))
    assert enhanced.isfinite().all()
    assert enhanced.abs().max() < 1e-3


def test_a_network_hears_no_more_than_it_says(model: Enhancer) -> None:
    """Causal: a change from a sample on leaves all output before it less the latency as it was, and says no more."""
    change_at = 5003
    noisy = noise(1, 9000)
    changed = noisy.clone()
    changed[:, change_at:] = 3 * noise(1, 9000)[:, change_at:].flip(-1)
    differs = (enhanced(model, noisy) != enhanced(model, changed))[0].nonzero()
    first = int(differs[0])
    if not model.causal:
        assert model.latency_samples == 0
        return
    hop_size = model.config.hop_size  # type: ignore[attr-defined]
    assert change_at - model.latency_samples <= first <= change_at - model.latency_samples + hop_size


@pytest.mark.parametrize("sizes", [[1, 7, 399, 1, 1000], [200] * 12, [3000], [5, 0, 5]])
def test_a_causal_network_answers_in_pieces(model: Enhancer, sizes: list[int]) -> None:
    """Joined chunks are the whole, for any cutting; silence as long as the latency brings out the end."""
    if not model.causal:
        with pytest.raises(NotImplementedError):
            model.stream(None, noise(1, 100))
        return
    noisy = noise(2, sum(sizes))
    end = torch.zeros(2, model.latency_samples, dtype=torch.float64)
    state: Any = None
    ready = []
    for chunk in [*noisy.split(sizes, dim=-1), end]:
        state, out = model.stream(state, chunk)
        ready.append(out)
    assert torch.allclose(torch.cat(ready, dim=-1)[:, : noisy.shape[-1]], model(noisy), rtol=1e-8, atol=1e-10)
