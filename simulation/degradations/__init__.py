"""One file per degradation; each is made known by its line in `AnyDegradation`."""

from typing import Annotated

from pydantic import Field

from simulation.degradations.adc_filter import AdcFilter
from simulation.degradations.agc import Agc
from simulation.degradations.alias import Alias
from simulation.degradations.band_limit import BandLimit
from simulation.degradations.clip import Clip
from simulation.degradations.clip_quantiles import ClipQuantiles
from simulation.degradations.codec import Codec
from simulation.degradations.equalise import Equalise
from simulation.degradations.expand import Expand
from simulation.degradations.gain_steps import GainSteps
from simulation.degradations.hiss import AddHiss
from simulation.degradations.interferer import AddTalker
from simulation.degradations.level import Level
from simulation.degradations.noise import AddNoise
from simulation.degradations.packet_loss import PacketLoss
from simulation.degradations.quantise import Quantise
from simulation.degradations.reverb import Reverberate
from simulation.degradations.wind import AddWind

AnyDegradation = Annotated[
    AddNoise
    | Reverberate
    | BandLimit
    | AddTalker
    | AddWind
    | AddHiss
    | Clip
    | ClipQuantiles
    | Codec
    | PacketLoss
    | Quantise
    | AdcFilter
    | Agc
    | Alias
    | Equalise
    | Expand
    | GainSteps
    | Level,
    Field(discriminator="kind"),
]
