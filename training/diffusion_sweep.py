"""A diffusion model over numbers of steps and fusion weights: figures 3 and 7 of GP-Unified, for any checkpoint.

    unmuffle sweep VERSION --corpus ADDRESS --out FOLDER [--steps 5,10,15] [--rows 20]

Both step sizes are tried, so that what the fusion gains can be told from what the uniform step loses: with few steps,
the paper's figures show both at once. FOLDER gets sweep.csv, a mean for each setting and metric, and a picture of each
metric, sweep-si_sdr.png. Every setting starts from the same noise.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from simulation.degradations.base import Mixture
from simulation.errors import BadSetting
from training.blocks import enhance_any_length
from training.checkpoint import load_version
from training.metrics import METRICS
from training.models import Enhancer, GpUnified
from training.models.gp_unified import Sampling
from training.pairs import Readable, labels_of
from training.scoring import score_mixture

STEPS = (5, 10, 15, 20, 25, 30)
ALPHA, BETA = 0.2, 0.1
"""The paper's choice."""
ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9)
BETAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SYSTEMS = {"generative": "SGMSE+ / GP-SGMSE+", "without first": "without first fusion", "unified": "GP-Unified"}


def settings(steps: Sequence[int], alphas: Sequence[float], betas: Sequence[float]) -> Iterator[Sampling]:
    """For each step size and number of steps: the score alone, each beta with the paper's alpha and without first
    fusion, and each alpha with the paper's beta."""
    for size in ("uniform", "exact"):
        for count in steps:
            pairs = [(first, beta) for first in (ALPHA, None) for beta in dict.fromkeys((BETA, *betas))]
            pairs += [(alpha, BETA) for alpha in alphas if alpha != ALPHA]
            yield _point({"mode": "generative", "steps": count, "step_size": size})
            for first, last in pairs:
                fusion = {"first_fusion": first, "last_fusion": last}
                yield _point({"mode": "unified", "steps": count, "step_size": size} | fusion)


def _point(fields: dict[str, object]) -> Sampling:
    return Sampling.parse(fields, "A point of the sweep")


def sweep(
    model: Enhancer,
    mixtures: Sequence[Mixture],
    points: Sequence[Sampling],
    metrics: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """A line for each setting: its fields, `system`, `rows`, and the mean of each metric over the mixtures.

    Raises BadSetting for a network that has nothing to sweep.
    """
    if not isinstance(model, GpUnified) or model.predictive is None:
        raise BadSetting(
            f"There is nothing to sweep in {model.config.kind} without two decoders; give a version of gp_unified."
        )
    asked, lines = model.config, []
    try:
        for place, point in enumerate(points):
            model.config = asked.model_copy(update={"sampling": point})
            scores = pd.DataFrame([_scores(model, row, mixture, metrics) for row, mixture in enumerate(mixtures)])
            means = scores[list(metrics)].astype(float).mean()
            facts = {"system": _system(point), **point.model_dump(), "rows": len(scores)}
            lines.append(facts | {name: float(means[name]) for name in metrics})
            progress(place + 1, len(points))
    finally:
        model.config = asked
    return pd.DataFrame(lines)


def drawn(table: pd.DataFrame, metric: str) -> Figure:
    """Above, the systems over the number of steps (figure 3); below, GP-Unified over beta (figure 7), and over alpha,
    where 1 is no first fusion; a column for each step size."""
    figure = Figure(figsize=(10, 11), layout="constrained")
    axes = figure.subplots(3, 2, sharey="row")
    for column, size in enumerate(("uniform", "exact")):
        part = table[table["step_size"] == size]
        of_steps, of_beta, of_alpha = axes[:, column]
        for name, title in SYSTEMS.items():
            chosen = part[(part["system"] == name) & (part["last_fusion"].eq(BETA) | (name == "generative"))]
            chosen = chosen[chosen["first_fusion"].eq(ALPHA) | (name != "unified")]
            of_steps.plot(chosen["steps"], chosen[metric], marker="o", label=title)
        unified = part[part["mode"] == "unified"].fillna({"first_fusion": 1.0})
        for ax, field, other, paper in (
            (of_beta, "last_fusion", "first_fusion", ALPHA),
            (of_alpha, "first_fusion", "last_fusion", BETA),
        ):
            for count, curve in unified[unified[other].eq(paper)].sort_values(field).groupby("steps"):
                ax.plot(curve[field], curve[metric], marker="o", label=f"N = {count}")
        of_steps.set(title=f"{size} steps", xlabel="steps N")
        of_beta.set(xlabel=f"beta, weight of the generative result (alpha {ALPHA:g})")
        of_alpha.set(xlabel=f"alpha, weight of the generative state after the first step (beta {BETA:g})")
        for ax in axes[:, column]:
            ax.set(ylabel=METRICS[metric].title)
            ax.legend(fontsize=8)
    return figure


def recorded(
    version: str,
    test: Readable,
    out: Path,
    points: Sequence[Sampling],
    metrics: Sequence[str],
    rows: int,
    case: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """The sweep of the version at an address over the first rows of a split, written into a folder.

    `case`: only rows of this case of the scenario. Raises BadSetting where there are none, or for an unknown metric.
    """
    if unknown := [name for name in metrics if name not in METRICS]:
        raise BadSetting(f"There is no metric named {unknown[0]!r}; `unmuffle metrics` lists them.")
    labels = labels_of(test)
    chosen = [row for row, label in enumerate(labels) if case in ("", label.case)]
    if not chosen:
        cases = ", ".join(sorted({label.case for label in labels}))
        raise BadSetting(f"No row is of the case {case!r}; its cases are {cases}.")
    mixtures = [test.read(row) for row in chosen[:rows]]
    table = sweep(load_version(version).eval(), mixtures, points, metrics, progress)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "sweep.csv", index=False)
    for metric in metrics:
        drawn(table, metric).savefig(out / f"sweep-{metric}.png", dpi=120)
    return table


def _scores(model: Enhancer, row: int, mixture: Mixture, metrics: Sequence[str]) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(row)
        return score_mixture(mixture, lambda noisy, _: enhance_any_length(model, noisy), metrics)


def _system(point: Sampling) -> str:
    if point.mode == "generative":
        return "generative"
    return "without first" if point.first_fusion is None else "unified"
