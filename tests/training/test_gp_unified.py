"""What is special to GP-Unified: two decoders on one encoder, equal to the authors' network, one checkpoint for all."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from simulation.errors import BadSetting
from training.blocks import enhance_any_length
from training.models import GpUnified, GruMask
from training.models.gp_unified import Sampling
from training.models.gp_unified.ncsnpp import Shape, TimeEmbedding, doubled, halved
from training.models.gp_unified.samplers import Outputs, sampled
from training.name_maps import SGMSE

Fill = Callable[[torch.nn.Module], None]
SMALL: dict[str, Any] = {"channels": 4, "multipliers": (1, 1, 2), "blocks": 1, "attention_bins": (64,)}
SMALL |= {"sampling": {"steps": 3}}


def small(fill: Fill | None = None, **changes: object) -> GpUnified:
    """A narrow GP-Unified of three levels in double precision; with weights by rule where decoders should speak."""
    torch.manual_seed(0)
    model = GpUnified.Config.model_validate(SMALL | changes).build().double().eval()
    if fill is not None:
        fill(model)
    return model


def noise(batch: int = 2, samples: int = 4000) -> torch.Tensor:
    """White noise at a usual level."""
    return 0.05 * torch.randn(batch, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def spectra(count: int, frames: int = 16) -> torch.Tensor:
    """Random states, [2, 256, frames] each."""
    generator = torch.Generator().manual_seed(2)
    return 0.3 * torch.randn(count, 2, 256, frames, dtype=torch.complex128, generator=generator)


def size(module: torch.nn.Module) -> int:
    """Parameters and buffers that are saved: the frozen frequencies among them."""
    return sum(tensor.numel() for tensor in module.state_dict().values())


def test_the_networks_have_the_published_sizes() -> None:
    """65.6 M and 106 M, to the last weight, and every part of them."""
    with torch.device("meta"):
        both = GpUnified.Config().build()
        score = GpUnified.Config(predictive_decoder=False, sampling=Sampling(mode="generative")).build()
    assert size(score) == 65_590_822
    assert size(both) == 106_782_796
    assert sum(parameter.numel() for parameter in both.parameters()) == 106_782_668
    bottleneck = size(both.encoder.before) + size(both.encoder.attention) + size(both.encoder.after)
    assert bottleneck == 2_888_704
    assert size(both.encoder) - bottleneck - size(both.encoder.embedding) == 21_115_776
    assert size(both.encoder.embedding) == 394_240 + 128
    assert size(both.generative) == 41_191_964 + 10


@pytest.fixture(scope="module")
def theirs(reference: Any) -> tuple[GpUnified, Any]:
    """The authors' outputs, and our network with their weights in double precision."""
    found = reference("sgmse_ncsnpp")
    config = GpUnified.Config(predictive_decoder=False, sampling=Sampling(mode="generative"))
    model = config.build().double().eval()
    SGMSE.load(model, found.state)
    return model, found


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Root mean square of the difference, relative to what is wanted."""
    return float((found - wanted).abs().square().mean().sqrt() / wanted.abs().square().mean().sqrt())


def last_map(out: Any) -> torch.Tensor:
    """What a part made; a level of the encoder made several, the last with the input mixed in."""
    return out if isinstance(out, torch.Tensor) else out[0][-1]


@pytest.mark.parametrize(("time", "stride"), [("0.5", 1), ("0.03", 7), ("1.0", 7)])
def test_the_score_network_computes_what_the_authors_does(
    theirs: tuple[GpUnified, Any], time: str, stride: int
) -> None:
    """In double precision, with weights carried over by the name map; the score is minus their output."""
    model, found = theirs
    state, noisy = found.arrays["in/x_t"][0], found.arrays["in/y"][0]
    with torch.no_grad():
        score = model.outputs(state, noisy, torch.tensor([float(time)], dtype=torch.float64), predict=False).score
    assert score is not None
    wanted = found.arrays[f"out/dnn_t{time}"].flatten()
    assert distance(-score.flatten()[::stride], wanted) < 1e-10


def test_every_part_computes_what_the_authors_does(theirs: tuple[GpUnified, Any]) -> None:
    """Nineteen tensors on the way through the network at t = 0.5."""
    model, found = theirs
    parts = {SGMSE.renamed(f"all_modules.{place}.").rstrip(".").removesuffix(".mix"): place for place in range(77)}
    parts["generative.head"] = -1
    seen: dict[int, torch.Tensor] = {}
    for name, part in model.named_modules():
        if name in parts:
            part.register_forward_hook(lambda _part, _in, out, place=parts[name]: seen.update({place: last_map(out)}))
    state, noisy = found.arrays["in/x_t"][0], found.arrays["in/y"][0]
    half = torch.tensor([0.5], dtype=torch.float64)
    with torch.no_grad():
        model.outputs(state, noisy, half, predict=False)
        seen[0] = model.encoder.embedding.features(half)
    for part in model.modules():
        part._forward_hooks.clear()
    assert len(found.facts["activations"]) == 19
    for name, facts in found.facts["activations"].items():
        place = -1 if name == "act/output_layer" else int(name.rpartition(".")[2])
        assert distance(seen[place].flatten()[:: facts["stride"]], found.arrays[name]) < 1e-10, name


@pytest.mark.long
def test_three_steps_of_sampling_are_the_authors(theirs: tuple[GpUnified, Any], numbered_noise: Any) -> None:
    """Driven by the network, with each state on the way."""
    model, found = theirs
    noisy = found.arrays["in/y"][0]
    states = []

    def network(state: torch.Tensor, time: torch.Tensor, predict: bool) -> Outputs:
        states.append(state)
        return model.outputs(state, noisy, time, predict=predict)

    with torch.no_grad():
        clean = sampled(
            network, noisy, model.config.sde, Sampling(mode="generative", steps=3), numbered_noise(noisy.shape, 2000)
        )
    assert distance(clean, found.arrays["out/sampler_N3"][0]) < 1e-9
    for place, state in enumerate(states):
        assert distance(state.flatten()[::17], found.arrays[f"act/sampler_state_{place}"]) < 1e-9


def test_the_spectrum_is_the_authors(reference: Any) -> None:
    """510 samples, hop 128, 0.15 |c|^0.5, and back."""
    arrays = reference("front_ends").arrays
    model = small()
    model.stft.window = torch.hann_window(510, dtype=torch.float64)  # ours is made in single precision
    found = model.compressed(arrays["in/wave"][None])
    assert distance(found, arrays["out/sgmse/spec"]) < 1e-10


def test_a_waveform_survives_its_spectrum() -> None:
    """Compressed and expanded again: the same within 1e-5, silence within it included."""
    model, noisy = small().float(), noise().float()
    noisy[:, 1000:2500] = 0
    heard = model.conditions(noisy)
    assert heard.spectrum.shape[-1] % model.config.shape.stride == 0
    assert (model.waveform(heard, noisy.shape[-1]) - noisy).abs().max() < 1e-5


def test_the_embedding_is_that_of_log_t() -> None:
    """t = 1 embeds log 1 = 0: sines 0, cosines 1; another time does not."""
    embedding = TimeEmbedding(Shape(channels=8)).double()
    sine, cosine = embedding.features(torch.ones(1, dtype=torch.float64)).chunk(2, dim=-1)
    assert (sine == 0).all()
    assert (cosine == 1).all()
    angle = 2 * math.pi * math.log(0.5) * embedding.frequencies
    assert torch.allclose(embedding.features(torch.tensor([0.5]).double())[0, :8], angle.double().sin(), atol=1e-5)


def test_halving_and_doubling_keep_a_constant() -> None:
    """Away from the edges, whose outside is zero."""
    flat = torch.ones(1, 3, 16, 16)
    assert torch.allclose(halved(flat)[..., 1:-1, 1:-1], torch.ones(1, 3, 6, 6))
    assert torch.allclose(doubled(flat)[..., 1:-1, 1:-1], torch.ones(1, 3, 30, 30))


def gradients(model: GpUnified, part: str) -> dict[str, float]:
    """Largest gradient in encoder and decoders when one output alone is asked to be small."""
    state, noisy = spectra(2)
    model.zero_grad()
    outputs = model.outputs(state, noisy, torch.tensor([0.2, 0.7]).double(), predict=True)
    getattr(outputs, part).abs().square().sum().backward()
    return {
        name: max(float(p.grad.abs().max()) if p.grad is not None else 0.0 for p in module.parameters())
        for name, module in model.named_children()
        if name != "stft"
    }


@pytest.mark.parametrize(("part", "silent"), [("score", "predictive"), ("clean", "generative")])
def test_each_loss_reaches_the_encoder_and_its_own_decoder(fill: Fill, part: str, silent: str) -> None:
    """And no weight of the other decoder."""
    found = gradients(small(fill), part)
    assert {name for name, value in found.items() if value == 0.0} == {silent}


def test_decoders_do_not_know_each_other(fill: Fill) -> None:
    """Other weights in the predictive decoder leave the score as it was, whether it was asked before or not."""
    model = small(fill)
    state, noisy = spectra(2)
    time = torch.tensor([0.2, 0.7]).double()
    with torch.no_grad():
        score, clean = model.outputs(state, noisy, time, predict=True)
        alone = model.outputs(state, noisy, time, predict=False).score
        predicted = model.outputs(state, noisy, time, generate=False, predict=True).clean
        assert model.predictive is not None
        for parameter in model.predictive.parameters():
            parameter.mul_(1.5)
        again, other = model.outputs(state, noisy, time, predict=True)
    assert score is not None and clean is not None and alone is not None and predicted is not None
    assert torch.equal(score, alone)
    assert torch.equal(clean, predicted)
    assert again is not None and torch.equal(again, score)
    assert other is not None and not torch.allclose(other, clean)


def test_the_predictive_head_is_not_divided_by_time(fill: Fill) -> None:
    """Unless it is asked to be: then it is minus the other's output over t, but for the bias of its last layer."""
    plain, alike = small(fill), small(fill, predictive_over_time=True)
    alike.load_state_dict(plain.state_dict())
    state, noisy = spectra(2)
    time = torch.tensor([0.2, 0.5]).double()
    with torch.no_grad():
        for model in (plain, alike):
            assert model.predictive is not None
            model.predictive.head.bias.zero_()
        direct, divided = (model.outputs(state, noisy, time, predict=True).clean for model in (plain, alike))
    assert direct is not None and divided is not None
    assert torch.allclose(divided, -direct / time[:, None, None])


def test_attention_is_a_matter_of_bins() -> None:
    """Whatever the number of frames, and in no other level."""
    shape = Shape()
    assert [level for level in range(7) if shape.attends(level)] == [4]
    model = small()
    assert [len(level.attentions) for level in model.encoder.levels] == [0, 0, 1]


@pytest.mark.parametrize("mode", ["generative", "unified", "predictive"])
def test_a_louder_input_comes_out_louder(fill: Fill, mode: str) -> None:
    """enhance(k y) = k enhance(y) under the same seed."""
    model = small(fill)
    sampling = Sampling.model_validate({"mode": mode, "steps": 2})
    with torch.no_grad():
        enhanced, louder = (model.enhanced(gain * noise(), [7, 8], sampling) for gain in (1.0, 4.0))
    assert torch.allclose(louder, 4 * enhanced, rtol=1e-9)


@pytest.mark.parametrize("mode", ["generative", "unified", "predictive"])
def test_the_seed_decides(fill: Fill, mode: str) -> None:
    """The same seed gives the same bits, alone or in a batch; another one another sample; torch's seed decides else."""
    model = small(fill)
    sampling = Sampling.model_validate({"mode": mode, "steps": 2})
    with torch.no_grad():
        together = model.enhanced(noise(), [7, 8], sampling)
        alone = model.enhanced(noise()[1:], [8], sampling)
        other = model.enhanced(noise()[1:], [9], sampling)
        forwards = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            forwards.append(model(noise()))
    assert torch.allclose(together[1:], alone, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(alone, other)
    assert torch.equal(forwards[0], forwards[1])
    assert not torch.allclose(forwards[0], forwards[2])


def test_a_prediction_from_the_mean_has_no_chance_in_it(fill: Fill) -> None:
    """Then the network says that it is not stochastic; in every other mode it is."""
    certain = {"mode": "predictive", "predictive_noise": False}
    model = small(fill, sampling=certain)
    assert not model.stochastic
    assert torch.equal(model(noise()), model(noise()))
    for sampling in ({"mode": "predictive"}, {"mode": "unified", "predictive_noise": False}, {"mode": "generative"}):
        assert small(sampling=sampling | {"steps": 1}).stochastic


def test_one_checkpoint_has_all_modes(fill: Fill) -> None:
    """Without fusion the unified mode is the generative one bit for bit; with it, and predictive, it is another."""
    model = small(fill)
    state = {mode: Sampling.model_validate({"mode": mode, "steps": 3}) for mode in ("generative", "unified")}
    unfused = Sampling(mode="unified", steps=3, first_fusion=None, last_fusion=1.0)
    with torch.no_grad():
        generative, unified, same, predictive = (
            model.enhanced(noise(), [1, 2], sampling)
            for sampling in (*state.values(), unfused, Sampling(mode="predictive"))
        )
    assert torch.equal(generative, same)
    assert not torch.allclose(generative, unified)
    assert not torch.allclose(unified, predictive)


def test_the_predictive_decoder_runs_twice_in_a_unified_sample(fill: Fill) -> None:
    """In 2 of 60 calls: so a step costs what one of SGMSE+ does, and a thirtieth of a decoder's calls more."""
    model = small(fill)
    calls = {"generative": 0, "predictive": 0, "encoder": 0}
    for name in calls:
        part = model.get_submodule(name)
        part.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    with torch.no_grad():
        model.enhanced(noise(1, 500), [0], Sampling(steps=30))
        assert calls == {"generative": 60, "predictive": 2, "encoder": 60}
        model.enhanced(noise(1, 500), [0], Sampling(mode="predictive"))
    assert calls == {"generative": 60, "predictive": 3, "encoder": 61}


def test_settings_with_a_seed_leave_nothing_to_chance(fill: Fill) -> None:
    """Every call gives the same bits, and an evaluation need not score several."""
    model = small(fill, sampling={"steps": 2, "seed": 7})
    assert not model.stochastic
    assert torch.equal(model(noise()), model(noise()))
    assert torch.equal(model(noise()), model.enhanced(noise(), [7, 7]))


def test_a_served_network_is_asked_otherwise_without_other_weights(fill: Fill) -> None:
    """What is chosen counts from then on; the rest of the sampling stays."""
    model = small(fill)
    wanted = model.enhanced(noise(), [7, 7], Sampling(mode="generative", steps=3))
    assert model.stochastic
    model.choose({"mode": "generative", "seed": 7})
    assert not model.stochastic
    assert torch.equal(model(noise()), wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": 0}, "steps"), ({"seed": 1.5}, "seed"), ({"seed": "x"}, "seed"), ({"mode": "predictive"}, "decoder")],
)
def test_what_cannot_be_chosen_is_answered(options: dict[str, object], message: str) -> None:
    """With the field that is wrong; nothing has changed then."""
    model = small(predictive_decoder=False, sampling={"mode": "generative", "steps": 1})
    before = model.config
    with pytest.raises(BadSetting, match=message):
        model.choose(options)
    assert model.config == before
    with pytest.raises(BadSetting, match="nothing to choose; found steps"):
        GruMask.Config(width=4).build().choose({"steps": 3})


@pytest.mark.parametrize("samples", [1, 100, 509])
def test_less_than_a_window_is_enhanced(fill: Fill, samples: int) -> None:
    """Its length comes back, with finite samples, in every mode."""
    model = small(fill)
    for mode in ("generative", "unified", "predictive"):
        enhanced = model.enhanced(noise(1, samples), [0], Sampling.model_validate({"mode": mode, "steps": 1}))
        assert enhanced.shape == (1, samples)
        assert enhanced.isfinite().all()


def test_silence_comes_back_as_silence(fill: Fill) -> None:
    """Exactly, since the result has the input's peak."""
    assert (small(fill)(torch.zeros(1, 3000, dtype=torch.float64)) == 0).all()


@pytest.mark.parametrize(("seconds", "blocks"), [(6, 2), pytest.param(600, 150, marks=pytest.mark.long)])
def test_long_audio_never_passes_as_a_whole(fill: Fill, seconds: int, blocks: int) -> None:
    """Blocks of at most 5.5 s with their context, faded into each other: memory does not grow with the length."""
    model = small(fill, channels=2, multipliers=(1, 1), hop_size=256, sampling={"mode": "predictive"}).float()
    heard: list[int] = []
    model.stft.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0].shape[-1]))
    enhanced = enhance_any_length(model, noise(1, seconds * 16000)[0].float().numpy())
    assert enhanced.shape == (seconds * 16000,)
    assert np.isfinite(enhanced).all()
    assert len(heard) == blocks
    assert max(heard) <= 5.5 * 16000


def test_a_masking_prediction_starts_as_the_noisy_spectrum(fill: Fill) -> None:
    """It is the noisy spectrum times one and what the head says: a fresh network changes its input by next to
    nothing."""
    plain, masking = small(fill), small(fill, predictive_output="mask")
    state, noisy = spectra(2)
    time = torch.tensor([0.2, 0.7]).double()
    with torch.no_grad():
        direct, masked = (model.outputs(state, noisy, time, predict=True).clean for model in (plain, masking))
        fresh = small(predictive_output="mask").enhanced(noise(), [0, 1], Sampling(mode="predictive"))
    assert direct is not None and masked is not None
    assert torch.allclose(masked, noisy * (1 + direct))
    assert (fresh - noise()).abs().max() < 0.05 * noise().abs().max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fft_size": 512}, "gives 257 bins, which must be a multiple of 4"),
        ({"predictive_decoder": False}, "needs a predictive decoder"),
        ({"sampling": {"steps": 0}}, "steps"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    """Bins that cannot be halved so often, a mode without its decoder, no steps."""
    with pytest.raises(ValidationError, match=message):
        GpUnified.Config.model_validate(SMALL | changes)


def test_a_request_for_a_decoder_that_is_not_there_is_answered() -> None:
    """With what to ask for instead."""
    model = small(predictive_decoder=False, sampling={"mode": "generative", "steps": 1})
    with pytest.raises(BadSetting, match="use the mode 'generative'"):
        model.enhanced(noise(), [0, 0], Sampling(mode="predictive"))
