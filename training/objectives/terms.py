"""Distances between a clean and an enhanced spectrum, one function for each equation; one number for each item.

Magnitudes are compressed, phases in radians, spectra the compressed magnitude with the phase, all [batch, bins,
frames]; waveforms are [batch, samples]. All means are over the item, so that a batch may be dealt out unevenly.
"""

import math
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional

from training.objectives.base import PerItem

Angles: TypeAlias = Float[Tensor, "batch bins frames"]
Magnitudes: TypeAlias = Float[Tensor, "batch bins frames"]
Spectra: TypeAlias = Complex[Tensor, "batch bins frames"]
Waveforms: TypeAlias = Float[Tensor, "batch samples"]

MAPS = 9
"""Of the omnidirectional phase distance: the phase itself and its differences to eight neighbours."""


class PhaseTerms(NamedTuple):
    """What MP-SENet's phase loss adds up."""

    instantaneous_phase: PerItem
    group_delay: PerItem
    instantaneous_frequency: PerItem


def anti_wrapping(angle: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """|x - 2 pi round(x / 2 pi)|: how far an angle is from a whole number of turns, 0 to pi.

    Source: Ai and Ling, "Neural speech phase prediction based on parallel estimation architecture and anti-wrapping
    losses", ICASSP 2023.
    """
    return (angle - 2 * math.pi * torch.round(angle / (2 * math.pi))).abs()


def magnitude_distance(found: Magnitudes, wanted: Magnitudes) -> PerItem:
    """L_Mag of MP-SENet: the mean squared difference."""
    return (found - wanted).square().mean((-2, -1))


def phase_distances(found: Angles, wanted: Angles, edition: str = "2024") -> PhaseTerms:
    """L_IP, L_GD and L_IAF of MP-SENet: the wrapped error, its difference along frequency, and along time.

    The code of 2023 keeps the first bin (the first frame) in front of the differences; that of 2024, and RENet's,
    does not.
    """
    error = found - wanted
    along_frequency, along_time = error.diff(dim=-2), error.diff(dim=-1)
    if edition == "2023":
        along_frequency = torch.cat([error[:, :1], along_frequency], dim=-2)
        along_time = torch.cat([error[:, :, :1], along_time], dim=-1)
    return PhaseTerms(*(anti_wrapping(each).mean((-2, -1)) for each in (error, along_frequency, along_time)))


def complex_distance(found: Spectra, wanted: Spectra) -> PerItem:
    """L_Com of MP-SENet: 2 mean over real and imaginary parts of the squared difference, so the mean of |S - S'|^2."""
    difference = found - wanted
    return (difference.real.square() + difference.imag.square()).mean((-2, -1))


def consistency_distance(found: Spectra, analysed: Spectra) -> PerItem:
    """L_Con of MP-SENet 2024: the estimated spectrum against that of the waveform made from it.

    Zero for the spectrum of a waveform; most points of the time-frequency plane are none.
    """
    return complex_distance(found, analysed)


def time_distance(found: Waveforms, wanted: Waveforms) -> PerItem:
    """L_Time of MP-SENet: the mean absolute difference of waveforms."""
    return (found - wanted).abs().mean(-1)


def omnidirectional_phase_distance(found: Angles, wanted: Angles, weight: Magnitudes) -> PerItem:
    """L_WOPD of RENet: mean over nine maps, bins and frames of weight times the wrapped error of the map.

    The maps are the phase and its differences to the eight neighbours in time and frequency; outside lies phase 0. The
    weight is the clean compressed magnitude and is not divided by its sum, hence RENet's factor of 20 000. The metric
    `wopd` is the same distance with the uncompressed magnitude, divided by the sum.
    """
    error = found - wanted
    bins, frames = error.shape[-2:]
    padded = functional.pad(error, (1, 1, 1, 1))
    total = anti_wrapping(error)
    for row in range(3):
        for column in range(3):
            if (row, column) != (1, 1):
                total = total + anti_wrapping(error - padded[:, row : row + bins, column : column + frames])
    return (weight * total).mean((-2, -1)) / MAPS
