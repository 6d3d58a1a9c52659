"""What is special to RENet: its output turns with the phase of its input, and it computes what its authors' does."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from training.models import ReNet
from training.models.base import Polar
from training.models.equivariant import ComplexConvolution, ComplexGlu, ComplexLinear
from training.models.renet import HybridAttention, InteractiveConvolution, InteractiveDense, Streams
from training.name_maps import RENET

Fill = Callable[[torch.nn.Module], None]
ANGLES = (0.3, 2.1)
"""Radians; not 0, 90 or 180 degrees, at which a missing conjugate goes unseen."""
SMALL = {
    "magnitude_channels": 6,
    "phase_channels": 4,
    "blocks": 1,
    "heads": 2,
    "magnitude_head": 3,
    "phase_head": 2,
    "glu_width": 5,
    "dense_depth": 2,
    "hop_size": 200,
}


def small(fill: Fill | None = None, **changes: object) -> ReNet:
    """A narrow RENet in double precision, in eval mode; with weights by rule where gates should not be 1."""
    torch.manual_seed(0)
    model = ReNet.Config.model_validate(SMALL | changes).build().double().eval()
    if fill is not None:
        fill(model)
    return model


def spectrum(frames: int = 12, dtype: torch.dtype = torch.float64) -> Polar:
    """A random compressed magnitude and phase."""
    generator = torch.Generator().manual_seed(3)
    magnitude = torch.randn(1, 201, frames, dtype=torch.float64, generator=generator).abs()
    phase = math.pi * (2 * torch.rand(1, 201, frames, dtype=torch.float64, generator=generator) - 1)
    return Polar(magnitude.to(dtype), phase.to(dtype))


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Root mean square of the difference, relative to what is wanted."""
    return float((found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())


def rotated(point: torch.Tensor, angle: float) -> torch.Tensor:
    """Complex numbers, parts along the second axis, times e^(i angle)."""
    turned = torch.view_as_complex(point.movedim(1, -1).contiguous()) * complex(math.cos(angle), math.sin(angle))
    return torch.view_as_real(turned).movedim(-1, 1)


def rotation_error(model: ReNet, noisy: Polar, angle: float) -> tuple[float, float]:
    """Largest error of the complex output over its root mean square, and relative change of the magnitude."""
    with torch.no_grad():
        magnitude, point = model.points(noisy)
        turned_magnitude, turned_point = model.points(Polar(noisy.magnitude, noisy.phase + angle))
    error = (turned_point - rotated(point, angle)).square().sum(1).sqrt().max()
    return float(error / point.square().sum(1).mean().sqrt()), distance(turned_magnitude, magnitude)


@pytest.mark.parametrize(
    ("settings", "count"),
    [({}, 1_549_969), ({"magnitude_channels": 32, "magnitude_head": 8}, 900_529)],
    ids=["standard", "small"],
)
def test_renet_has_the_published_size(settings: dict[str, Any], count: int) -> None:
    """1.55 M and 0.90 M."""
    model = ReNet.Config.model_validate(settings).build()
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_every_part_of_renet_has_its_size() -> None:
    """What the layers of the paper's figure add up to, one by one."""
    model = ReNet.Config().build()
    parts = {
        "first": 3_440,
        "encoder": 240_256,
        "down": 18_272,
        "blocks.0.time": 130_592,
        "decoder": 208_256,
        "up": 34_848,
        "magnitude_head": 97,
        "phase_head": 64,
    }
    for name, count in parts.items():
        assert sum(parameter.numel() for parameter in model.get_submodule(name).parameters()) == count, name


@pytest.mark.parametrize(("key", "phased"), [("out/pha", True), ("out/zero_phase_pha", False)])
def test_renet_computes_what_the_authors_network_computes(reference: Any, key: str, phased: bool) -> None:
    """In double precision, with weights carried over by the name map; enhancing, and retrieving a phase from none."""
    theirs = reference("renet_standard")
    model = ReNet.Config().build().double().eval()
    RENET.load(model, theirs.state)
    phase = theirs.arrays["in/pha"] * phased
    with torch.no_grad():
        found = model.polar(Polar(theirs.arrays["in/mag"], phase))
    if phased:
        assert distance(found.magnitude, theirs.arrays["out/mag"]) < 1e-10
    difference = found.phase - theirs.arrays[key]
    assert torch.polar(torch.ones_like(difference), difference).angle().abs().max() < 1e-9


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["single", "double"])
def test_the_phase_turns_with_the_input(fill: Fill, angle: float, dtype: torch.dtype, limit: float) -> None:
    """At full size: the complex output turns by the angle that the input turned by, and the magnitude stays."""
    model = ReNet.Config().build().eval()
    fill(model)
    turned, changed = rotation_error(model.to(dtype), spectrum(8, dtype), angle)
    assert turned < limit
    assert changed < limit


def test_biases_in_the_phase_stream_break_the_rotation(fill: Fill) -> None:
    """The ablation is one: without the constraint the output does not turn."""
    turned, _ = rotation_error(small(fill, equivariant=False), spectrum(), ANGLES[0])
    assert turned > 0.05


@pytest.mark.parametrize("changes", [{"interaction": False}, {"hybrid": False}], ids=["no gates", "two attentions"])
def test_the_other_ablations_still_turn(fill: Fill, changes: dict[str, bool]) -> None:
    """Gates and the shared attention are not what makes it turn."""
    assert rotation_error(small(fill, **changes), spectrum(), ANGLES[0])[0] < 1e-12


@pytest.mark.parametrize("floors", [False, True])
def test_a_flipped_sign_comes_out_flipped(fill: Fill, floors: bool) -> None:
    """From waveform to waveform, through a stretch near silence; the floors of the authors' front end do not let it."""
    model = small(fill, phase_floors=floors)
    noisy = 0.05 * torch.randn(2, 8000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noisy[:, 2000:5000] *= 1e-5
    with torch.no_grad():
        enhanced, flipped = model(noisy), model(-noisy)
    assert (distance(-flipped, enhanced) < 1e-4) != floors


def test_every_gate_is_open_by_one_before_training() -> None:
    """With and without gates a fresh network gives the same, up to the rounding of ln 2 in 32 bits."""
    gated, open_ = small(), small(interaction=False)
    open_.load_state_dict(gated.state_dict(), strict=False)
    with torch.no_grad():
        for found, wanted in zip(gated.points(spectrum()), open_.points(spectrum()), strict=True):
            assert distance(found, wanted) < 1e-6


def test_the_magnitude_is_not_negative_and_the_phase_is_wrapped(fill: Fill) -> None:
    """And 201 bins go in and come out."""
    with torch.no_grad():
        found = small(fill).polar(spectrum())
    assert found.magnitude.shape == found.phase.shape == (1, 201, 12)
    assert found.magnitude.min() >= 0
    assert found.magnitude.max() > 0
    assert found.phase.abs().max() <= math.pi


def test_the_newest_maps_stand_in_front() -> None:
    """In each stream: a second layer that passes its first channel on passes on what the first layer made."""
    torch.manual_seed(0)
    dense = InteractiveDense(ReNet.Config.model_validate(SMALL | {"interaction": False}), 9).double()
    seen: list[Streams] = []
    dense.layers[1].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    x = Streams(torch.randn(1, 2, 4, 5, 9).double(), torch.randn(1, 6, 5, 9).double())
    dense(x)
    newest = dense.layers[0](x)
    assert torch.equal(seen[0].phase, torch.cat([newest.phase, x.phase], 2))
    assert torch.equal(seen[0].magnitude, torch.cat([newest.magnitude, x.magnitude], 1))


def test_upsampled_bins_alternate_between_two_maps() -> None:
    """In both parts of the phase and in the magnitude: map r * channels + c becomes every other bin of channel c."""
    layer = InteractiveConvolution(
        ReNet.Config.model_validate(SMALL), (4, 6), (1, 3), 10, padding=1, upsample=True, gated=False
    )
    made = torch.arange(2 * 4 * 2 * 5.0).reshape(1, 2, 8, 1, 5)
    layer.phase = torch.nn.Identity()
    layer.magnitude = torch.nn.Identity()
    layer.phase_norm = torch.nn.Identity()
    layer.magnitude_norm = torch.nn.Identity()
    out = layer(Streams(made, made[:, 0]))
    for part in range(2):
        assert torch.equal(out.phase[:, part, :, :, 0::2], made[:, part, :4])
        assert torch.equal(out.phase[:, part, :, :, 1::2], made[:, part, 4:])
    assert torch.equal(out.magnitude[..., 1::2], torch.nn.functional.silu(made[:, 0, 4:]))


def test_complex_layers_are_complex_products() -> None:
    """One real layer with a block weight gives what torch's complex arithmetic gives."""
    torch.manual_seed(0)
    linear, convolution = ComplexLinear(3, 5).double(), ComplexConvolution(3, 5, (2, 3), padding=1).double()
    z = torch.randn(2, 7, 3, dtype=torch.complex128)
    found = torch.view_as_complex(linear(torch.view_as_real(z).movedim(-1, 2)).movedim(2, -1).contiguous())
    assert torch.allclose(found, z @ torch.complex(linear.real, linear.imaginary).T)
    image = torch.randn(2, 3, 6, 9, dtype=torch.complex128)
    weight = torch.complex(convolution.real, convolution.imaginary)
    wanted = torch.nn.functional.conv2d(image, weight, padding=(0, 1))
    found = torch.view_as_complex(convolution(torch.view_as_real(image).movedim(-1, 1)).movedim(1, -1).contiguous())
    assert torch.allclose(found, wanted)


def test_hybrid_attention_is_the_complex_formula() -> None:
    """softmax((Re(q k^H) + q k^T) / sqrt(width)) over places, written out with complex numbers."""
    torch.manual_seed(0)
    attention = HybridAttention(ReNet.Config.model_validate(SMALL)).double()
    x = Streams(torch.randn(3, 7, 2, 4).double(), torch.randn(3, 7, 6).double())

    def parts(projection: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        projected = projection(x)
        return torch.complex(projected[..., :2], projected[..., 2:4]), projected[..., 4:]

    (query, query_m), (key, key_m), (value, value_m) = map(parts, (attention.query, attention.key, attention.value))
    logits = (query @ key.mH).real + query_m @ key_m.mT
    weights = (logits / math.sqrt(2 * 2 + 3)).softmax(-1)
    phase = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
    out = attention(x)
    wanted = phase @ torch.complex(attention.phase_out.real, attention.phase_out.imaginary).T
    assert torch.allclose(torch.complex(out.phase[:, :, 0], out.phase[:, :, 1]), wanted)
    assert torch.allclose(out.magnitude, attention.magnitude_out((weights @ value_m).transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("place", [0, 9, 19])
def test_the_gated_feed_forward_reaches_three_places(place: int) -> None:
    """An impulse at a place moves outputs at most three places away, on both sides, and the length stays."""
    torch.manual_seed(0)
    layer = ComplexGlu(2, 4)
    with torch.no_grad():
        layer.up.real[4:, :].zero_()  # a gate of one modulus everywhere: what is left is convolution
        layer.up.imaginary[4:, :].zero_()
        layer.norm.bias.fill_(1.0)
    z = torch.zeros(1, 20, 2, 2)
    z[0, place] = 1.0
    moved = layer(z).abs().amax((2, 3))[0].nonzero().flatten().tolist()
    assert moved == list(range(max(place - 3, 0), min(place + 3, 19) + 1))


def test_norms_give_an_utterance_one_level() -> None:
    """After a convolution each channel has a root mean square of one over frames and bins, in both streams."""
    torch.manual_seed(0)
    layer = InteractiveConvolution(ReNet.Config.model_validate(SMALL), (1, 1), (1, 1), 9, gated=False).double()
    x = Streams(100 * torch.randn(2, 2, 1, 7, 9).double(), 100 * torch.randn(2, 1, 7, 9).double())
    phase = layer.phase_norm(layer.phase(x.phase))
    magnitude = layer.magnitude_norm(layer.magnitude(x.magnitude))
    assert torch.allclose(phase.square().sum(1).mean((-2, -1)), torch.ones(2, 4).double(), rtol=1e-6)
    assert torch.allclose(magnitude.square().mean((-2, -1)), torch.ones(2, 6).double(), rtol=1e-6)


def test_phase_retrieval_keeps_the_magnitude_and_ignores_the_phase(fill: Fill) -> None:
    """The sign of the input changes nothing, and the magnitude is the one that went in."""
    model = small(fill, retrieve_phase=True)
    noisy = 0.05 * torch.randn(1, 4000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = model.estimate(noisy)
        assert torch.equal(found.enhanced, model(-noisy))
    assert found.polar is not None
    gain = noisy.square().mean().add(1e-10).rsqrt()
    assert torch.allclose(found.polar.magnitude, model.analysed(model.stft(noisy * gain)).magnitude)


def test_sixteen_bits_are_enough_between_front_end_and_head(fill: Fill) -> None:
    """Under autocast to bfloat16 the spectrum stays in single precision and near what it was; it still turns."""
    model = small(fill).float()
    noisy = 0.05 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model.estimate(noisy).polar
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model.estimate(noisy).polar
            turned, _ = rotation_error(model, spectrum(8, torch.float32), ANGLES[0])
    assert found is not None and wanted is not None
    assert found.phase.dtype == found.magnitude.dtype == torch.float32
    assert distance(found.magnitude, wanted.magnitude) < 0.05
    assert turned < 0.2


def test_weights_by_rule_give_the_pinned_sums(fill: Fill) -> None:
    """What parity was shown for stays as it is, where the reference is not at hand."""
    with torch.no_grad():
        found = small(fill).polar(spectrum())
    sums = found.magnitude.sum().item(), torch.polar(*found).real.sum().item()
    assert sums == pytest.approx(GOLDEN, rel=1e-9)


GOLDEN = (448.717760620868, -15.871998263867871)
"""Sum of the magnitude, and of the real part of the spectrum."""


@pytest.mark.parametrize("settings", [{"fft_size": 402}, {"hop_size": 300}, {"channels": 64}, {"phase_channels": 0}])
def test_settings_that_do_not_fit_are_refused(settings: dict[str, int]) -> None:
    """An even number of bins, gaps between frames, a misspelt key, no phase at all."""
    with pytest.raises(ValidationError):
        ReNet.Config.model_validate(settings)
