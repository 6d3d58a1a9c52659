"""What is special to the causal RENet: it still turns with the phase, its norms run, its memory does not grow."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from training.models import CausalReNet
from training.models.base import Polar
from training.models.equivariant import modulus
from training.models.renet import Streams
from training.models.renet_causal import CausalConvolution, Memory, running_gain
from training.models.streaming import Heard

Fill = Callable[[torch.nn.Module], None]
SMALL = {
    "magnitude_channels": 6,
    "phase_channels": 4,
    "blocks": 2,
    "heads": 2,
    "magnitude_head": 3,
    "phase_head": 2,
    "glu_width": 5,
    "dense_depth": 2,
    "window": 5,
}


def small(fill: Fill, **changes: object) -> CausalReNet:
    """A narrow causal RENet with weights by rule, in double precision, in eval mode."""
    model = CausalReNet.Config.model_validate(SMALL | changes).build().double().eval()
    fill(model)
    return model


def noise(samples: int = 8000) -> torch.Tensor:
    """White noise at a usual level."""
    return 0.05 * torch.randn(1, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("angle", [0.3, 2.1])
def test_the_phase_turns_with_the_input(fill: Fill, angle: float) -> None:
    """The estimated phase turns by the angle that the input turned by, and the magnitude stays."""
    model, generator = small(fill), torch.Generator().manual_seed(3)
    magnitude = torch.randn(1, 201, 12, dtype=torch.float64, generator=generator).abs()
    phase = 2 * math.pi * torch.rand(1, 201, 12, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        found = model.polar(Polar(magnitude, phase), Memory(0, 5, ()))
        turned = model.polar(Polar(magnitude, phase + angle), Memory(0, 5, ()))
    difference = torch.polar(torch.ones_like(phase), turned.phase - found.phase - angle).angle().abs()
    assert difference.median() < 1e-7  # the floor of the last atan2 is all that does not turn
    assert torch.allclose(turned.magnitude, found.magnitude, rtol=1e-10, atol=1e-10)


def test_a_flipped_sign_comes_out_flipped(fill: Fill) -> None:
    """From waveform to waveform, through a stretch near silence."""
    model, noisy = small(fill), noise()
    noisy[:, 2000:5000] *= 1e-5
    with torch.no_grad():
        enhanced, flipped = model(noisy), model(-noisy)
    assert (enhanced + flipped).square().mean().sqrt() < 1e-4 * enhanced.square().mean().sqrt()


def test_a_running_norm_is_what_its_definition_says() -> None:
    """The mean over at most five frames and ten more of power 0.01, one over its root, at most six."""
    power = torch.rand(2, 3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    power[:, 0] *= 1e-4
    gain = running_gain(power, Memory(0, 5, ()), 1e-5)
    for frame in range(9):
        newest = power[..., max(frame - 4, 0) : frame + 1]
        mean = (newest.sum(-1) + 10 * 0.01) / (newest.shape[-1] + 10)
        assert torch.allclose(gain[..., frame], (mean + 1e-5).rsqrt().clamp(max=6.0))
    assert gain.max() == 6.0


def test_a_convolution_norms_what_it_heard() -> None:
    """Both streams come out with the gain of their own channel, from moduli in the phase stream."""
    torch.manual_seed(0)
    config = CausalReNet.Config.model_validate(SMALL)
    layer = CausalConvolution(config, (1, 1), (1, 1), 9, gated=False).double()
    x = Streams(torch.randn(1, 2, 1, 7, 9).double(), torch.randn(1, 1, 7, 9).double())
    out = layer(x, Memory(0, 5, ()))
    phase = layer.phase(x.phase)
    gain = running_gain(modulus(phase, 1).square().mean(-1), Memory(0, 5, ()), 1e-7)
    assert torch.allclose(out.phase, phase * gain[:, None, :, :, None])


def test_the_memory_does_not_grow(fill: Fill) -> None:
    """After the first chunk a state holds as many numbers as after the hundredth."""
    model, state, sizes = small(fill), None, []
    with torch.no_grad():
        for chunk in noise(20000).split(200, dim=-1):
            state, _ = model.stream(state, chunk)
            assert isinstance(state, Heard)
            sizes.append(sum(tensor.numel() for tensor in state.layers))
    assert state is not None and state.frames == 100
    assert len(set(sizes)) == 1


def test_attention_sees_the_window_and_no_more(fill: Fill) -> None:
    """A place sees itself and the four before it, never one that was not heard."""
    attention = small(fill).blocks[0].time.attention
    seen = attention._seen(torch.zeros(1, 7, 2, 4), Memory(2, 5, ()))
    assert seen.shape == (7, 4 + 7)
    assert seen.sum(1).tolist() == [3, 4, 5, 5, 5, 5, 5]
    assert seen[0].nonzero().flatten().tolist() == [2, 3, 4]
    assert seen[6].nonzero().flatten().tolist() == [6, 7, 8, 9, 10]


def test_weights_by_rule_give_the_pinned_sum(fill: Fill) -> None:
    """Nobody changes the network without noticing."""
    with torch.no_grad():
        assert small(fill)(noise()).square().sum().item() == pytest.approx(GOLDEN, rel=1e-9)


GOLDEN = 0.3344975767500026


@pytest.mark.parametrize("settings", [{"hop_size": 150}, {"window": 1}, {"fft_size": 402}])
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any]) -> None:
    """Hops that do not divide the window, no past at all, an even number of bins."""
    with pytest.raises(ValidationError):
        CausalReNet.Config.model_validate(settings)
