"""Power law: magnitudes and spectra, compressed by a square root, should be the clean ones at the clean level."""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from training.derivation import Maker
from training.models.base import Enhancer
from training.models.layers import without_autocast
from training.objectives.base import Losses, ObjectiveConfig, PerItem
from training.objectives.distances import Answer, Distances
from training.objectives.distillation import Distillation
from training.objectives.distillation_lessons import Lessons
from training.objectives.judges import Heard
from training.objectives.regression import si_sdr_db
from training.objectives.terms import Spectra
from training.spectral import Stft, compressed


class PowerLaw(Distances):
    """The terms of TEA-PSE, which RaD-Net 2's line minimises, and a teacher beside the clean speech if one is named.

    With S the spectrum whose magnitude X is raised to `compression`, sums over bins, means over frames::

        magnitude  (X - X')^2        complex    |S - S'|^2        asymmetry  max(0, X - X')^2, X the clean one
        si_snr     negative SI-SNR, in dB, blind to the level and so without weight unless one is given
        taught_features, taught_output    see `Distillation`

    Source: TEA-PSE 2.0 (Ju et al., SLT 2022), each with the weight 1. That RaD-Net 2 kept them is a reconstruction: its
    summaries say frequency-domain terms. Nothing is brought to another level, since the level is part of what there is
    to mend. Deviations: measured on the spectrum of the enhanced waveform, in centred frames; no mean is removed.
    """

    class Config(ObjectiveConfig):
        """Weights of the terms, and the spectrum that they are measured on."""

        kind: Literal["power_law"] = "power_law"
        fft_size: int = Field(default=960, gt=0)
        """STFT window, in samples (20 ms at 48 kHz)."""
        hop_size: int = Field(default=480, gt=0)
        """STFT hop, in samples."""
        compression: float = Field(default=0.5, gt=0)
        """Exponent of the magnitude."""
        magnitude: float = Field(default=1.0, ge=0)
        complex: float = Field(default=1.0, ge=0)
        asymmetry: float = Field(default=1.0, ge=0)
        """Weight of what is missing of the clean magnitude, so that speech is not taken for noise."""
        si_snr: float = Field(default=0.0, ge=0)
        distillation: Distillation.Config | None = None
        """None: nothing is learnt from a teacher."""

        @model_validator(mode="after")
        def _weighs_something(self) -> "PowerLaw.Config":
            weights = (self.magnitude, self.complex, self.asymmetry, self.si_snr)
            if not any(weights) and self.distillation is None:
                raise ValueError("every weight is 0: nothing would be learnt")
            return self

        def build(self) -> "PowerLaw":
            """The objective."""
            return PowerLaw(self)

        def versions(self) -> list[str]:
            """The teacher's."""
            return [] if self.distillation is None else list(self.distillation.teachers)

        def wants_beside(self) -> bool:
            """Whether lessons are kept."""
            return self.distillation is not None and self.distillation.lessons == "kept"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stft = Stft(config.fft_size, config.hop_size)
        self.distillation = None if config.distillation is None else config.distillation.build()

    def answer(
        self, model: Enhancer, noisy: Float[Tensor, "batch samples"], clean: Float[Tensor, "batch samples"]
    ) -> Answer:
        """See the class; the weighted sum is the total."""
        teaching = self.distillation
        taught = None if teaching is None else teaching.lesson(self.beside, model, noisy)
        estimate = model.estimate(noisy) if teaching is None else teaching.estimate(model, noisy)
        with without_autocast(noisy):
            found, wanted = self._compressed(estimate.enhanced), self._compressed(clean)
            terms = list(self._terms(found, wanted))
            if self.config.si_snr:
                terms.append(("si_snr", self.config.si_snr, -si_sdr_db(estimate.enhanced, clean)))
            if teaching is not None and taught is not None:
                ours, theirs = (
                    teaching.learnt(each, noisy.shape[-1], model.sample_rate) for each in (estimate, taught)
                )
                answer, output = self._compressed(ours.enhanced), self._compressed(theirs.enhanced)
                apart = magnitude_distance(answer, output) + complex_distance(answer, output)
                terms.append(("taught_output", teaching.config.output, apart))
                terms.append(("taught_features", teaching.config.features, teaching.features(ours, theirs)))
            total = torch.stack([weight * distance for _, weight, distance in terms]).sum(0)
            losses = Losses(total, {name: distance for name, _, distance in terms})
            return Answer(losses, Heard(estimate.enhanced, found.abs()), Heard(clean, wanted.abs()))

    def meet(self, model: Enhancer) -> None:
        """Maps between features of student and teacher are made."""
        if self.distillation is not None:
            self.distillation.meet(model)

    def maker(self, model: Enhancer) -> Maker | None:
        """The teachers, where they are to speak once."""
        return None if self.distillation is None else Lessons.of(self.distillation.config)

    def level(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 1"]:
        """One: judges too hear how loud it is."""
        return noisy.new_ones(len(noisy), 1)

    def heard(self, waveform: Float[Tensor, "batch samples"]) -> Heard:
        """The waveform and its compressed magnitude."""
        return Heard(waveform, self._compressed(waveform).abs())

    def _terms(self, found: Spectra, wanted: Spectra) -> Iterator[tuple[str, float, PerItem]]:
        config = self.config
        if config.magnitude:
            yield "magnitude", config.magnitude, magnitude_distance(found, wanted)
        if config.complex:
            yield "complex", config.complex, complex_distance(found, wanted)
        if config.asymmetry:
            yield "asymmetry", config.asymmetry, asymmetric_distance(found, wanted)

    def _compressed(self, waveform: Float[Tensor, "batch samples"]) -> Spectra:
        return compressed(self.stft(waveform), self.config.compression)


def magnitude_distance(found: Spectra, wanted: Spectra) -> PerItem:
    """L_mag of TEA-PSE: squared differences of compressed magnitudes, summed over bins, the mean over frames."""
    return (wanted.abs() - found.abs()).square().sum(-2).mean(-1)


def complex_distance(found: Spectra, wanted: Spectra) -> PerItem:
    """L_pha of TEA-PSE: the same of compressed spectra, so phases count."""
    difference = wanted - found
    return (difference.real.square() + difference.imag.square()).sum(-2).mean(-1)


def asymmetric_distance(found: Spectra, wanted: Spectra) -> PerItem:
    """L_asym of TEA-PSE: as `magnitude_distance`, but only where something of the clean magnitude is missing."""
    return (wanted.abs() - found.abs()).relu().square().sum(-2).mean(-1)
