"""The sizes at which networks were published, and ours beside them: what `unmuffle models` shows."""

from typing import NamedTuple

from training.models.base import ModelConfig
from training.models.bsp_mpnet import BspMpnet
from training.models.bsp_mpnet.ssl import Ssl
from training.models.dm import Dm
from training.models.gp_unified import GpUnified, Sampling
from training.models.gru_mask import GruMask
from training.models.mp_senet import MpSenet
from training.models.rad_net2 import RadNet2
from training.models.rad_net2.denoising import Denoising
from training.models.rad_net2.repairing import Repairing
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
_RAD_NET_2 = "arXiv 2406.07498"
_GP_UNIFIED = "arXiv 2305.10734"
_BSP_MPNET = "arXiv 2503.21571, a reconstruction, without its SSL model"
_BASE, _LARGE = Ssl(kind="absent"), Ssl(kind="absent", width=1024, layers=24)
_ONE_CALL = "one of the 2 N calls of a sample"

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
    "rad_net2": Preset(RadNet2.Config(), f"{_RAD_NET_2}; stage 2 is a reconstruction"),
    "rad_net2_small": Preset(
        RadNet2.Config(denoising=Denoising(channels=(16, 16, 32, 32, 32, 32), squeezed=32)),
        f"{_RAD_NET_2}, ours, a smaller stage 2",
    ),
    "rad_net2_large": Preset(RadNet2.Config(denoising=Denoising(stacks=2)), f"{_RAD_NET_2}, ours, a larger stage 2"),
    "rad_net2_tiny": Preset(
        RadNet2.Config(
            repairing=Repairing(channels=32),
            denoising=Denoising(channels=(8, 8, 16, 16, 16, 16), squeezed=16, attention="none"),
        ),
        f"{_RAD_NET_2}, ours, for one slow core",
    ),
    "rad_net2_repairing": Preset(RadNet2.Config(denoising=None), f"{_RAD_NET_2}, stage 1: COM-Net of TEA-PSE 2.0"),
    "rad_net2_teacher": Preset(
        RadNet2.Config(denoising=None, sees_both_sides=True), f"{_RAD_NET_2}, stage 1 that sees both sides"
    ),
    "sgmse_plus": Preset(
        GpUnified.Config(predictive_decoder=False, sampling=Sampling(mode="generative", steps=1, corrector_steps=0)),
        f"{_GP_UNIFIED}, 65.6 M with 128 frozen ones; {_ONE_CALL}",
    ),
    "gp_unified": Preset(
        GpUnified.Config(sampling=Sampling(steps=1, corrector_steps=0)),
        f"{_GP_UNIFIED}, 106 M with 128 frozen ones; {_ONE_CALL}, in which both decoders run",
    ),
    "gp_unified_small": Preset(
        GpUnified.Config(
            hop_size=256,
            channels=8,
            multipliers=(1, 1, 2, 2),
            blocks=1,
            attention_bins=(),
            fourier_scale=1.0,
            predictive_output="mask",
            sampling=Sampling(mode="predictive", predictive_noise=False),
        ),
        "ours, for CPUs; its predictive decoder's one call",
    ),
    "bsp_mpnet": Preset(BspMpnet.Config(ssl=_BASE), f"{_BSP_MPNET} (base)"),
    "bsp_mpnet_2_blocks": Preset(BspMpnet.Config(ssl=_BASE, blocks=2), f"{_BSP_MPNET} (base)"),
    "bsp_mpnet_large": Preset(BspMpnet.Config(ssl=_LARGE), f"{_BSP_MPNET} (large)"),
    "bsp_mpnet_large_2_blocks": Preset(BspMpnet.Config(ssl=_LARGE, blocks=2), f"{_BSP_MPNET} (large)"),
    "gru_mask": Preset(GruMask.Config(), "our own baseline"),
}
