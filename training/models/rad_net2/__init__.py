"""RaD-Net 2: repair, then denoise; causal, at 48 kHz. One idea a file."""

from training.models.rad_net2.network import RadNet2

__all__ = ["RadNet2"]
