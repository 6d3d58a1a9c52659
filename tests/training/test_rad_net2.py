"""What is special to RaD-Net 2: sizes, no look ahead, running norms, complex attention, and what it is built of."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from training.models.rad_net2 import RadNet2
from training.models.rad_net2.axial import AxialAttention, FullAttention, PairedAttention
from training.models.rad_net2.denoising import (
    ComplexTransposed,
    Compression,
    Denoising,
    DenoisingNet,
    Depthwise,
    bounded,
    product,
)
from training.models.rad_net2.frame_denoising import FrameAttention
from training.models.rad_net2.program import kernels
from training.models.rad_net2.realtime import FrameByFrame
from training.models.rad_net2.repairing import Repairing
from training.models.rad_net2.temporal import ConvolutionModule, GatedLayer, RunningNorm, halvings, remainders
from training.models.streaming import Memory

Fill = Callable[[torch.nn.Module], None]
SMALL: dict[str, Any] = {
    "window_size": 240,
    "hop_size": 120,
    "fft_size": 256,
    "repairing": {"channels": 4, "stacks": 1, "dilations": (1, 2), "depth": 2},
    "denoising": {"features": 4, "channels": (4, 4), "squeezed": 4, "depth": 2},
}
STAGE_1 = {"denoising": None}
TEACHER = {"denoising": None, "sees_both_sides": True}


def small(fill: Fill, **changes: object) -> RadNet2:
    """A narrow network with weights by rule, in double precision, in eval mode."""
    model = RadNet2.Config.model_validate(SMALL | changes).build().double().eval()
    fill(model)
    return model


def random(*shape: int) -> torch.Tensor:
    """Normal numbers, always the same."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def complex_of(pair: torch.Tensor) -> torch.Tensor:
    """Complex numbers out of parts along the second axis."""
    return torch.complex(pair[:, 0], pair[:, 1])


def pair_of(numbers: torch.Tensor) -> torch.Tensor:
    """And back."""
    return torch.stack([numbers.real, numbers.imag], dim=1)


def parameters(module: torch.nn.Module | None) -> int:
    """How many numbers it learns."""
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("denoising", "count"),
    [
        ({}, 4_563_674),
        ({"channels": (16, 16, 32, 32, 32, 32), "squeezed": 32}, 1_518_554),
        ({"stacks": 2}, 7_651_034),
        ({"attention": "none"}, 4_563_674 - 424),
    ],
)
def test_stage_2_has_its_sizes(denoising: dict[str, Any], count: int) -> None:
    """Default, small, two stacks; attention weighs 424."""
    with torch.device("meta"):
        model = RadNet2.Config(denoising=Denoising.model_validate(denoising)).build()
    assert parameters(model.repairing) == 3_985_524
    assert parameters(model.denoising) == count


def test_stage_1_and_its_teacher_have_one_size() -> None:
    """COM-Net with plain outputs, with a norm and a slope on each, and the one that sees both sides."""
    with torch.device("meta"):
        assert parameters(RadNet2.Config(denoising=None).build()) == 3_985_524
        assert parameters(RadNet2.Config(denoising=None, sees_both_sides=True).build()) == 3_985_524
        assert parameters(RadNet2.Config(denoising=None, repairing=Repairing(output_norm=True)).build()) == 3_985_530


def test_the_way_down_is_the_way_up() -> None:
    """513 bins become 127, 31 and 7, and come back with two bins added at the end."""
    assert halvings(513, 3, 7, 4) == (513, 127, 31, 7)
    assert remainders((513, 127, 31, 7), 7, 4) == (2, 0, 0)


def first_difference(model: RadNet2, length: int) -> int:
    """The first output sample that differs where inputs differ from the middle on."""
    noisy, middle = 0.05 * random(1, length), length // 2
    changed = noisy.clone()
    changed[:, middle:] *= -2
    with torch.no_grad():
        return int((model(noisy) != model(changed))[0].nonzero()[0])


@pytest.mark.parametrize("stages", ["both", "stage 1", "stage 2"])
def test_no_sample_waits_longer_than_a_window(fill: Fill, stages: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 48 kHz, inputs that differ from a sample on give outputs that differ from 960 samples before it, no sooner."""
    changes = {"window_size": 960, "hop_size": 480, "fft_size": 1024} | (STAGE_1 if stages == "stage 1" else {})
    model, length = small(fill, **changes), 9600
    if stages == "stage 2":
        monkeypatch.setattr(model.repairing, "forward", lambda x, _: x)
    assert length // 2 - 960 <= first_difference(model, length) < length // 2
    assert model.sample_rate == 48000


def test_at_its_own_rate_the_wait_is_960_samples() -> None:
    """The challenge's limit: 20 ms at 48 kHz."""
    assert RadNet2.Config().window_size == 960
    with torch.device("meta"):
        assert RadNet2.Config().build().latency_samples < 960


def test_the_teacher_sees_what_comes(fill: Fill) -> None:
    """Its output changes long before its input does, and it refuses to answer in pieces."""
    model = small(fill, **TEACHER)
    assert first_difference(model, 4800) < 2400 - 2 * model.config.window_size
    assert not model.causal
    with pytest.raises(NotImplementedError):
        model.stream(None, random(1, 480))
    with pytest.raises(NotImplementedError):
        model.streamer()(None, random(1, 480))


def test_the_convolutions_of_the_teacher_look_as_far_ahead_as_back(fill: Fill) -> None:
    """Three frames either way for dilations 1 and 2; those of the student six frames back."""
    module = ConvolutionModule(3, 2).double().eval()
    fill(module)
    x = random(1, 3, 15, 4)
    changed = x.clone()
    changed[:, :, 7] += 1
    with torch.no_grad():
        both = (module(changed, None) != module(x, None)).any(dim=-1).any(dim=1)[0].nonzero().flatten()
        past = (module(changed, Memory()) != module(x, Memory())).any(dim=-1).any(dim=1)[0].nonzero().flatten()
    assert both.tolist() == list(range(4, 11))
    assert past.tolist() == list(range(7, 14))


def test_a_student_and_its_teacher_have_features_to_compare(fill: Fill) -> None:
    """Maps down, stacks, maps up but the last of either part: equal shapes, other values."""
    noisy = 0.05 * random(1, 2400)
    with torch.no_grad():
        mine, theirs = (small(fill, **stage).estimate(noisy).features for stage in (STAGE_1, TEACHER))
    assert [one.shape for one in mine] == [one.shape for one in theirs]
    assert len(mine) == 3 + 1 + 2 + 2
    assert not torch.allclose(mine[-1], theirs[-1])


def test_with_the_weights_of_its_teacher_nothing_is_left_to_learn(fill: Fill) -> None:
    """Of two networks that see both sides and have equal weights, every feature is the same."""
    teacher, student = small(fill, **TEACHER), small(lambda _: None, **TEACHER)
    student.load_state_dict(teacher.state_dict())
    noisy = 0.05 * random(1, 2400)
    with torch.no_grad():
        pairs = zip(teacher.estimate(noisy).features, student.estimate(noisy).features, strict=True)
        assert all(torch.equal(theirs, mine) for theirs, mine in pairs)


def test_digital_silence_has_a_gradient(fill: Fill) -> None:
    """A root at zero has none: every weight's gradient is finite where frames are nothing but zeros."""
    model = small(fill)
    noisy = 0.05 * random(1, 2400)
    noisy[:, 600:] = 0
    model(noisy).square().sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


def test_parts_of_a_skip_meet_their_own_kind() -> None:
    """On the way up, real parts of both inputs stand before all imaginary ones: turned inputs come out turned."""
    torch.manual_seed(0)
    up, lower, skip = ComplexTransposed(4, 2).double(), random(1, 2, 2, 3, 4), random(1, 2, 2, 3, 4) + 1

    def out(turn: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return complex_of(up(torch.cat([turn(lower), turn(skip)], dim=2), Memory()))

    with torch.no_grad():
        assert up.bias is not None
        up.bias.zero_()
        turned = out(lambda z: torch.stack([-z[:, 1], z[:, 0]], dim=1))
        assert torch.allclose(turned, 1j * out(lambda z: z))


def test_a_running_norm_knows_the_past_alone() -> None:
    """Each frame by mean and deviation of all channels and bins up to it."""
    norm, x = RunningNorm(3).double(), 2 + 5 * random(2, 3, 6, 4)
    out = norm(x, Memory())
    for frame in range(6):
        past = x[1, :, : frame + 1]
        wanted = (x[1, :, frame] - past.mean()) / (past.var(correction=0) + 1e-5).sqrt()
        assert torch.allclose(out[1, :, frame], wanted)


def test_a_running_norm_stays_exact_over_minutes() -> None:
    """30,000 frames far from zero in single precision: a deviation of one is still one."""
    norm, x = RunningNorm(2), (1000 + random(1, 2, 30_000)).float()
    memory, out = Memory(), torch.empty(0)
    for chunk in x.split(1000, dim=2):
        out = norm(chunk, memory)
        memory = Memory(memory.kept())
    assert out.std().item() == pytest.approx(1.0, rel=0.02)
    assert abs(out.mean().item()) < 0.05


@pytest.mark.parametrize("changes", [{}, STAGE_1, {"denoising": {**SMALL["denoising"], "window": 9}}])
def test_pieces_make_the_whole(fill: Fill, changes: dict[str, Any]) -> None:
    """Any cutting into pieces; what is remembered does not grow."""
    model, noisy = small(fill, **changes), 0.05 * random(1, 4000)
    generator, state, ready, sizes = torch.Generator().manual_seed(2), None, [], set()
    with torch.no_grad():
        padded = torch.nn.functional.pad(noisy, (0, model.latency_samples))
        while padded.shape[-1]:
            size = int(torch.randint(1, 700, (1,), generator=generator))
            state, out = model.stream(state, padded[:, :size])
            padded = padded[:, size:]
            ready.append(out)
            sizes.add(sum(tensor.numel() for tensor in state.layers) if state.layers else 0)
        found, whole = torch.cat(ready, dim=-1)[:, :4000], model(noisy)
    assert (found - whole).abs().max() < 1e-10 * whole.abs().max()
    assert len(sizes - {0}) == 1


FRAME_BY_FRAME: dict[str, dict[str, Any]] = {
    "both": {},
    "stage 1": STAGE_1,
    "output norms": STAGE_1 | {"repairing": {**SMALL["repairing"], "output_norm": True}},
    "no attention": {"denoising": {**SMALL["denoising"], "attention": "none", "depth": 0}},
    "two stacks, any mask": {"denoising": {**SMALL["denoising"], "stacks": 2, "bounded_masks": False}},
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", FRAME_BY_FRAME)
def test_the_streamer_answers_as_the_network_does(fill: Fill, case: str, compiled: bool) -> None:
    """Frame by frame, two waveforms at once, any cutting into pieces: the whole; what is remembered does not grow."""
    model, noisy = small(fill, **FRAME_BY_FRAME[case]), 0.05 * random(2, 3600)
    streamer, generator, state, ready, sizes = model.streamer(compiled), torch.Generator().manual_seed(2), None, [], []
    if compiled and kernels(torch.float64) is None:
        pytest.skip("there is no C++ compiler")
    assert isinstance(streamer, FrameByFrame) and (streamer.compiled is not None) == compiled
    padded = torch.nn.functional.pad(noisy, (0, model.latency_samples))
    while padded.shape[-1]:
        size = int(torch.randint(1, 700, (1,), generator=generator))
        state, out = streamer(state, padded[:, :size])
        padded = padded[:, size:]
        ready.append(out)
        sizes.append(sum(stream.bytes() for stream in state))
    with torch.no_grad():
        found, whole = torch.cat(ready, dim=-1)[:, :3600], model(noisy)
    assert (found - whole).abs().max() < 1e-10 * whole.abs().max()
    assert len(set(sizes[len(sizes) // 2 :])) == 1


def test_without_a_compiler_frames_are_answered_all_the_same(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has none, and one whose compiler fails, gets the streamer of PyTorch's operations."""
    kernels.cache_clear()
    for found in (None, "false"):
        monkeypatch.setattr("training.models.rad_net2.program.shutil.which", lambda _, found=found: found)
        streamer = small(fill, **STAGE_1).streamer()
        assert isinstance(streamer, FrameByFrame) and streamer.compiled is None
        kernels.cache_clear()
    assert streamer(None, 0.05 * random(1, 480))[1].isfinite().all()


def test_a_layer_that_is_too_wide_to_be_compiled_is_answered_all_the_same(fill: Fill) -> None:
    """Attention of wider maps than the C++ has is PyTorch's."""
    streamer = small(fill, denoising={**SMALL["denoising"], "features": 20}).streamer()
    assert isinstance(streamer, FrameByFrame) and streamer.compiled is None


@pytest.mark.parametrize("size", [0.1, 40.0])
def test_attention_frame_by_frame_is_the_network_s(fill: Fill, size: float) -> None:
    """Over more keys than a strip has; with products so small that none can overflow, and with larger ones."""
    attention, z = PairedAttention(8, window=0, causal=True).double().eval(), size * random(1, 2, 8, 1, 300)
    fill(attention)
    with torch.no_grad():
        wanted = attention(z, None)[0, :, :, 0]
        found = FrameAttention(attention)(z[0, :, :, 0].flatten(0, 1).T.contiguous())
    assert torch.allclose(found.T.unflatten(0, (2, 8)), wanted)


def test_attention_knows_no_order_of_bins(fill: Fill) -> None:
    """Other order in, the same order out; and a frame alone changes what comes out of it."""
    attention = PairedAttention(8, window=0, causal=True).double().eval()
    fill(attention)
    z, order = random(1, 2, 8, 5, 12), torch.randperm(12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(attention(z[..., order], None), attention(z, None)[..., order])
        changed = z.clone()
        changed[:, :, :, 3] += 1
        same = (attention(changed, None) == attention(z, None)).all(dim=-1).all(dim=2).all(dim=1)[0]
    assert same.tolist() == [True, True, True, False, True]


def test_queries_keys_and_values_lie_interleaved(fill: Fill) -> None:
    """Channel 3c is a query, 3c + 1 a key, 3c + 2 a value: softmax of their products, written out for one frame."""
    attention = AxialAttention(8).double().eval()
    fill(attention)
    x = random(1, 8, 1, 5)
    with torch.no_grad():
        query, key, value = (attention.frequency(x)[0, part::3, 0].T for part in range(3))
        seen = (query @ key.T / 2**0.5).softmax(-1) @ value
        assert torch.allclose(attention(x, None), attention.out(seen.T[None, :, None]))


def test_paired_attention_is_a_complex_map(fill: Fill) -> None:
    """(A + jB)(x + jy), and the input added."""
    paired = PairedAttention(8, window=0, causal=True).double().eval()
    fill(paired)
    z = random(1, 2, 8, 2, 5)
    x, y = z[:, 0], z[:, 1]
    with torch.no_grad():
        a, b = paired.real, paired.imaginary
        wanted = torch.stack([a(x, None) - b(y, None), a(y, None) + b(x, None)], dim=1)
        assert torch.allclose(paired(z, None), z + wanted)


def test_attention_along_time_sees_its_window(fill: Fill) -> None:
    """The newest frames, as many as the window has; the first frame is finite, the future is not seen."""
    attention = AxialAttention(8, window=3).double().eval()
    fill(attention)
    x = random(1, 8, 7, 4)
    with torch.no_grad():
        before = attention(x, Memory())
        changed = x.clone()
        changed[:, :, 2] += 1
        differs = (attention(changed, Memory()) != before).any(dim=-1).any(dim=1)[0]
    assert before.isfinite().all()
    assert differs.tolist() == [False, False, True, True, True, False, False]


def test_all_eight_products_are_a_complex_attention(fill: Fill) -> None:
    """With weights of one frame: softmax of each real product of queries and keys, on complex values, put together."""
    attention = FullAttention(4).double().eval()
    fill(attention)
    z = random(1, 2, 4, 1, 6)
    with torch.no_grad():
        inner = attention.norm(
            torch.cat([attention.inward(z[:, 0]), attention.inward(z[:, 1])], 1)
            + torch.cat([-attention.inward_imaginary(z[:, 1]), attention.inward_imaginary(z[:, 0])], 1)
        )
        q, k, v = (inner.unflatten(1, (2, 1, 3))[0, :, :, part, 0] for part in range(3))  # [2, width, bins]

        def seen(a: int, b: int, c: int) -> torch.Tensor:
            return (q[a].T @ k[b] / attention.width**0.5).softmax(-1) @ v[c].T

        r, i = 0, 1
        real = seen(r, r, r) - seen(r, i, i) - seen(i, r, i) - seen(i, i, r)
        imaginary = seen(r, r, i) + seen(r, i, r) + seen(i, r, r) - seen(i, i, i)
        value = torch.stack([real.T, imaginary.T]).unsqueeze(0).unsqueeze(3)
        out = attention.out_norm(
            torch.cat([attention.outward(value[:, 0]), attention.outward(value[:, 1])], 1)
            + torch.cat([-attention.outward_imaginary(value[:, 1]), attention.outward_imaginary(value[:, 0])], 1)
        )
        assert torch.allclose(attention(z, None), z + out.unflatten(1, (2, -1)))


def test_a_turned_input_comes_out_turned() -> None:
    """Complex layers without biases: j times the input gives j times the output."""
    torch.manual_seed(0)
    depthwise, up = Depthwise(3, 2).double(), ComplexTransposed(3, 2).double()
    with torch.no_grad():
        assert depthwise.bias is not None and up.bias is not None
        depthwise.bias.zero_()
        up.bias.zero_()
        z = random(2, 2, 3, 6, 5)
        turned = torch.stack([-z[:, 1], z[:, 0]], dim=1)
        for layer in (depthwise, lambda each: up(each, Memory())):
            out, out_turned = complex_of(layer(z)), complex_of(layer(turned))
            assert torch.allclose(out_turned, 1j * out)


def test_complex_layers_multiply_complex_numbers() -> None:
    """The depthwise convolution is torch's with complex weights; the product is Python's."""
    torch.manual_seed(0)
    layer, z = Depthwise(3, 2).double(), random(2, 2, 3, 6, 5)
    with torch.no_grad():
        assert layer.bias is not None
        layer.bias.zero_()
        wanted = torch.nn.functional.conv2d(
            complex_of(z), torch.complex(layer.real, layer.imaginary), padding=(0, 1), dilation=(2, 1), groups=3
        )
        assert torch.allclose(complex_of(layer(z)), wanted)
    assert torch.allclose(complex_of(product(z, z + 1)), complex_of(z) * complex_of(z + 1))


def test_a_bounded_mask_keeps_its_angle() -> None:
    """Its modulus is the hyperbolic tangent of what it was."""
    z = 2 * random(1, 2, 3, 4, 5)
    assert torch.allclose(complex_of(bounded(z)).abs(), complex_of(z).abs().tanh(), atol=1e-6)
    assert torch.allclose(complex_of(bounded(z)).angle(), complex_of(z).angle())


def test_the_way_up_in_time_keeps_its_frame() -> None:
    """A transposed convolution spreads a frame over itself and the next, never over the one before."""
    torch.manual_seed(0)
    up, z = ComplexTransposed(2, 2).double(), torch.zeros(1, 2, 2, 5, 4, dtype=torch.float64)
    z[:, :, :, 2] = 1
    with torch.no_grad():
        reached = (up(z, Memory()) != 0).any(dim=-1).any(dim=2).any(dim=1)[0]
    assert reached.tolist() == [False, False, True, True, False]


def test_compression_is_undone() -> None:
    """A learnt power of each bin, and its inverse; phases stay; at the beginning it is the root."""
    compression, z = Compression(5).double(), 3 * random(1, 2, 4, 5)
    found = complex_of(compression(z))
    assert torch.allclose(found.abs(), complex_of(z).abs().sqrt(), atol=1e-6)
    assert torch.allclose(found.angle(), complex_of(z).angle())
    with torch.no_grad():
        compression.logit.copy_(torch.linspace(-1, 1, 5))
    assert torch.allclose(compression.expanded(compression(z)), z, rtol=1e-4, atol=1e-6)


def test_one_branch_of_a_gate_has_the_sigmoid(fill: Fill) -> None:
    """A gate at minus infinity closes the layer; at infinity it lets the value through as it is."""
    layer = GatedLayer(6, 3, 3, 1).double()
    fill(layer)
    with torch.no_grad():
        layer.gate.convolution.weight.zero_()
        assert layer.gate.convolution.bias is not None
        layer.gate.convolution.bias.fill_(-1e9)
        outward = layer.outward(torch.zeros(1, 3, 5, dtype=torch.float64), Memory())
        x = random(1, 6, 5)
        assert torch.allclose(layer(x, Memory()), x + outward)
        layer.gate.convolution.bias.fill_(1e9)
        value = layer.value(layer.inward(x), Memory())
        assert value.min() < 0
        assert torch.allclose(layer(x, Memory()), x + layer.outward(value, Memory()))


def test_the_level_of_the_whole_is_not_taken_away(fill: Fill) -> None:
    """Ten times the input is another input: what comes out is neither the same nor just ten times it."""
    model, noisy = small(fill, **STAGE_1), 0.01 * random(1, 4000)
    with torch.no_grad():
        quiet, loud = model(noisy), model(10 * noisy)
    assert (quiet - loud).norm() > 0.1 * quiet.norm()
    assert (10 * quiet - loud).norm() > 0.1 * loud.norm()


def test_a_frozen_first_stage_stays_as_it_is() -> None:
    """Neither weights nor running statistics: it is in eval mode while the second one trains."""
    config = RadNet2.Config.model_validate(SMALL | {"frozen_repairing": True})
    torch.manual_seed(0)
    model = config.build().double().train()
    before = {name: value.clone() for name, value in model.repairing.state_dict().items()}
    model(0.05 * random(2, 1000))
    assert all(torch.equal(value, before[name]) for name, value in model.repairing.state_dict().items())
    assert model.learning_rate_scales() == {"repairing.": 0.0}
    assert model.denoising is not None and model.denoising.training


def test_the_repaired_waveform_is_a_branch(fill: Fill) -> None:
    """It is what stage 1 alone would give."""
    model, alone = small(fill), small(fill, **STAGE_1)
    alone.repairing.load_state_dict(model.repairing.state_dict())
    noisy = 0.05 * random(1, 2000)
    with torch.no_grad():
        enhanced, branches = model.estimate(noisy)[:2]
        assert torch.allclose(branches["repaired"], alone(noisy))
        assert torch.equal(enhanced, model(noisy))


@pytest.mark.parametrize(
    "changes", [{"sees_both_sides": True}, {"fft_size": 250}, {"hop_size": 100}, {"denoising": {"channels": [4] * 7}}]
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    """A teacher has no second stage; sizes must divide."""
    with pytest.raises(ValidationError):
        RadNet2.Config.model_validate(SMALL | changes)


def test_without_attention_there_is_none() -> None:
    """The ablation's switch."""
    assert DenoisingNet(Denoising(**(SMALL["denoising"] | {"attention": "none"})), 128).encoder.attention is None


@pytest.mark.parametrize("case", ["tfcm_causal", "tfcm_noncausal", "asa_causal", "asa_noncausal"])
def test_modules_compute_what_their_authors_do(case: str, reference: Callable[[str], Any], by_rule: Any) -> None:
    """MTFAA-Net's convolution module and axial attention, in double precision."""
    facts = reference("mtfaa_modules")
    found, wanted = mtfaa(case, facts, by_rule)
    assert ((found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()).item() < 1e-10


def mtfaa(case: str, facts: Any, by_rule: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Our output and theirs, flat and as thinned out as theirs."""
    entry = facts.facts["cases"][case]
    causal = entry["constructor"]["causal"]
    module: torch.nn.Module
    if case.startswith("tfcm"):
        module, names = ConvolutionModule(24), TFCM_NAMES
    else:
        module, names = AxialAttention(64, window=20, causal=causal), ASA_NAMES
    state = {ours(each["name"], names): by_rule(each["name"], each["shape"], each["rule"]) for each in entry["state"]}
    across = {name: value.mT for name, value in state.items() if name.endswith("across.weight")}  # their bins are first
    state |= across
    module.double().eval().load_state_dict(state)
    x = facts.arrays[f"{case}/in/0"].transpose(2, 3)
    with torch.no_grad():
        out = module(x, Memory() if causal else None)
    out = (out if case.startswith("tfcm") else x + out).transpose(2, 3).flatten()
    return out[:: entry["output"]["stride"]], facts.arrays[f"{case}/out"].double()


TFCM_NAMES = {
    "tfcm.": "blocks.",
    "pconv1.": "inward.",
    "dila_conv.1.": "across.",
    "dila_conv.2.": "normed.0.",
    "dila_conv.3.": "normed.1.",
    "pconv2.": "outward.",
}
ASA_NAMES = {"f_qkv.": "frequency.", "t_qk.": "time.", "proj.": "out."}


def ours(name: str, names: dict[str, str]) -> str:
    """Their name of a weight as ours."""
    for theirs, mine in names.items():
        name = name.replace(theirs, mine)
    return name
