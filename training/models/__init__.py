"""The networks. A new one is a file of its own and one line here."""

from typing import Annotated

from pydantic import Field

from training.models.base import Enhancer, ModelConfig
from training.models.bsp_mpnet import BspMpnet
from training.models.dm import Dm
from training.models.gp_unified import GpUnified
from training.models.gru_mask import GruMask
from training.models.mp_senet import MpSenet
from training.models.rad_net2 import RadNet2
from training.models.renet import ReNet
from training.models.renet_causal import CausalReNet

AnyModel = Annotated[
    BspMpnet.Config
    | CausalReNet.Config
    | Dm.Config
    | GpUnified.Config
    | GruMask.Config
    | MpSenet.Config
    | RadNet2.Config
    | ReNet.Config,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyModel",
    "BspMpnet",
    "CausalReNet",
    "Dm",
    "Enhancer",
    "GpUnified",
    "GruMask",
    "ModelConfig",
    "MpSenet",
    "RadNet2",
    "ReNet",
]
