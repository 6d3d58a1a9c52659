"""BSP-MPNet: stretching, the SSL model's features, masks, and its objective."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from simulation.errors import BadSetting
from training.batches import Batch
from training.contrast import contrast_weights
from training.cookbook_bsp_mpnet import RECIPES
from training.models import BspMpnet, GruMask
from training.models.base import Polar
from training.models.bsp_mpnet.rema import PositionAttention, TimeFrequencyAttention, shifted, sinusoids
from training.models.bsp_mpnet.ssl import Separation, Ssl, SslModel, aligned
from training.objectives import Contrast
from training.recipe import Recipe
from training.run import Run
from training.samples import samples

ARCHITECTURE = {
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "conv_dim": [4] * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
LAYERS = 2


def config(**settings: Any) -> BspMpnet.Config:
    """A tiny network around a tiny, random WavLM."""
    ssl = {"width": 8, "layers": LAYERS, "architecture": ARCHITECTURE} | settings.pop("ssl", {})
    small = {"channels": (2,), "width": 8, "heads": 2, "recurrent_width": 4, "dropout": 0.0, "ssl": ssl}
    return BspMpnet.Config.model_validate(small | settings)


def network(**settings: Any) -> BspMpnet:
    """In eval mode and double precision."""
    torch.manual_seed(0)
    return config(**settings).build().double().eval()


def saying_nothing(model: BspMpnet) -> BspMpnet:
    """The same with masks of 1."""
    for path in (model.magnitude, model.phase):
        if path is not None:
            nn.init.zeros_(path.decoder.last.weight)
            nn.init.zeros_(path.decoder.last.bias)
    return model


def speech(samples: int = 8000, batch: int = 2) -> torch.Tensor:
    """[batch, samples], a sound with harmonics and noise."""
    time = torch.arange(samples, dtype=torch.float64) / 16000
    tone = sum((2 * math.pi * 180 * each * time).sin() / each for each in range(1, 9))
    noise = torch.randn(batch, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return 0.1 * tone + 0.02 * noise


# ---- stretching


def test_without_weights_and_with_masks_of_one_the_input_comes_back() -> None:
    """W = 1: exp(log(1 + |X|)) - 1, the phase, and the transform with its zeros around the window are exact."""
    model = saying_nothing(network(stretched=False))
    assert torch.allclose(model(speech()), speech(), rtol=0, atol=1e-10)


def test_with_masks_of_one_the_output_is_the_stretched_input() -> None:
    """Contrast stretching alone, written down once more with complex numbers; nothing is divided by W at the end."""
    model = saying_nothing(network())
    spectrum = model.stft(speech())
    weights = torch.from_numpy(contrast_weights(257))[:, None].float().double()
    gain = ((weights * spectrum.abs().log1p()).exp() - 1) / spectrum.abs()
    stretched = model.stft.inverse(gain * spectrum, 8000)
    assert torch.allclose(model(speech()), stretched, rtol=0, atol=1e-10)
    assert (model(speech()) - speech()).norm() > 0.3 * speech().norm()


def test_stretching_leaves_the_phase() -> None:
    """Of every bin with energy."""
    model = network()
    spectrum = model.stft(speech())
    heard = model.analysed(speech())
    again = torch.polar(heard.magnitude.expm1(), heard.phase)
    apart = (again * spectrum.conj()).angle().abs()[spectrum.abs() > 1e-6]
    assert apart.max() < 1e-9


def test_stretching_depends_on_the_level() -> None:
    """Twice the input is more than twice the output: log(1 + |X|) is no power."""
    model = saying_nothing(network())
    assert model(2 * speech()).norm() > 2.1 * model(speech()).norm()


def test_masks_that_square_a_loud_input_stay_finite() -> None:
    """A mask of 2 on a magnitude of full scale."""
    model = network()
    for path in (model.magnitude, model.phase):
        assert path is not None
        nn.init.constant_(path.decoder.last.bias, 50.0)
    assert model(100 * speech()).isfinite().all()


# ---- features of the SSL model


@pytest.mark.parametrize("at", [1500, 4000, 6400])
def test_features_stand_where_the_frames_of_the_spectrum_do(at: int) -> None:
    """What an SSL frame says of an impulse is found within two frames of the spectrum's own."""
    frames, ssl_frames = 8000 // 100 + 1, (8000 - 400) // 320 + 1
    around = (torch.arange(ssl_frames) * 320 + 199.5 - at).abs()
    features = (-around / 320).exp()[None, :, None].double()
    found = aligned(features, frames, 100)[0, :, 0]
    assert abs(int(found.argmax()) - round(at / 100)) <= 2


def test_features_between_two_frames_are_between() -> None:
    """Linear, and the first and last frame outside."""
    line = torch.arange(24, dtype=torch.float64)[None, :, None]
    found = aligned(line, 81, 100)[0, :, 0]
    expected = ((torch.arange(81) * 100 - 199.5) / 320).clamp(0, 23).double()
    assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("kind", "count"), [("wavlm", LAYERS + 1), ("data2vec", LAYERS)])
def test_as_many_layers_are_weighed_as_the_model_has(kind: str, count: int) -> None:
    """Of WavLM also what goes into the first; the last is the model's output, which large ones normalise."""
    normalising = ARCHITECTURE | ({"do_stable_layer_norm": True} if kind == "wavlm" else {})
    model = network(ssl={"kind": kind, "architecture": normalising})
    layers = model.ssl(speech())
    assert layers.shape == (count, 2, (8000 - 400) // 320 + 1, 8)
    assert isinstance(model.ssl, SslModel)
    assert torch.equal(layers[-1], model.ssl.network(speech()).last_hidden_state)


def test_a_large_model_hears_audio_of_no_mean_and_unit_variance() -> None:
    """As its own flag says; without it the mean is part of what it hears."""
    asked, raw = (network(ssl={"normalise": normalise}).ssl for normalise in (True, False))
    moved, near = 3 * speech() + 0.5, {"rtol": 1e-4, "atol": 1e-4}
    unit = speech() - speech().mean(-1, keepdim=True)
    unit = unit / unit.square().mean(-1, keepdim=True).sqrt()
    assert torch.allclose(asked(speech()), asked(moved), **near)
    assert torch.allclose(asked(speech()), raw(unit), **near)
    assert not torch.allclose(raw(speech()), raw(moved), **near)


def test_layer_weights_begin_equal_and_go_apart_on_both_paths(contrast_recipe: Recipe) -> None:
    """Shares sum up to 1; both paths get a gradient, and of each its own."""
    run = Run(contrast_recipe)
    model, phi = _paths(run)
    assert torch.equal(model.shares, torch.full((LAYERS + 1,), 1 / (LAYERS + 1)))
    _descend(run, 3)
    assert float(model.shares.detach().sum()) == pytest.approx(1, abs=1e-6)
    assert not torch.equal(model.shares, phi.shares)
    assert model.shares.std() > 0 and phi.shares.std() > 0


def test_fixed_layer_weights_stay_equal() -> None:
    """The ablation; nothing else is missing."""
    separation = network(layer_weights="fixed").magnitude.separation
    assert "weights" not in dict(separation.named_parameters())
    assert torch.equal(separation.shares, torch.full_like(separation.shares, 1 / (LAYERS + 1)))


def test_the_gate_is_on_every_value() -> None:
    """sigmoid(linear(F)) F; with a gate of zeros half of F."""
    separation = Separation(Ssl(width=8, layers=LAYERS), learnt=True)
    layers = torch.randn(LAYERS + 1, 2, 5, 8)
    nn.init.zeros_(separation.gate.weight)
    nn.init.zeros_(separation.gate.bias)
    mixed = torch.stack([norm(z) for norm, z in zip(separation.norms, layers, strict=True)]).mean(0)
    assert torch.allclose(separation(layers), mixed / 2, atol=1e-6)


def test_the_ablation_without_ssl_hears_zeros_and_needs_no_model() -> None:
    """Of the same shape as a model's features; the network runs and learns as before."""
    model = network(ssl={"kind": "absent"})
    assert model.ssl(speech()).shape == network().ssl(speech()).shape
    assert not list(model.ssl.parameters())
    assert model(speech()).isfinite().all()


# ---- fine-tuning


@pytest.fixture
def contrast_recipe() -> Recipe:
    """A few steps of the tiny network."""
    return Recipe(
        name="tiny",
        network="tiny",
        model=config(fine_tuning="partial", ssl={"architecture": ARCHITECTURE | {"hidden_dropout": 0.5}}),
        objective=Contrast.Config(),
        steps=4,
        batch_size=2,
        segment_s=0.5,
        learning_rate=1e-2,
        validate_every=4,
        checkpoint_every=4,
    )


def _paths(run: Run) -> tuple[Separation, Separation]:
    model = run.learner.model
    assert isinstance(model, BspMpnet) and model.phase is not None
    return model.magnitude.separation, model.phase.separation


def _descend(run: Run, steps: int) -> None:
    for _ in range(steps):
        descent = run.turn("model")
        descent.optimiser.zero_grad()
        losses = run.learner(speech().float(), 0.5 * speech().float())
        descent.backward(losses.total.sum())
        descent.step()


@pytest.mark.parametrize(
    ("mode", "still"), [("frozen", "ssl."), ("partial", "ssl.network.feature_extractor."), ("entire", "nothing")]
)
def test_fine_tuning_leaves_what_it_says_without_gradient(contrast_recipe: Recipe, mode: str, still: str) -> None:
    """frozen: the whole SSL model; partial: its convolutions; and the rest of it learns at a tenth of the rate."""
    model = contrast_recipe.model.model_copy(update={"fine_tuning": mode})
    run = Run(contrast_recipe.model_copy(update={"model": model, "warmup_steps": 0}))
    names = {id(parameter): name for name, parameter in run.learner.model.named_parameters()}
    _descend(run, 1)
    without = {name for name, parameter in run.learner.model.named_parameters() if parameter.grad is None}
    assert without == {name for name in names.values() if name.startswith(still)}
    rates = {
        names[id(parameter)]: group["initial_lr"]
        for group in run.descents["model"].optimiser.param_groups
        for parameter in group["params"]
    }
    assert rates == {
        name: pytest.approx(1e-3 if name.startswith("ssl.") else 1e-2) for name in names.values() if name not in without
    }


def test_a_frozen_model_leaves_nothing_out_by_lot_while_the_rest_trains() -> None:
    """It stays in eval mode: equal features each time; a model that learns has its dropout."""
    dropping = {"architecture": ARCHITECTURE | {"hidden_dropout": 0.5}}
    frozen, learning = (network(fine_tuning=mode, ssl=dropping).train() for mode in ("frozen", "partial"))
    assert torch.equal(frozen.ssl(speech()), frozen.ssl(speech()))
    assert not torch.equal(learning.ssl(speech()), learning.ssl(speech()))
    assert frozen.magnitude.training


# ---- masks


def test_shifted_logits_are_those_of_the_distances() -> None:
    """Row i, column j has distance i - j; checked one by one."""
    frames = 5
    logits = torch.randn(2, 3, frames, 2 * frames - 1)
    found = shifted(logits)
    for row in range(frames):
        for column in range(frames):
            assert torch.equal(found[..., row, column], logits[..., row, frames - 1 - (row - column)])


def test_attention_is_that_of_transformer_xl() -> None:
    """(q_i + u) k_j + (q_i + v) W r_(i-j) over the root of the width, written down pair by pair."""
    torch.manual_seed(0)
    attention = PositionAttention(8, 2, 0.0).double()
    x = torch.randn(1, 4, 8, dtype=torch.float64)
    query, key, value = (of(x)[0].view(4, 2, 4) for of in (attention.query, attention.key, attention.value))
    logits = torch.zeros(2, 4, 4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            place = sinusoids(torch.tensor([i - j]), 8).double()
            position = attention.position(place).view(2, 4)
            content = ((query[i] + attention.content_bias) * key[j]).sum(-1)
            logits[:, i, j] = (content + ((query[i] + attention.position_bias) * position).sum(-1)) / 2
    seen = torch.einsum("hij,jhe->ihe", logits.softmax(-1), value).flatten(1)
    assert torch.allclose(attention(x)[0], attention.out(seen), atol=1e-12)


def test_gates_of_nothing_halve_twice() -> None:
    """All layers zero: each gate is a half, for a batch of one too, whose axes must not be squeezed away."""
    attention = TimeFrequencyAttention(8)
    for parameter in attention.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 1, 8)
    assert torch.allclose(attention(x), x / 4)


def test_the_literal_phase_mask_jumps_at_pi_and_the_residual_one_does_not() -> None:
    """0.99 pi and -0.99 pi are nearly one angle: times 1.5 they are far apart, turned alike they stay together."""
    angles = torch.tensor([0.99 * math.pi, -0.99 * math.pi], dtype=torch.float64).view(1, 1, 2)
    mask = torch.full((1, 2, 1), 1.5).double()
    apart = {}
    for mode in ("literal", "residual"):
        first, second = network(phase_mask=mode)._turned(angles, mask).flatten()
        apart[mode] = float((first - second).remainder(2 * math.pi))
        apart[mode] = min(apart[mode], 2 * math.pi - apart[mode])
    assert apart["literal"] > 2.5 and apart["residual"] == pytest.approx(0.02 * math.pi)


@pytest.mark.parametrize("mode", ["literal", "residual"])
def test_a_mask_of_one_keeps_the_noisy_phase(mode: str) -> None:
    """In both readings."""
    model = saying_nothing(network(phase_mask=mode))
    apart = model.masked(speech()).found.phase - model.analysed(speech()).phase
    assert (apart.cos() - 1).abs().max() < 1e-12


def test_without_phase_path_the_noisy_phase_is_kept() -> None:
    """And there is half of the network."""
    model = network(phase_path=False)
    masked = model.masked(speech())
    assert masked.phase_mask is None and torch.equal(masked.found.phase, model.analysed(speech()).phase)


def test_recurrence_can_be_left_out() -> None:
    """The ablation has no recurrent layer, and runs."""
    model = network(recurrent_width=0)
    assert not [layer for layer in model.magnitude.modules() if isinstance(layer, nn.GRU)]
    assert model(speech()).shape == speech().shape


# ---- objective


def test_clean_speech_and_masks_of_one_cost_nothing() -> None:
    """The target is stretched as the input is, in every term."""
    model = saying_nothing(network())
    losses = Contrast.Config(complex=0.1, time=0.2).build().losses(model, speech(), speech())
    for name in ("magnitude", "instantaneous_phase", "group_delay", "complex", "time"):
        assert losses.parts[name].max() < 1e-12, name
    assert losses.total.max() < 1e-12


def test_envelopes_are_those_of_the_clean_speech_as_it_is() -> None:
    """The term is nothing for clean speech that passes unchanged; stretching and noise cost something."""
    objective = Contrast.Config(magnitude=0.0, phase=0.0, envelope=1.0).build()
    clean, noise = speech(), torch.randn(2, 8000, generator=torch.Generator().manual_seed(1)).double()
    same, stretched = saying_nothing(network(stretched=False)), saying_nothing(network())
    nothing, some = (objective.double().losses(model, clean, clean).total.max() for model in (same, stretched))
    most = objective.losses(same, clean + 0.2 * noise, clean).total.min()
    assert nothing < 1e-9 < some < most


def test_turns_of_the_phase_cost_nothing_and_the_farthest_is_pi() -> None:
    """In single precision."""
    model, objective = saying_nothing(network()), Contrast.Config(magnitude=0.0)
    turned = torch.rand(1, 257, 81) * 50
    wanted = Polar(turned, turned + 2 * math.pi * torch.randint(-3, 4, turned.shape))
    masked = model.masked(speech(batch=1))._replace(found=Polar(turned, turned))
    terms = {name: distance for name, _, distance in objective.build()._terms(model, masked, wanted, 8000)}
    assert all(distance.max() < 1e-5 for distance in terms.values())
    opposite = wanted._replace(phase=turned + math.pi)
    _, _, distance = next(iter(objective.build()._terms(model, masked, opposite, 8000)))
    assert float(distance) == pytest.approx(math.pi, abs=1e-4)


def test_at_the_kink_of_the_phase_loss_the_gradient_is_finite() -> None:
    """Phases that are odd multiples of pi apart: no value is above 1 over the number of values."""
    model = saying_nothing(network())
    found = torch.zeros(1, 257, 81, dtype=torch.float64, requires_grad=True)
    apart = math.pi * (2 * torch.randint(-3, 3, found.shape, generator=torch.Generator().manual_seed(0)) + 1)
    masked = model.masked(speech(batch=1))._replace(found=Polar(found, found))
    terms = Contrast.Config(magnitude=0.0).build()._terms(model, masked, Polar(found.detach(), apart.double()), 8000)
    _, _, distance = next(iter(terms))
    distance.sum().backward()
    assert found.grad is not None and found.grad.isfinite().all() and found.grad.abs().max() <= 1.01 / found.numel()


def test_losses_tell_how_masks_and_layer_weights_do() -> None:
    """Masks at their end are saturated; equal weights have a contrast of 1."""
    model = network()
    nn.init.constant_(model.magnitude.decoder.last.bias, 50.0)
    parts = Contrast.Config().build().losses(model, speech(), speech()).parts
    assert parts["magnitude_mask_saturation"].min() == 1 and parts["phase_mask_saturation"].max() == 0
    assert parts["phase_layer_contrast"].max() == pytest.approx(1)
    assert parts["magnitude_slope_spread"].max() == 0


def test_another_network_is_refused() -> None:
    """Its answer names what to take."""
    with pytest.raises(BadSetting, match="GruMask"):
        Contrast.Config().build().losses(GruMask.Config(width=4).build(), speech().float(), speech().float())


def test_training_lowers_the_loss(contrast_recipe: Recipe) -> None:
    """Ten steps on one pair."""
    run = Run(contrast_recipe.model_copy(update={"steps": 10, "learning_rate": 3e-3}))
    before, after = (_loss(run, steps) for steps in (0, 10))
    assert after < 0.9 * before


def _loss(run: Run, steps: int) -> float:
    _descend(run, steps)
    with torch.no_grad():
        return float(run.learner(speech().float(), 0.5 * speech().float()).total.mean())


def test_the_recipes_are_the_paper_s_network_and_its_ablations() -> None:
    """At full size around WavLM base; each ablation differs in the one thing that its name says."""
    full = RECIPES["bsp_mpnet"]().model
    assert full == BspMpnet.Config()
    for name, make in RECIPES.items():
        changed = {key: value for key, value in make().model if value != getattr(full, key)}
        assert len(changed) == (0 if name == "bsp_mpnet" else 1) or "random" in name, name
    assert RECIPES["bsp_mpnet_no_phase"]().objective == Contrast.Config(phase=0.0)
    assert RECIPES["bsp_mpnet_no_ssl"]().begins_with is None


def test_a_random_ssl_model_is_named_as_such() -> None:
    """In the recipe and in the tag of its versions, which scorecards show."""
    smoke = RECIPES["bsp_mpnet_random_smoke"]()
    assert isinstance(smoke.model, BspMpnet.Config) and smoke.model.ssl.source is None
    assert "random" in smoke.name and "random" in smoke.network
    assert smoke.model.build()(speech(4000, 1).float()).isfinite().all()


# ---- what is to be seen and said


def test_the_picture_has_the_layer_weights_and_the_masks_of_both_paths() -> None:
    """It changes when a layer weight does, and when a mask does; without a phase path there is one row of each."""
    model = network()
    pictures = [model.pictures(speech())["layers-and-masks"]]
    for change in (model.magnitude.separation.weights, model.magnitude.decoder.last.bias):
        with torch.no_grad():
            change[0] += 2.0
        pictures.append(model.pictures(speech())["layers-and-masks"])
    assert all(png.startswith(b"\x89PNG") for png in pictures) and len(set(pictures)) == 3
    assert network(phase_path=False).pictures(speech())["layers-and-masks"] != pictures[0]


def test_the_picture_is_among_the_samples_of_a_run() -> None:
    """Which the driver carries into MLflow: one for each row that is heard, in the folder of its step."""
    row = Batch(speech(batch=1).float(), speech(batch=1).float(), ("valid-00000000",))
    files = samples(config().build(), [row], step=20)
    assert files["step-00000020/valid-00000000-layers-and-masks.png"].startswith(b"\x89PNG")


def test_scores_of_a_stretched_output_say_so() -> None:
    """And that an SSL model is no release, in every way of fine-tuning; neither where it does not hold."""
    said = " ".join(network(fine_tuning="frozen").remarks())
    assert "SI-SDR" in said and "contrast_stretching" in said and "a wavlm of 2 layers of 8, has random weights" in said
    (learning,) = network(stretched=False, layer_weights="fixed", fine_tuning="entire").remarks()
    assert "a wavlm of 2 layers of 8, began with random weights" in learning
    assert network(stretched=False, ssl={"kind": "absent"}).remarks() == ("it has no SSL model",)
    quiet = network(stretched=False, layer_weights="fixed", fine_tuning="frozen", ssl={"source": "somebody/wavlm"})
    assert quiet.remarks() == ()


def test_layer_weights_that_are_all_alike_are_flagged_path_by_path() -> None:
    """Both after no step; after some on the magnitude's side, the phase's alone."""
    model = network(stretched=False, ssl={"source": "somebody/wavlm"})
    assert [each.split()[1] for each in model.remarks()] == ["magnitude", "phase"]
    with torch.no_grad():
        model.magnitude.separation.weights[0] += 0.5
    (said,) = model.remarks()
    assert "phase path weighs all layers of the SSL model alike (the largest 1.000" in said
