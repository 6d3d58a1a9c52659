"""One file per degradation; each is made known by its line in `AnyDegradation`."""

from typing import Annotated

from pydantic import Field

from simulation.degradations.band_limit import BandLimit
from simulation.degradations.noise import AddNoise
from simulation.degradations.reverb import Reverberate

AnyDegradation = Annotated[
    AddNoise | Reverberate | BandLimit,
    Field(discriminator="kind"),
]
