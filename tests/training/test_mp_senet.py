"""What is special to MP-SENet: its two editions, its sizes, and that it computes what its authors' network computes."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from training.models import MpSenet
from training.models.base import Polar
from training.models.layers import DilatedDense, PlainAttention, SubPixelConvolution
from training.name_maps import METRIC_DISCRIMINATOR, MP_SENET_2024
from training.objectives.discriminators import MetricDiscriminator
from training.spectral import Stft

Fill = Callable[[torch.nn.Module], None]
EXACT = 1e-10
"""Relative distance, in double precision, between what our network and the authors' give."""


def small(**changes: object) -> MpSenet:
    """A narrow MP-SENet in double precision, in eval mode."""
    torch.manual_seed(0)
    settings = {"channels": 4, "heads": 2, "blocks": 1, "dense_depth": 2, "kernel": 5, "hop_size": 200}
    return MpSenet.Config.model_validate(settings | changes).build().double().eval()


def spectrum(frames: int = 12, batch: int = 1) -> Polar:
    """A random compressed magnitude and phase."""
    generator = torch.Generator().manual_seed(3)
    shape = (batch, 201, frames)
    magnitude = torch.randn(shape, dtype=torch.float64, generator=generator).abs()
    return Polar(magnitude, math.pi * (2 * torch.rand(shape, dtype=torch.float64, generator=generator) - 1))


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Root mean square of the difference, relative to what is wanted."""
    return float((found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())


def turned(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference of two phases, the short way round."""
    return float(torch.polar(torch.ones_like(found), found - wanted).angle().abs().max())


@pytest.mark.parametrize(
    ("settings", "count"),
    [({"edition": "2023"}, 2_048_849), ({}, 2_263_372), ({"mask_decoder": False}, 1_991_362)],
    ids=["2023", "2024", "phase decoder only"],
)
def test_mp_senet_has_the_published_size(settings: dict[str, Any], count: int) -> None:
    """2.05 M, 2.26 M and 1.99 M."""
    model = MpSenet.Config.model_validate(settings).build()
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("mode", ["literal", "batch_first"])
def test_mp_senet_computes_what_the_authors_network_computes(reference: Any, mode: str) -> None:
    """In double precision, with weights carried over by the name map, in both axis modes."""
    theirs = reference("mpsenet_2024_10")
    model = MpSenet.Config(batch_first=mode == "batch_first").build().double().eval()
    MP_SENET_2024.load(model, theirs.state)
    with torch.no_grad():
        found = model.polar(Polar(theirs.arrays["in/mag"], theirs.arrays["in/pha"]))
    assert distance(found.magnitude, theirs.arrays[f"out/{mode}/mag"]) < EXACT
    assert turned(found.phase, theirs.arrays[f"out/{mode}/pha"]) < 1e-9


@pytest.mark.parametrize(("edition", "prefix"), [("2023", "mp2023"), ("2024", "mp")])
def test_the_front_end_is_the_authors(reference: Any, edition: str, prefix: str) -> None:
    """Magnitude, phase and the way back, also over digital silence; that of 2024 is RENet's too."""
    theirs = reference("front_ends").arrays
    model = MpSenet.Config.model_validate({"edition": edition, "blocks": 0}).build().double()
    model.stft.window = torch.hann_window(400, dtype=torch.float64)
    wave = theirs["in/wave"].reshape(1, -1)
    found = model.analysed(model.stft(wave))
    assert distance(found.magnitude, theirs[f"out/{prefix}/mag"]) < EXACT
    loud = theirs[f"out/{prefix}/mag"] > 0.1
    assert turned(found.phase[loud], theirs[f"out/{prefix}/pha"][loud]) < 1e-9
    if edition == "2024":
        assert turned(found.phase, theirs["out/mp/pha"]) < 1e-9
        back = model.stft.inverse(model.synthesised(found), wave.shape[-1])
        assert distance(back, theirs["out/mp/wave_back"].reshape(1, -1)) < EXACT


def test_the_discriminator_computes_what_the_authors_computes(reference: Any) -> None:
    """In double precision, for a pair and for the pair swapped; its size is theirs."""
    theirs = reference("mpsenet_metric_discriminator")
    judge = MetricDiscriminator().double().eval()
    METRIC_DISCRIMINATOR.load(judge, theirs.state)
    one, other = theirs.arrays["in/x"], theirs.arrays["in/y"]
    assert sum(parameter.numel() for parameter in judge.parameters()) == theirs.facts["parameter_count"]
    assert torch.allclose(judge(one, other), theirs.arrays["out/score"][0], rtol=EXACT, atol=0)
    assert torch.allclose(judge(other, one), theirs.arrays["out/score_swapped"][0], rtol=EXACT, atol=0)


GOLDEN = {"2023": (2087.4136414978093, 1011.2137964595105), "2024": (2039.1469816521171, 140.12588732768538)}
"""Sum of the magnitude, and of the real part of the spectrum, of a narrow network with weights by rule."""


@pytest.mark.parametrize("edition", ["2023", "2024"])
def test_weights_by_rule_give_the_pinned_sums(fill: Fill, edition: str) -> None:
    """What parity was shown for stays as it is, where the reference is not at hand."""
    model = small(edition=edition)
    fill(model)
    with torch.no_grad():
        found = model.polar(spectrum())
    sums = found.magnitude.sum().item(), torch.polar(*found).real.sum().item()
    assert sums == pytest.approx(GOLDEN[edition], rel=1e-9)


def test_the_judge_gives_the_pinned_score(fill: Fill) -> None:
    """The discriminator stays as it is, too; its spectral norms are exact after enough looks at the weights."""
    torch.manual_seed(0)
    judge = MetricDiscriminator(channels=4).double()
    with torch.no_grad():
        for part in judge.modules():
            for parameter in part.parameters(recurse=False):
                parameter.copy_(torch.linspace(-1, 1.3, parameter.numel()).view_as(parameter))
        for _ in range(100):
            judge(spectrum(32).magnitude, spectrum(32).magnitude)
    judge.eval()
    score = judge(spectrum(32).magnitude, spectrum(32).magnitude.flip(-1))
    assert score.shape == (1,)
    assert score.item() == pytest.approx(JUDGED, rel=1e-7)


JUDGED = 0.017765026984405317


@pytest.mark.parametrize("edition", ["2023", "2024"])
def test_attending_along_the_first_axis_mixes_the_batch(edition: str) -> None:
    """Only with batch_first an item does not know its batch."""
    alone, together = spectrum(batch=1), spectrum(batch=2)
    together = Polar(together.magnitude.clone(), together.phase.clone())
    together.magnitude[0], together.phase[0] = alone.magnitude[0], alone.phase[0]
    for batch_first in (True, False):
        model = small(edition=edition, batch_first=batch_first)
        with torch.no_grad():
            apart = distance(model.polar(together).magnitude[0], model.polar(alone).magnitude[0])
        assert (apart < 1e-12) == batch_first


def test_convolutions_two_frames_tall_look_back_only() -> None:
    """What the 2024 edition's dense block gives for a frame depends on no later one; the other one's does."""
    x = torch.randn(1, 3, 20, 9, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, :, 11:] += 1.0
    for height, first in ((2, 11), (3, 8)):
        torch.manual_seed(0)
        dense = DilatedDense(3, 2, height)
        for layer in dense.layers:
            layer[1] = torch.nn.Identity()  # statistics over the utterance would see every frame
        moved = (dense(x) - dense(changed)).abs().amax((0, 1, 3))
        assert int(moved.nonzero()[0]) == first


def test_sub_pixels_alternate() -> None:
    """Bins of the upper half of the maps come between those of the lower half."""
    layer = SubPixelConvolution(1, 2)
    with torch.no_grad():
        layer.convolution.weight.zero_()
        layer.convolution.bias.copy_(torch.tensor([0.0, 10.0, 1.0, 11.0]))
    out = layer(torch.zeros(1, 1, 2, 3))
    assert out[0, 0, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert out[0, 1, 1].tolist() == [10, 11, 10, 11, 10, 11]


@pytest.mark.parametrize("batch_first", [True, False])
def test_plain_attention_is_multi_head_attention(batch_first: bool) -> None:
    """The same as torch's own layer with the same weights."""
    torch.manual_seed(0)
    ours, theirs = PlainAttention(8, 2, 0.0, batch_first), torch.nn.MultiheadAttention(8, 2, batch_first=batch_first)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.query_key_value.weight,
            "in_proj_bias": ours.query_key_value.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    x = torch.randn(5, 7, 8)
    normed = ours.norm(x)
    assert torch.allclose(ours(x), theirs(normed, normed, normed)[0], atol=1e-6)


def test_phase_retrieval_keeps_the_magnitude_and_ignores_the_phase() -> None:
    """The sign of the input changes nothing, and the magnitude that went in is the one that is synthesised."""
    model = small(mask_decoder=False, retrieve_phase=True)
    noisy = 0.05 * torch.randn(1, 4000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = model.estimate(noisy)
    assert torch.equal(found.enhanced, model(-noisy))
    assert found.polar is not None
    gain = noisy.square().mean().add(1e-10).rsqrt()
    assert torch.allclose(found.polar.magnitude, model.analysed(Stft(400, 200).double()(noisy * gain)).magnitude)


def test_sixteen_bits_are_enough_between_front_end_and_head() -> None:
    """Under autocast to bfloat16 the spectrum stays in single precision, and the waveform near what it was."""
    model = small().float()
    noisy = 0.05 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model.estimate(noisy)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model.estimate(noisy)
    assert found.polar is not None and wanted.polar is not None
    assert found.enhanced.dtype == found.polar.phase.dtype == found.polar.magnitude.dtype == torch.float32
    assert distance(found.polar.magnitude, wanted.polar.magnitude) < 0.02


@pytest.mark.parametrize(
    "settings", [{"channels": 6, "heads": 4}, {"kernel": 4}, {"fft_size": 402}, {"edition": "2022"}]
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any]) -> None:
    """Heads that do not divide, even kernels, an even number of bins, an edition that never was."""
    with pytest.raises(ValidationError):
        MpSenet.Config.model_validate(settings)
