"""GP-Unified and SGMSE+, read in this order: sde.py, samplers.py (mathematics), ncsnpp.py, network.py (weights)."""

from training.models.gp_unified.network import GpUnified
from training.models.gp_unified.samplers import Sampling
from training.models.gp_unified.sde import Ouve

__all__ = ["GpUnified", "Ouve", "Sampling"]
