"""Learning curves."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from training.curves import curves

HISTORY = [
    {"step": 10, "train/loss": 1.0, "train/judge/loss": 0.7, "train/time": 0.3, "learning_rate": 1e-3},
    {"step": 20, "train/loss": 0.5, "valid/loss": 0.8, "valid/si_sdr_db": 3.0, "learning_rate": 5e-4},
    {"step": 30, "train/loss": 0.4, "train/gradient_norm": 2.0, "learning_rate/judge": 1e-4},
]


def drawn(monkeypatch: pytest.MonkeyPatch, history: list[dict[str, float]]) -> dict[str, dict[str, list[float]]]:
    """Label of each panel -> name of each curve -> its steps."""
    kept: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *one, **more: (kept.append(self), save(self, *one, **more)))
    curves(history, "train small")
    (figure,) = kept
    return {
        axes.get_ylabel(): {str(line.get_label()): list(line.get_xdata()) for line in axes.lines}
        for axes in figure.axes
    }


def test_each_panel_holds_its_curves_at_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of all phases together; parts of a loss stay in MLflow's own charts."""
    assert drawn(monkeypatch, HISTORY) == {
        "loss": {"train/loss": [10, 20, 30], "train/judge/loss": [10], "valid/loss": [20]},
        "SI-SDR, dB": {"valid/si_sdr_db": [20]},
        "gradient norm": {"train/gradient_norm": [30]},
        "learning rate": {"learning_rate": [10, 20], "learning_rate/judge": [30]},
    }


def test_the_picture_is_a_png_even_before_there_is_anything_to_see() -> None:
    """A run that was stopped before its first row."""
    assert imread(io.BytesIO(curves([], "train small"))).ndim == 3
    assert np.asarray(imread(io.BytesIO(curves(HISTORY, "train small")))).shape[0] > 300
