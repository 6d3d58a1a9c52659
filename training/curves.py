"""Learning curves of a run as one picture."""

import io
import re
from collections.abc import Iterable, Mapping

from matplotlib.figure import Figure

Row = Mapping[str, float | int]
"""A row of a run's history: its `step`, and values by name."""

PANELS = (
    ("loss", r"(train|valid)/(\w+/)?loss"),
    ("SI-SDR, dB", r"valid/si_sdr\w*"),
    ("gradient norm", r"train/(\w+/)?gradient_norm"),
    ("learning rate", r"learning_rate(/\w+)?"),
)
"""Label, and the names that belong there: of a phase other than the model's they hold its name."""


def curves(history: Iterable[Row], title: str) -> bytes:
    """A PNG with a panel for each of `PANELS` that the history holds values for; steps to the right."""
    rows = list(history)
    panels = [(label, found) for label, wanted in PANELS if (found := _series(rows, wanted))]
    figure = Figure(figsize=(8, 2.2 * max(len(panels), 1) + 0.6), dpi=80, layout="constrained")
    figure.suptitle(title, fontsize=10)
    for axes, (label, found) in zip(figure.subplots(len(panels) or 1, squeeze=False)[:, 0], panels, strict=False):
        for name, points in found.items():
            axes.plot(*zip(*points, strict=True), label=name, marker=".", linewidth=1)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        axes.set_xlabel("step")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _series(rows: list[Row], wanted: str) -> dict[str, list[tuple[float | int, float | int]]]:
    """name -> [(step, value)] of every name that a panel wants."""
    names = dict.fromkeys(name for row in rows for name in row if re.fullmatch(wanted, name))
    return {name: [(row["step"], row[name]) for row in rows if name in row] for name in names}
