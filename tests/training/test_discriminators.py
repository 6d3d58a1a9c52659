"""Judges of waveforms: their size, what they look at, and the losses around them."""

import pytest
import torch

from training.objectives.discriminators import MultiPeriodDiscriminator, PeriodDiscriminator
from training.objectives.gan import Judgement, fake_loss, feature_loss, persuasion_loss, real_loss
from training.objectives.spectrum_discriminators import WHOLE, SpectrumDiscriminators


def test_the_multi_period_discriminator_has_its_published_size() -> None:
    """8,221,154 for each of five periods, 2721 gains of weight normalisation among them."""
    with torch.device("meta"):
        judge = MultiPeriodDiscriminator()
    assert [part.period for part in judge.parts] == [2, 3, 5, 7, 11]
    assert sum(parameter.numel() for parameter in judge.parameters()) == 5 * 8_221_154
    gains = sum(each.numel() for name, each in judge.named_parameters() if name.endswith("weight.original0"))
    assert gains == 5 * 2721


def test_a_period_is_a_row() -> None:
    """Each column holds the samples of one phase of the period: a change in one is seen by the scores of that one."""
    torch.manual_seed(0)
    part = PeriodDiscriminator(3, (4, 4))
    waveform = torch.randn(1, 30)
    changed = waveform.clone()
    changed[0, 4::3] += 1.0
    moved = (part(waveform).scores - part(changed).scores).view(-1, 3).abs().amax(0)
    assert (moved > 0).tolist() == [False, True, False]


def test_a_waveform_is_filled_by_reflection_to_whole_rows() -> None:
    """Seven samples in rows of three: the last two cells hold the samples before the last, mirrored."""
    torch.manual_seed(0)
    part = PeriodDiscriminator(3, (4, 4))
    waveform = torch.arange(7.0)[None]
    filled = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6, 5, 4]])
    assert torch.equal(part(waveform).scores, part(filled).scores)


def test_the_first_layer_is_not_matched() -> None:
    """Five layers and the scores make five features, the scores last; HiFi-GAN's would be six."""
    with torch.device("meta"):
        found = PeriodDiscriminator(2, (32, 128, 512, 1024, 1024))(torch.zeros(1, 1000))
    assert [each.shape[1] for each in found.features] == [128, 512, 1024, 1024, 1]


def judgement(*scores: float) -> list[Judgement]:
    """One part of a judge, one item, these scores."""
    return [Judgement(torch.tensor([scores]), [])]


def test_hinge_and_least_squares_have_their_closed_forms() -> None:
    """Scores of 0.5 and 3, of -2 and 0, and sums over the parts of a judge."""
    assert real_loss(judgement(0.5, 3.0), "hinge").item() == pytest.approx((0.5 + 0) / 2)
    assert fake_loss(judgement(-2.0, 0.0), "hinge").item() == pytest.approx((0 + 1) / 2)
    assert persuasion_loss(judgement(-2.0, 3.0), "hinge").item() == pytest.approx((3 + 0) / 2)
    assert real_loss(judgement(0.5, 3.0), "least_squares").item() == pytest.approx((0.25 + 4) / 2)
    assert fake_loss(judgement(-2.0, 0.0), "least_squares").item() == pytest.approx(4 / 2)
    assert persuasion_loss(judgement(-2.0, 3.0), "least_squares").item() == pytest.approx((9 + 4) / 2)
    assert real_loss(judgement(0.0) + judgement(-1.0), "hinge").item() == pytest.approx(1 + 2)


def test_feature_matching_adds_up_layers_and_parts() -> None:
    """Means over a layer, 0.5 and 2, twice; nothing between a waveform and itself."""
    one = Judgement(torch.zeros(2, 1), [torch.zeros(2, 3, 4), torch.zeros(2, 1, 5)])
    other = Judgement(torch.zeros(2, 1), [torch.full((2, 3, 4), 0.5), torch.full((2, 1, 5), -2.0)])
    assert feature_loss([one, one], [other, other]).tolist() == [5.0, 5.0]
    assert feature_loss([one], [one]).tolist() == [0.0, 0.0]


def test_silence_gives_finite_gradients() -> None:
    """To the judge and to what it judges."""
    torch.manual_seed(0)
    judge = MultiPeriodDiscriminator((2, 3), (4, 6))
    waveform = torch.zeros(2, 500, requires_grad=True)
    judged = judge(waveform)
    (
        real_loss(judged, "hinge") + fake_loss(judged, "hinge") + feature_loss(judged, judge(waveform + 1))
    ).sum().backward()
    assert waveform.grad is not None and waveform.grad.isfinite().all()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in judge.parameters())


def test_spectrum_discriminators_have_the_sizes_of_the_codec_they_are_from() -> None:
    """94,208 a band and 290 for the scores, at each of three window sizes; the whole is one band."""
    with torch.device("meta"):
        bands, whole = SpectrumDiscriminators(), SpectrumDiscriminators(bands=WHOLE)
    assert sum(parameter.numel() for parameter in bands.parameters()) == 3 * (5 * 94_208 + 290)
    assert sum(parameter.numel() for parameter in whole.parameters()) == 3 * (94_208 + 290)


def test_each_band_is_looked_at_by_itself() -> None:
    """A tone at 9 kHz of 48 moves the maps of the band from 6 to 12 kHz, and of the others hardly anything."""
    torch.manual_seed(0)
    judge = SpectrumDiscriminators((512,), channels=2)
    time = torch.arange(4800) / 48000
    noise = 0.05 * torch.randn(1, 4800)
    tone = 0.5 * (2 * torch.pi * 9000 * time).sin()
    quiet, loud = judge(noise)[0], judge(noise + tone)[0]
    moved = [(one - other).abs().mean().item() for one, other in zip(quiet.features, loud.features, strict=True)]
    first_layers = moved[:-1][::5]
    assert [place for place, each in enumerate(first_layers) if each > 0.01] == [2]
    assert len(quiet.features) == 5 * 5 + 1
