"""The sizes at which networks were published, and ours beside them: what `unmuffle models` shows."""

from typing import NamedTuple

from training.models.base import ModelConfig
from training.models.dm import Dm
from training.models.gru_mask import GruMask
from training.models.mp_senet import MpSenet
from training.models.renet import ReNet
from training.models.renet_causal import CausalReNet


class Preset(NamedTuple):
    """A network at one size."""

    config: ModelConfig
    source: str
    """Where the size is from."""
    published_parameters: str = ""
    """As printed there; "" where nothing is."""
    published_gmacs: float | None = None
    """Thousand millions of multiply-accumulates per second of audio, as printed or, where it says so, as computed with
    the authors' own counting rules (they count norms and gates too)."""


_DM = "arXiv 2409.08702"
_MP_SENET = "arXiv 2305.13686", "arXiv 2308.08926"
_RENET = "arXiv 2602.08556"

PRESETS: dict[str, Preset] = {
    "dm": Preset(Dm.Config(), f"{_DM}, reading A", "2.05 M"),
    "dm_tied_head": Preset(Dm.Config(tie_head=True), f"{_DM}, reading A, mask logit and map one tensor", "2.05 M"),
    "dm_b": Preset(
        Dm.Config(blocks=4, relative_positions=False, tie_decoders=False, tie_head=True),
        f"{_DM}, reading B: a decoder for each branch",
        "2.05 M",
    ),
    "dm_c": Preset(
        Dm.Config(blocks=4, relative_positions=False, phase_decoder=True, tie_head=True),
        f"{_DM}, reading C: the phase estimated",
        "2.05 M",
    ),
    "mp_senet_2023": Preset(MpSenet.Config(edition="2023"), _MP_SENET[0], "2.05 M"),
    "mp_senet_2024": Preset(MpSenet.Config(), _MP_SENET[1], "2.26 M"),
    "mp_senet_2024_phase": Preset(
        MpSenet.Config(mask_decoder=False, retrieve_phase=True), f"{_RENET}, its baseline", "1.99 M", 38.80
    ),
    "renet": Preset(ReNet.Config(), f"{_RENET}; MACs by the authors' rules, not printed", "1.55 M", 34.97),
    "renet_small": Preset(ReNet.Config(magnitude_channels=32, magnitude_head=8), _RENET, "0.90 M", 22.89),
    "renet_causal": Preset(CausalReNet.Config(), "the streaming variant in the repository of RENet's authors"),
    "gru_mask": Preset(GruMask.Config(), "our own baseline"),
}
