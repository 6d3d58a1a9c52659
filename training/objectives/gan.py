"""What networks that judge waveforms minimise, and what they ask of the network that is judged; per item.

A judgement is a score for each of several places of a waveform, one tensor for each part of the judge; its features
are what its layers made of the waveform. Means are over an item's places and sums over the parts, as in HiFi-GAN
(Kong et al., NeurIPS 2020).
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from training.objectives.base import PerItem

Scores: TypeAlias = Float[Tensor, "batch places"]


class Judgement(NamedTuple):
    """What one part of a judge says about each item."""

    scores: Scores
    """High for what it takes for clean speech."""
    features: list[Tensor]
    """[batch, channels, ...], what its layers saw, for feature matching."""


Form = Literal["hinge", "least_squares"]
"""Hinge as in RENet's code; least squares as in HiFi-GAN (Mao et al., ICCV 2017)."""


def real_loss(clean: Sequence[Judgement], form: Form) -> PerItem:
    """What a judge gets wrong about clean speech: max(0, 1 - D) or (1 - D)^2."""
    return _sum(clean, (lambda score: (1 - score).relu()) if form == "hinge" else (lambda score: (1 - score).square()))


def fake_loss(enhanced: Sequence[Judgement], form: Form) -> PerItem:
    """What a judge gets wrong about enhanced speech: max(0, 1 + D) or D^2."""
    return _sum(enhanced, (lambda score: (1 + score).relu()) if form == "hinge" else torch.square)


def persuasion_loss(enhanced: Sequence[Judgement], form: Form) -> PerItem:
    """What keeps enhanced speech from being taken for clean; RENet's hinge is clamped here too, max(0, 1 - D)."""
    return real_loss(enhanced, form)


def feature_loss(enhanced: Sequence[Judgement], clean: Sequence[Judgement]) -> PerItem:
    """Feature matching: the mean absolute difference of each layer's view, added up over layers and parts.

    HiFi-GAN doubles it, RENet's code does not.
    """
    return torch.stack(
        [
            (one - other).abs().flatten(1).mean(-1)
            for found, wanted in zip(enhanced, clean, strict=True)
            for one, other in zip(found.features, wanted.features, strict=True)
        ]
    ).sum(0)


def _sum(judgements: Sequence[Judgement], loss: Callable[[Tensor], Tensor]) -> PerItem:
    return torch.stack([loss(part.scores).mean(-1) for part in judgements]).sum(0)
