"""Contrast: BSP-MPNet's spectrum should be the clean one, stretched as its input is."""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from simulation.errors import BadSetting
from training.embeddings import Embeddings
from training.models.base import Enhancer, Polar
from training.models.bsp_mpnet import BspMpnet
from training.models.bsp_mpnet.inside import SATURATED
from training.models.bsp_mpnet.network import Masked
from training.models.bsp_mpnet.rema import MASK_CEILING
from training.models.bsp_mpnet.ssl import SslModel
from training.models.layers import without_autocast
from training.objectives.base import MODEL, Losses, Objective, ObjectiveConfig, PerItem
from training.objectives.regression import envelope_correlation, third_octaves
from training.objectives.terms import (
    Spectra,
    complex_distance,
    consistency_distance,
    magnitude_distance,
    phase_distances,
    time_distance,
)
from training.spectral import Stft

MAGNITUDE_FLOOR = 1e-9
SAMPLE_RATE, ENVELOPE_FFT, ENVELOPE_HOP = 16000, 400, 200
"""Of the spectrum on which envelopes are compared: Hz and samples."""


class Contrast(Objective):
    """lambda_1 magnitude + lambda_2 phase on the network's own spectrum, and the further terms of MP-SENet's line.

    The magnitude m = W log(1 + |X|) of the target is stretched as the network's input is, by the network's own
    analysis: with another target it would learn to undo W, and the gain would be gone. The phase term is MP-SENet's
    (instantaneous phase, group delay, instantaneous frequency, with its code's differences of 2024). The further ones
    have no weight by default: `complex` and `consistency` on the spectrum of magnitude m and the phase, `time` on
    waveforms, the clean one stretched too. `envelope` is no term of theirs: third-octave envelopes of the waveform and
    of the clean one as it is; it keeps speech intelligible where training is short, as in the other smoke recipes.

    Source: arXiv 2503.21571 names the two terms; their weights are MP-SENet's, a reconstruction.

    Losses also tell, without weight, how the masks do: the share of their values within 0.02 of either end, and the
    spread of the slopes of their sigmoids; and how far the layer weights of each path are from equal ones (the largest
    share times the number of layers: 1 is equal, which after training means that a path did not use them).
    """

    class Config(ObjectiveConfig):
        """Weights of the terms."""

        kind: Literal["contrast"] = "contrast"
        magnitude: float = Field(default=0.9, ge=0)
        phase: float = Field(default=0.3, ge=0)
        """Weight of the sum of instantaneous phase, group delay and instantaneous frequency."""
        complex: float = Field(default=0.0, ge=0)
        consistency: float = Field(default=0.0, ge=0)
        time: float = Field(default=0.0, ge=0)
        envelope: float = Field(default=0.0, ge=0)
        """Weight of 1 less the correlation of third-octave envelopes, as `regression` has it."""
        embeddings: Literal["piece", "whole", "stored"] = "piece"
        """What a frozen SSL model hears: the piece that is learnt from, in the step; the whole row, each time that it
        is read; or that once, into the store. The last two give the same numbers, as whole recordings do."""
        stored_precision: Literal["fp32", "fp16", "bf16"] = "fp32"
        """Of embeddings in the store."""

        @model_validator(mode="after")
        def _weighs_something(self) -> "Contrast.Config":
            if not any((self.magnitude, self.phase, self.complex, self.consistency, self.time, self.envelope)):
                raise ValueError("every weight is 0: nothing would be learnt")
            return self

        def build(self) -> "Contrast":
            """The objective."""
            return Contrast(self)

        def wants_beside(self) -> bool:
            """Embeddings of whole rows."""
            return self.embeddings != "piece"

    bands: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stft = Stft(ENVELOPE_FFT, ENVELOPE_HOP)
        self.register_buffer("bands", third_octaves(ENVELOPE_FFT, SAMPLE_RATE), persistent=False)

    def losses(
        self,
        model: Enhancer,
        noisy: Float[Tensor, "batch samples"],
        clean: Float[Tensor, "batch samples"],
        phase: str = MODEL,
    ) -> Losses:
        """See the class; the weighted sum is the total. Raises BadSetting for another network than BSP-MPNet."""
        if not isinstance(model, BspMpnet):
            raise BadSetting(
                f"The objective contrast looks at the masks of BSP-MPNet, and this is {type(model).__name__}. Take the "
                "objective regression or spectral for it."
            )
        masked = model.masked(noisy)
        with without_autocast(noisy):
            wanted = model.analysed(clean)
            terms = list(self._terms(model, masked, wanted, clean.shape[-1]))
            if self.config.envelope:
                heard, said = (self.stft(each) for each in (masked.enhanced, clean))
                terms.append(("envelope", self.config.envelope, 1 - envelope_correlation(heard, said, self.bands)))
            total = torch.stack([weight * distance for _, weight, distance in terms]).sum(0)
            return Losses(total, {name: distance for name, _, distance in terms} | health(model, masked))

    def maker(self, model: Enhancer) -> Embeddings | None:
        """Of embeddings of whole rows; BadSetting where the SSL model learns, or there is none."""
        config = self.config
        if not config.wants_beside():
            return None
        if not isinstance(model, BspMpnet) or not isinstance(model.ssl, SslModel) or not model.frozen:
            raise BadSetting(
                f"embeddings = {config.embeddings!r} wants what a frozen SSL model says of whole rows, and this one "
                "learns, or there is none. Set fine_tuning to 'frozen' in the model, or embeddings to 'piece'."
            )
        return Embeddings(model.ssl, config.embeddings == "stored", config.stored_precision)

    def _terms(
        self, model: BspMpnet, masked: Masked, wanted: Polar, samples: int
    ) -> Iterator[tuple[str, float, PerItem]]:
        config, found = self.config, masked.found
        if config.magnitude:
            yield "magnitude", config.magnitude, magnitude_distance(found.magnitude, wanted.magnitude)
        if config.phase:
            for name, distance in phase_distances(found.phase, wanted.phase)._asdict().items():
                yield name, config.phase, distance
        if config.complex:
            yield "complex", config.complex, complex_distance(torch.polar(*found), torch.polar(*wanted))
        if config.consistency:
            heard = _logarithmic(model.stft(masked.enhanced))
            yield "consistency", config.consistency, consistency_distance(torch.polar(*found), heard)
        if config.time:
            yield "time", config.time, time_distance(masked.enhanced, model.synthesised(wanted, samples))


def _logarithmic(spectrum: Spectra) -> Spectra:
    """With the magnitude log(1 + |X|), which has all contrast in it already, and a gradient at 0."""
    size = spectrum.abs().clamp(min=MAGNITUDE_FLOOR)
    return spectrum * (size.log1p() / size)


@torch.no_grad()
def health(model: BspMpnet, masked: Masked) -> dict[str, PerItem]:
    """How the masks and the layer weights do, by name; see `Contrast`."""
    found = dict[str, PerItem]()
    paths = (("magnitude", model.magnitude, masked.magnitude_mask), ("phase", model.phase, masked.phase_mask))
    for name, path, mask in paths:
        if path is None or mask is None:
            continue
        saturated = (mask < SATURATED) | (mask > MASK_CEILING - SATURATED)
        shares = path.separation.shares
        item = torch.ones_like(masked.enhanced[:, 0])
        found[f"{name}_mask_saturation"] = saturated.to(item).mean((1, 2))
        found[f"{name}_slope_spread"] = item * path.decoder.mask.slope.std()
        found[f"{name}_layer_contrast"] = item * shares.max() * len(shares)
    return found
