"""What is special to DM: its size, its two readings of one decoder, the noisy phase."""

import pytest
import torch
from pydantic import ValidationError

from training.models import Dm
from training.models.layers import LearnableSigmoid, RelativeAttention
from training.objectives import Regression, Spectral


def parameters(model: torch.nn.Module) -> int:
    """Numbers that are learnt; a shared tensor counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def small(**changes: object) -> Dm:
    """A narrow DM in double precision, in eval mode."""
    torch.manual_seed(0)
    settings = {"channels": 4, "heads": 2, "blocks": 1, "dense_depth": 2, "kernel": 5, "hop_size": 200}
    return Dm.Config.model_validate(settings | changes).build().double().eval()


def noise(samples: int = 8000, batch: int = 1) -> torch.Tensor:
    """White noise at a usual level."""
    return 0.05 * torch.randn(batch, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def compressed_noise() -> torch.Tensor:
    """Something like a compressed magnitude, [1, frames, bins]."""
    return torch.rand(1, 41, 201, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.1


@pytest.mark.parametrize(("tie_head", "count"), [(True, 2_053_937), (False, 2_054_002)])
def test_dm_has_the_published_size(tie_head: bool, count: int) -> None:
    """2.05 million: exactly what the layers of preset A add up to."""
    assert parameters(Dm.Config(tie_head=tie_head).build()) == count


def test_a_tied_head_adds_nothing_to_the_weights() -> None:
    """Mask and map are one tensor: the state holds one head."""
    tied, free = small(tie_head=True), small()
    assert parameters(free) - parameters(tied) == 4 + 1
    assert not any(name.startswith("map_head") for name in tied.state_dict())


@pytest.mark.parametrize("tie_head", [True, False])
def test_both_readings_teach_the_same_decoder(tie_head: bool) -> None:
    """The masked and the mapped magnitude alone each reach every tensor of the decoder."""
    for branch in ("masked", "mapped"):
        model = small(tie_head=tie_head)
        with torch.no_grad():
            model.alpha.zero_()  # so that the map does not learn through the mask
        getattr(model.magnitudes(compressed_noise()), branch).square().sum().backward()
        for name, parameter in model.decoder.named_parameters():
            assert parameter.grad is not None, (branch, name)
            assert parameter.grad.abs().max() > 0, (branch, name)


def test_the_mask_is_bounded_and_starts_as_one() -> None:
    """Between 0 and 2 for any logit, and the identity at logit 0."""
    mask = small().mask
    extreme = torch.linspace(-1e4, 1e4, 201, dtype=torch.float64).expand(1, 5, 201)
    assert mask(extreme).min() >= 0
    assert mask(extreme).max() <= 2
    assert torch.equal(mask(torch.zeros_like(extreme)), torch.ones_like(extreme))


def test_a_mask_whose_values_stand_at_their_ends_is_told() -> None:
    """Beyond 6 on either side a value counts as saturated; objectives put the share of each item on record."""
    mask = LearnableSigmoid(4, 2.0)
    logits = torch.tensor([[[-7.0, 5.0, 7.0, 0.0]], [[1.0, -1.0, 5.9, -5.9]]])
    assert mask.saturation(logits).tolist() == [0.5, 0.0]
    with torch.no_grad():
        mask.slope.fill_(2.0)
    assert mask.saturation(logits).tolist() == [0.75, 0.5]
    noisy, model = noise(batch=2), small()
    for objective in (Regression.Config(), Spectral.Config(phase=0, consistency=0)):
        parts = objective.build().double().losses(model, noisy, noisy).parts
        assert torch.equal(parts["mask_saturation"], model.estimate(noisy).health["mask_saturation"])
    assert small(branches="map").estimate(noisy).health == {}


def test_without_skip_and_map_only_the_mask_is_left() -> None:
    """alpha 0 and omega 1 give the masked magnitude bit for bit."""
    model = small()
    with torch.no_grad():
        model.alpha.zero_()
        model.omega_logit.fill_(100.0)
    found = model.magnitudes(compressed_noise())
    assert torch.equal(found.fused, found.masked)


def test_without_skip_and_mask_only_the_map_is_left() -> None:
    """alpha 0 and omega 0 give the mapped magnitude; alpha and omega learn."""
    model = small()
    with torch.no_grad():
        model.alpha.zero_()
        model.omega_logit.fill_(-1000.0)
    found = model.magnitudes(compressed_noise())
    assert torch.equal(found.fused, found.mapped)
    model = small()
    model.magnitudes(compressed_noise()).fused.square().sum().backward()
    for parameter in (model.alpha, model.omega_logit):
        assert parameter.grad is not None
        assert parameter.grad.isfinite()
        assert parameter.grad != 0


def test_no_magnitude_is_negative() -> None:
    """Not even with a negative skip: a negative magnitude would turn the phase round."""
    model = small()
    with torch.no_grad():
        model.alpha.fill_(-5.0)
    for found in model.magnitudes(compressed_noise()):
        assert found.min() >= 0


def test_the_noisy_phase_is_kept() -> None:
    """Every bin of the estimate points where the noisy bin points."""
    model, noisy = small(), noise()
    seen: list[torch.Tensor] = []
    inverse = model.stft.inverse
    model.stft.inverse = lambda spectrum, length: (seen.append(spectrum), inverse(spectrum, length))[1]  # type: ignore
    model(noisy)
    noisy_phase = model.stft(noisy).angle()
    for spectrum in seen:
        turned = torch.angle(torch.polar(torch.ones_like(noisy_phase), spectrum.angle() - noisy_phase))
        assert turned[spectrum.abs() > 1e-6].abs().max() < 1e-6
    assert len(seen) == 3


def test_the_map_can_fill_a_band_that_the_mask_cannot() -> None:
    """Where the noisy magnitude is zero the mask gives nothing; the map gives something, and can learn."""
    model, noisy = small(), compressed_noise()
    noisy[..., 100:] = 0.0
    found = model.magnitudes(noisy)
    assert found.masked[..., 100:].max() == 0
    assert found.mapped[..., 100:].min() > 0
    found.mapped[..., 100:].sum().backward()
    assert model.map_head.weight.grad is not None
    assert model.map_head.weight.grad.abs().max() > 0


def test_the_map_hears_how_loud_its_decoder_speaks() -> None:
    """A head of its own has no normalisation over the utterance, which would bring silence to the level of speech."""
    features = torch.randn(1, 4, 41, 201, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    own, tied = small(), small(tie_head=True)
    with torch.no_grad():
        mapped = [own.map_head(gain * features).std().item() for gain in (0.01, 1.0)]
        logits = [tied.mask_head(gain * features).std().item() for gain in (0.01, 1.0)]
    assert mapped[0] == pytest.approx(0.01 * mapped[1])
    assert logits[0] > 0.5 * logits[1]


@pytest.mark.parametrize("level", [1e-3, 1.0, 10.0])
def test_the_level_is_put_back(level: float) -> None:
    """With a mask of one, what comes out is what went in, at any level."""
    model, noisy = small(), level * noise()
    with torch.no_grad():
        model.mask_head[-1].weight.zero_()
        model.mask_head[-1].bias.zero_()
        model.omega_logit.fill_(100.0)
    assert torch.allclose(model(noisy), noisy, atol=1e-3 * level * 0.05)


@pytest.mark.parametrize(
    "settings", [{"fft_size": 402}, {"hop_size": 300}, {"channels": 6, "heads": 4}, {"kernel": 4}, {"width": 3}]
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, int]) -> None:
    """An even number of bins, gaps between frames, heads that do not divide, even kernels, misspelt keys."""
    with pytest.raises(ValidationError):
        Dm.Config.model_validate(settings)


def test_other_odd_numbers_of_bins_fit() -> None:
    """512 samples are 257 bins: halved and restored."""
    assert small(fft_size=512)(noise()).shape == (1, 8000)


def test_far_places_share_one_position_for_ten_seconds() -> None:
    """1601 frames (10 s) work; beyond 512 frames all distances look alike, up to it none do."""
    torch.manual_seed(0)
    attention = RelativeAttention(8, 2, 512, dropout=0.0)
    rows = attention.distance(1601)
    assert rows.min() == 0
    assert rows.max() == 1024
    assert rows[1600, 0] == rows[600, 0] == 1024
    assert rows[511, 0] != rows[512, 0]
    assert attention(torch.randn(1, 1601, 8)).isfinite().all()


def test_attention_adds_what_shaw_adds() -> None:
    """The bias of two places is the query times the embedding of their distance, over the root of the width."""
    torch.manual_seed(0)
    attention = RelativeAttention(8, 2, 3, dropout=0.0)
    torch.nn.init.normal_(attention.distances.weight)
    query = torch.randn(2, 2, 6, 4)
    bias = attention.bias(query)
    for here, there in [(0, 5), (5, 0), (2, 2), (3, 4)]:
        embedding = attention.distances.weight[max(-3, min(3, here - there)) + 3]
        assert torch.allclose(bias[1, 1, here, there], query[1, 1, here] @ embedding / 2, atol=1e-6)


def test_a_decoder_of_its_own_teaches_the_map_alone() -> None:
    """With untied decoders and no skip the masked magnitude reaches one decoder, the mapped one the other."""
    for branch, learns, rests in (("masked", "decoder", "map_decoder"), ("mapped", "map_decoder", "decoder")):
        model = small(tie_decoders=False, skip=False)
        getattr(model.magnitudes(compressed_noise()), branch).square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.get_submodule(learns).parameters())
        assert all(parameter.grad is None for parameter in model.get_submodule(rests).parameters())


@pytest.mark.parametrize("tie_head", [True, False])
def test_an_ablation_leaves_one_branch(tie_head: bool) -> None:
    """Masking only and mapping only give that branch as the whole estimate, and hold no weights for the other."""
    for only, field, gone in (("mask", "masked", "map_head"), ("map", "mapped", "mask")):
        model = small(branches=only, tie_head=tie_head)
        found = model.magnitudes(compressed_noise())
        assert torch.equal(found.fused, getattr(found, field))
        assert model.estimate(noise()).branches == {}
        names = model.state_dict()
        assert not {"alpha", "omega_logit"} & names.keys()
        assert not any(name.startswith(f"{gone}.") for name in names)


def test_a_mask_alone_cannot_fill_a_band() -> None:
    """Masking only gives nothing where nothing came in; mapping only gives something."""
    noisy = compressed_noise()
    noisy[..., 100:] = 0.0
    assert small(branches="mask").magnitudes(noisy).fused[..., 100:].max() == 0
    assert small(branches="map").magnitudes(noisy).fused[..., 100:].min() > 0


def test_without_a_skip_the_map_does_not_see_the_mask() -> None:
    """The mapped magnitude is a function of the decoder alone."""
    model = small(skip=False)
    before = model.magnitudes(compressed_noise()).mapped
    with torch.no_grad():
        model.mask.slope.fill_(5.0)
    after = model.magnitudes(compressed_noise())
    assert torch.equal(before, after.mapped)
    assert not hasattr(model, "alpha")


def test_a_phase_decoder_replaces_the_noisy_phase() -> None:
    """The encoder sees the phase, the estimate has one of its own, and objectives get to see it."""
    model, noisy = small(phase_decoder=True), noise()
    found = model.estimate(noisy).polar
    assert found is not None
    assert found.phase.abs().max() <= torch.pi
    noisy_phase = model.stft(noisy).angle()
    turned = torch.polar(torch.ones_like(noisy_phase), found.phase - noisy_phase).angle()
    assert turned.abs().median() > 0.5
    assert small().estimate(noisy).polar is None


def test_sixteen_bits_are_enough_between_front_end_and_head() -> None:
    """Under autocast to bfloat16 the waveform is made in single precision and stays near what it was."""
    model = small().float()
    noisy = noise().float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(noisy)
    with torch.no_grad():
        wanted = model(noisy)
    assert found.dtype == torch.float32
    assert (found - wanted).square().mean().sqrt() < 0.1 * wanted.square().mean().sqrt()


def test_one_branch_needs_no_decoder_of_its_own() -> None:
    """Untied decoders are for two branches."""
    with pytest.raises(ValidationError, match="both branches"):
        Dm.Config(branches="mask", tie_decoders=False)


def test_a_seeded_forward_pass_gives_the_pinned_number() -> None:
    """Nobody changes the network without noticing."""
    assert small()(noise()).square().mean().sqrt().item() == pytest.approx(PINNED, rel=1e-5)


PINNED = 0.052191548929335016
