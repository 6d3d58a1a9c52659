"""What is to be seen inside a BSP-MPNet: how each path weighs the SSL model's layers, and where its masks stand.

As a picture while it trains, and as sentences beside its scores.
"""

import io

import numpy as np
from torch import Tensor

from training.models.bsp_mpnet.rema import MASK_CEILING
from training.models.bsp_mpnet.ssl import Separation, Ssl

SATURATED = 0.02
"""A mask nearer than this to 0 or to 2 has stopped to learn."""
EQUAL = 1.02
"""Largest layer weight times the number of layers, below which all layers count alike."""

STRETCHED = (
    "its output has more contrast than the clean speech, which alone raises PESQ and lowers SI-SDR; compare it with "
    "contrast_stretching"
)


def untaught(ssl: Ssl, frozen: bool) -> str:
    """Of an SSL model that begins with no release."""
    if ssl.kind == "absent":
        return "it has no SSL model"
    weights = "has random weights" if frozen else "began with random weights"
    return f"its SSL model, a {ssl.kind} of {ssl.layers} layers of {ssl.width}, {weights}"


def alike(path: str, separation: Separation) -> str:
    """Of a path whose layer weights did not go apart."""
    return (
        f"its {path} path weighs all layers of the SSL model alike (the largest {contrast(separation):.3f} times an "
        "equal one): it has not learnt which ones to hear"
    )


def contrast(separation: Separation) -> float:
    """Largest layer weight times the number of layers: 1 where all are equal."""
    return float(separation.shares.detach().max()) * len(separation.shares)


def saturation(mask: Tensor) -> float:
    """Share of a mask's values that stand at an end of their range."""
    return float(((mask < SATURATED) | (mask > MASK_CEILING - SATURATED)).float().mean())


def picture(separations: dict[str, Separation], masks: dict[str, Tensor]) -> bytes:
    """A PNG, of each path by its name: bars of layer weights above, a histogram of mask values below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), dpi=80, layout="constrained")
    weights, values = figure.subplots(2)
    width = 0.8 / len(separations)
    for place, (name, separation) in enumerate(separations.items()):
        shares = separation.shares.detach().cpu().numpy()
        found = contrast(separation)
        alike = ": all alike" if found < EQUAL else ""
        weights.bar(np.arange(len(shares)) + place * width, shares, width, label=f"{name}{alike} ({found:.2f})")
        weights.axhline(1 / len(shares), color="grey", linestyle="--", linewidth=1)
    for name, mask in masks.items():
        label = f"{name}: {saturation(mask):.1%} saturated"
        values.hist(mask.detach().cpu().float().flatten().numpy(), 100, (0, MASK_CEILING), histtype="step", label=label)
    weights.set(xlabel="layer of the SSL model", ylabel="weight", title="layer weights (largest over an equal one)")
    values.set(xlabel="mask", ylabel="values", yscale="log", title="mask values")
    for axes in (weights, values):
        axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
