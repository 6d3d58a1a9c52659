"""BSP-MPNet: masks on magnitude and phase, told by a self-supervised speech model. One idea a file."""

from training.models.bsp_mpnet.network import BspMpnet

__all__ = ["BspMpnet"]
