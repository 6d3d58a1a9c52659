"""Spectral: magnitude, phase, complex spectrum and waveform should be the clean ones, on the network's own spectrum."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from simulation.errors import BadSetting
from training.models.base import Enhancer, Estimate, Polar
from training.models.layers import without_autocast
from training.objectives.base import Losses, ObjectiveConfig, PerItem
from training.objectives.distances import Answer, Distances
from training.objectives.judges import Heard
from training.objectives.terms import (
    Spectra,
    Waveforms,
    complex_distance,
    consistency_distance,
    magnitude_distance,
    omnidirectional_phase_distance,
    phase_distances,
    time_distance,
)
from training.spectral import Stft, level_gain, magnitude, phase


class Comparison(NamedTuple):
    """A network's answer beside what was wanted, all at the level that brings the noisy waveform to a power of one."""

    enhanced: Waveforms
    clean: Waveforms
    found: Polar
    """The network's own spectrum; that of the enhanced waveform where it makes none."""
    analysed: Polar
    """The spectrum of the enhanced waveform."""
    wanted: Polar
    branches: dict[str, Polar]
    """The spectrum of each whole estimate that a part of the network makes."""
    health: Mapping[str, PerItem] = MappingProxyType({})
    """`Estimate.health`."""


class Spectral(Distances):
    """The terms of MP-SENet, RENet's weighted omnidirectional phase term, and supervision of branches.

    What is in `training.objectives.terms`, weighed. Magnitude, phase and complex terms look at the spectrum that the
    network itself estimates (`Estimate.polar`), which need not be that of any waveform; the consistency term draws it
    there. For a network that estimates no phase they look at the enhanced waveform's, whose consistency is perfect.

    Sources and weights: `training.objectives.papers`. A term of weight 0 is not computed. Everything after the network
    is in single precision at least, whatever autocast says.
    """

    class Config(ObjectiveConfig):
        """Weights of the terms, and the spectrum that they are measured on; the defaults are MP-SENet's of 2024."""

        kind: Literal["spectral"] = "spectral"
        fft_size: int = Field(default=400, gt=0)
        """STFT window, in samples; the network's own where that estimates a spectrum."""
        hop_size: int = Field(default=100, gt=0)
        """STFT hop, in samples; the same holds."""
        compression: float = Field(default=0.3, gt=0)
        """Exponent of the magnitude; the same holds."""
        edition: Literal["2023", "2024"] = "2024"
        """Which of MP-SENet's phase differences: see `phase_distances`."""
        magnitude: float = Field(default=0.9, ge=0)
        phase: float = Field(default=0.3, ge=0)
        """Weight of the sum of instantaneous phase, group delay and instantaneous frequency."""
        complex: float = Field(default=0.1, ge=0)
        consistency: float = Field(default=0.1, ge=0)
        time: float = Field(default=0.2, ge=0)
        omnidirectional: float = Field(default=0.0, ge=0)
        """Weight of RENet's phase term."""
        branches: dict[str, float] = Field(default_factory=dict)
        """Weight of the magnitude term of each branch, by the name that the network gives it."""

        @model_validator(mode="after")
        def _weighs_something(self) -> "Spectral.Config":
            weights = (self.magnitude, self.phase, self.complex, self.consistency, self.time, self.omnidirectional)
            if not any(weights) and not any(self.branches.values()):
                raise ValueError("every weight is 0: nothing would be learnt")
            return self

        def build(self) -> "Spectral":
            """The objective."""
            return Spectral(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stft = Stft(config.fft_size, config.hop_size)

    def answer(
        self, model: Enhancer, noisy: Float[Tensor, "batch samples"], clean: Float[Tensor, "batch samples"]
    ) -> Answer:
        """See the class; the weighted sum is the total."""
        compared = self.compare(model, noisy, clean)
        with without_autocast(noisy):
            losses = self.judge(compared)
        enhanced = Heard(compared.enhanced, compared.analysed.magnitude)
        return Answer(losses, enhanced, Heard(compared.clean, compared.wanted.magnitude))

    def level(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 1"]:
        """The gain that brings the noisy waveform to a power of one."""
        return level_gain(noisy)

    def heard(self, waveform: Float[Tensor, "batch samples"]) -> Heard:
        """The waveform and its compressed magnitude."""
        return Heard(waveform, self.analysed(waveform).magnitude)

    def compare(
        self, model: Enhancer, noisy: Float[Tensor, "batch samples"], clean: Float[Tensor, "batch samples"]
    ) -> Comparison:
        """The network's answer beside what was wanted."""
        estimate = model.estimate(noisy)
        with without_autocast(noisy):
            gain = self.level(noisy)
            enhanced, wanted = estimate.enhanced * gain, self.analysed(clean * gain)
            analysed = self.analysed(enhanced)
            found = estimate.polar or analysed
            if found.magnitude.shape != wanted.magnitude.shape:
                raise BadSetting(
                    f"{type(model).__name__} estimates spectra of {tuple(found.magnitude.shape[1:])} bins and frames, "
                    f"its objective analyses {tuple(wanted.magnitude.shape[1:])}. Give the objective the fft_size and "
                    "hop_size of the network."
                )
            branches = {name: self.analysed(estimate.branches[name] * gain) for name in self._branches(estimate)}
            return Comparison(enhanced, clean * gain, found, analysed, wanted, branches, estimate.health)

    def judge(self, compared: Comparison) -> Losses:
        """The terms that have a weight, by name, and their weighted sum."""
        terms = list(self._terms(compared))
        total = torch.stack([weight * distance for _, weight, distance in terms]).sum(0)
        return Losses(total, {name: distance for name, _, distance in terms} | dict(compared.health))

    def _terms(self, compared: Comparison) -> Iterator[tuple[str, float, PerItem]]:
        found, wanted, config = compared.found, compared.wanted, self.config
        if config.magnitude:
            yield "magnitude", config.magnitude, magnitude_distance(found.magnitude, wanted.magnitude)
        if config.phase:
            for name, distance in phase_distances(found.phase, wanted.phase, config.edition)._asdict().items():
                yield name, config.phase, distance
        if config.complex:
            yield "complex", config.complex, complex_distance(spectrum(found), spectrum(wanted))
        if config.consistency:
            distance = consistency_distance(spectrum(found), spectrum(compared.analysed))
            yield "consistency", config.consistency, distance
        if config.time:
            yield "time", config.time, time_distance(compared.enhanced, compared.clean)
        if config.omnidirectional:
            distance = omnidirectional_phase_distance(found.phase, wanted.phase, wanted.magnitude)
            yield "omnidirectional", config.omnidirectional, distance
        for name, weight in config.branches.items():
            yield f"branch_{name}", weight, magnitude_distance(compared.branches[name].magnitude, wanted.magnitude)

    def analysed(self, waveform: Float[Tensor, "batch samples"]) -> Polar:
        """Compressed magnitude and phase of a waveform at the level of `Comparison`."""
        found = self.stft(waveform)
        return Polar(magnitude(found, self.config.compression), phase(found))

    def _branches(self, estimate: Estimate) -> list[str]:
        missing = self.config.branches.keys() - estimate.branches.keys()
        if missing:
            raise BadSetting(
                f"The objective weighs branches that the network does not have: {', '.join(sorted(missing))}. It has "
                f"{', '.join(estimate.branches) or 'none'}; name those, or leave `branches` out."
            )
        return list(self.config.branches)


def spectrum(polar: Polar) -> Spectra:
    """The compressed spectrum of these."""
    return torch.polar(polar.magnitude, polar.phase)
