"""Perceptual contrast stretching: the published weights."""

import numpy as np
import pytest

from training.contrast import BAND_EDGES, contrast_weights

EDGES_HZ = np.array([100, 200, 300, 400, 4400, 5300, 6400, 7700])
"""Where critical bands of another importance begin (ANSI S3.5)."""


def test_the_weights_of_contrast_stretching_are_the_published_ones() -> None:
    """Their sum over 257 bins, the weight of the important bands, and the last bin, which the published table skips."""
    weights = contrast_weights(257)
    assert weights.sum() == pytest.approx(333.947368, abs=1e-6)
    bins = [0, 3, 6, 9, 12, 137, 138, 166, 200, 241, 255, 256]
    published = [1, 1.070175439, 1.182456140, 1.287719298, 1.4, 1.4, 1.322807018, 1.238596491, 1.161403509]
    assert weights[bins] == pytest.approx([*published, 1.077192982, 1.077192982, 1], abs=1e-9)
    assert (contrast_weights(769)[256:] == 1).all()


def test_the_201_weights_are_the_published_ones() -> None:
    """Their sum, and one bin of each band."""
    weights = contrast_weights(201, table=201)
    assert weights.sum() == pytest.approx(261.568421, abs=1e-6)
    published = [1, 1.070175439, 1.182456140, 1.287719298, 1.4, 1.322807018, 1.238596491, 1.161403509, 1.077192982]
    assert weights[[2, 4, 7, 9, 109, 129, 159, 189, 200]] == pytest.approx(published, abs=1e-9)


def test_the_edges_of_257_bins_are_those_of_the_bands_over_32() -> None:
    """2 % below the bands themselves, as published: 4312.5 Hz instead of 4400 Hz."""
    assert BAND_EDGES[257][1:-1] == tuple(np.round(EDGES_HZ / 32).astype(int))
    assert BAND_EDGES[257][5] * 31.25 == 4312.5
