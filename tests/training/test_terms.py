"""Spectral terms: values of hand-made cases, closed forms, and the values that the authors' code gives."""

import math

import numpy as np
import pytest
import torch

from training.metrics.phase import measure_omnidirectional
from training.objectives.terms import (
    anti_wrapping,
    complex_distance,
    consistency_distance,
    magnitude_distance,
    omnidirectional_phase_distance,
    phase_distances,
    time_distance,
)
from training.spectral import Stft, magnitude, phase

Pair = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture
def angles() -> Pair:
    """Two maps of random phases, [3, 7, 9]."""
    rng = torch.Generator().manual_seed(0)
    one, other = (torch.rand(3, 7, 9, generator=rng, dtype=torch.float64) * 2 * math.pi - math.pi for _ in range(2))
    return one, other


def test_anti_wrapping_is_the_distance_to_a_whole_turn() -> None:
    """0 at whole turns, pi half way, and the same on both sides."""
    angle = torch.tensor([0.0, 0.5, -0.5, math.pi, 2 * math.pi, 2 * math.pi + 0.5, -4 * math.pi - 0.25])
    wanted = torch.tensor([0.0, 0.5, 0.5, math.pi, 0.0, 0.5, 0.25])
    assert torch.allclose(anti_wrapping(angle), wanted, atol=1e-5)


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """True phase, predicted phase and magnitude for which the authors' code was run, [1, 201, 30]."""
    rng = np.random.default_rng(7)
    true, predicted = (rng.uniform(-np.pi, np.pi, (1, 201, 30)) for _ in range(2))
    return tuple(torch.from_numpy(each) for each in (true, predicted, np.abs(rng.standard_normal((1, 201, 30)))))


AUTHORS = {
    "2023": (1.5536557674040017, 1.551714999051671, 1.5670572633078657),
    "2024": (1.5536557674040017, 1.5507834428265985, 1.5679042422510894),
}
"""Instantaneous phase, group delay and instantaneous frequency that both editions of MP-SENet's code give for `drawn`;
RENet's gives those of 2024."""


@pytest.mark.parametrize("edition", ["2023", "2024"])
def test_phase_terms_are_those_of_the_authors(edition: str) -> None:
    """In double precision, for the phases that their code was asked about."""
    true, predicted, _ = drawn()
    found = [term.item() for term in phase_distances(predicted, true, edition)]
    assert found == pytest.approx(AUTHORS[edition], rel=1e-12)


def test_the_omnidirectional_term_is_that_of_the_authors() -> None:
    """RENet's code gives 1.2327 for the same phases and a magnitude."""
    true, predicted, weight = drawn()
    assert omnidirectional_phase_distance(predicted, true, weight).item() == pytest.approx(
        1.2327438747168542, rel=1e-12
    )


def test_the_omnidirectional_term_is_the_metric_with_another_weight() -> None:
    """With the uncompressed magnitude, divided by its sum, it is WOPD."""
    rng = np.random.default_rng(0)
    clean, enhanced = (0.1 * rng.standard_normal(3200) for _ in range(2))
    stft = Stft(400, 100).double()
    stft.window = torch.hann_window(400, dtype=torch.float64)
    one, other = (stft(torch.from_numpy(each)[None]) for each in (clean, enhanced))
    weight = magnitude(one)
    ours = omnidirectional_phase_distance(phase(other), phase(one), weight) * weight.numel() / weight.sum()
    assert ours.item() == pytest.approx(measure_omnidirectional(clean, enhanced, 16000), rel=1e-9)


def all_phase_terms(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Every term that looks at phases, [terms, batch]."""
    weight = torch.linspace(0.1, 1, wanted.numel(), dtype=wanted.dtype).view_as(wanted)
    editions = (phase_distances(found, wanted, edition) for edition in ("2023", "2024"))
    terms = [term for three in editions for term in three]
    return torch.stack([*terms, omnidirectional_phase_distance(found, wanted, weight)])


def test_whole_turns_change_no_phase_term(angles: Pair) -> None:
    """Adding 2 pi anywhere, to either side, is as if nothing had been done; terms are per item."""
    found, wanted = angles
    turns = 2 * math.pi * torch.randint(-2, 3, found.shape, generator=torch.Generator().manual_seed(1))
    before = all_phase_terms(found, wanted)
    assert before.shape == (7, 3)
    assert torch.allclose(all_phase_terms(found + turns, wanted), before, atol=1e-12)
    assert torch.allclose(all_phase_terms(found, wanted - turns), before, atol=1e-12)


def test_a_turn_of_everything_is_seen_by_the_phase_itself_alone(angles: Pair) -> None:
    """Half a radian everywhere: the instantaneous phase says 0.5; differences along frequency and time say nothing."""
    _, wanted = angles
    phases, delay, frequency = phase_distances(wanted + 0.5, wanted)
    assert torch.allclose(phases, torch.full((3,), 0.5, dtype=torch.float64))
    assert torch.cat([delay, frequency]).abs().max() < 1e-12


def test_group_delay_looks_along_frequency_and_instantaneous_frequency_along_time() -> None:
    """An error that grows by 0.1 a bin is one of the group delay; by 0.1 a frame, of the frequency."""
    zero = torch.zeros(1, 5, 6)
    along_bins = 0.1 * torch.arange(5.0)[:, None].expand(1, 5, 6)
    along_frames = 0.1 * torch.arange(6.0).expand(1, 5, 6)
    _, delay, frequency = phase_distances(along_bins, zero)
    assert (delay.item(), frequency.item()) == pytest.approx((0.1, 0.0), abs=1e-6)
    _, delay, frequency = phase_distances(along_frames, zero)
    assert (delay.item(), frequency.item()) == pytest.approx((0.0, 0.1), abs=1e-6)


def test_the_omnidirectional_term_sees_a_constant_turn_in_one_map_and_at_the_border() -> None:
    """Of 3 x 3 cells turned by 0.5: nine in the phase's own map, and in the eight others those whose neighbour lies
    outside: 3 of 9 for the four straight neighbours, 5 of 9 for the four diagonal ones."""
    turned = torch.full((1, 3, 3), 0.5)
    found = omnidirectional_phase_distance(turned, torch.zeros(1, 3, 3), torch.ones(1, 3, 3))
    assert found.item() == pytest.approx(0.5 * (9 + 4 * 3 + 4 * 5) / 81, rel=1e-6)


def test_magnitude_complex_and_time_are_means_of_squares_and_of_moduli() -> None:
    """Hand-made: constant differences of 0.5, of 3 + 4i, of -0.25."""
    assert magnitude_distance(torch.full((2, 3, 4), 1.5), torch.ones(2, 3, 4)).tolist() == [0.25, 0.25]
    one, other = torch.full((1, 3, 4), 4 + 5j), torch.full((1, 3, 4), 1 + 1j)
    assert complex_distance(one, other).item() == pytest.approx(25.0)
    stacked = torch.nn.functional.mse_loss(torch.view_as_real(one), torch.view_as_real(other)) * 2
    assert complex_distance(one, other).item() == pytest.approx(stacked.item())
    assert time_distance(torch.zeros(2, 8), torch.full((2, 8), 0.25)).tolist() == [0.25, 0.25]


def test_only_the_spectrum_of_a_waveform_is_consistent() -> None:
    """Zero for what the STFT made, far from zero for the same magnitudes under other phases."""
    stft = Stft(400, 100)
    spectrum = stft(torch.randn(1, 3200, generator=torch.Generator().manual_seed(0)))

    def inconsistency(one: torch.Tensor) -> float:
        return (consistency_distance(one, stft(stft.inverse(one, 3200))) / one.abs().square().mean()).item()

    assert inconsistency(spectrum) < 1e-6
    assert inconsistency(spectrum.abs() + 0j) > 0.1


@pytest.mark.parametrize("level", [0.0, 1e-8, 1.0])
def test_gradients_are_finite_in_silence(level: float) -> None:
    """From the waveform through magnitude, phase and every term, also where both sides are digital silence."""
    stft = Stft(400, 100)
    wanted = stft(torch.zeros(2, 1200))
    waveform = (level * torch.randn(2, 1200, generator=torch.Generator().manual_seed(0))).requires_grad_()
    found = stft(waveform)
    total = all_phase_terms(phase(found), phase(wanted)).sum()
    total = total + magnitude_distance(magnitude(found, 0.3), magnitude(wanted, 0.3)).sum()
    polar = torch.polar(magnitude(found, 0.3), phase(found))
    total = total + complex_distance(polar, torch.polar(magnitude(wanted, 0.3), phase(wanted))).sum()
    (total + time_distance(waveform, torch.zeros(2, 1200)).sum()).backward()
    assert total.isfinite()
    assert waveform.grad is not None and waveform.grad.isfinite().all()
