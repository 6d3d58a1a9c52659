"""A diffusion model over numbers of steps and fusion weights: figures 3 and 7 of GP-Unified, for any checkpoint.

    python -m training.diffusion_sweep VERSION --corpus ADDRESS --out FOLDER [--steps 5,10,15] [--rows 20]

VERSION is the address of a version of gp_unified. Both step sizes are tried, so that what the fusion gains can be told
from what the uniform step loses: with few steps, the paper's figures show both at once. FOLDER gets sweep.csv, a mean
for each setting and metric, and sweep.png. Every setting starts from the same noise.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from simulation.corpus import open_splits
from simulation.degradations.base import Mixture
from simulation.errors import BadSetting
from training.blocks import enhance_any_length
from training.checkpoint import load_version
from training.metrics import METRICS
from training.models import Enhancer, GpUnified
from training.models.gp_unified import Sampling
from training.pairs import labels_of
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
            yield Sampling.model_validate({"mode": "generative", "steps": count, "step_size": size})
            for first, last in pairs:
                fusion = {"first_fusion": first, "last_fusion": last}
                yield Sampling.model_validate({"mode": "unified", "steps": count, "step_size": size} | fusion)


def sweep(
    model: Enhancer,
    mixtures: Sequence[Mixture],
    points: Sequence[Sampling],
    metrics: Sequence[str],
    tell: Callable[[str], None] = lambda line: None,
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
            tell(f"{place + 1} of {len(points)}: {_system(point)}, {point.steps} steps, {point.step_size}")
    finally:
        model.config = asked
    return pd.DataFrame(lines)


def drawn(table: pd.DataFrame, metric: str) -> Figure:
    """Above, the systems over the number of steps (figure 3); below, GP-Unified over beta (figure 7); a column for each
    step size."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharey="row")
    for column, size in enumerate(("uniform", "exact")):
        part = table[table["step_size"] == size]
        above, below = axes[:, column]
        for name, title in SYSTEMS.items():
            chosen = part[(part["system"] == name) & (part["last_fusion"].eq(BETA) | (name == "generative"))]
            chosen = chosen[chosen["first_fusion"].eq(ALPHA) | (name != "unified")]
            above.plot(chosen["steps"], chosen[metric], marker="o", label=title)
        unified = part[(part["system"] == "unified") & part["first_fusion"].eq(ALPHA)].sort_values("last_fusion")
        for count, curve in unified.groupby("steps"):
            below.plot(curve["last_fusion"], curve[metric], marker="o", label=f"N = {count}")
        above.set(title=f"{size} steps", xlabel="steps N", ylabel=METRICS[metric].title)
        below.set(xlabel="beta, weight of the generative result", ylabel=METRICS[metric].title)
        above.legend()
        below.legend()
    return figure


def _scores(model: Enhancer, row: int, mixture: Mixture, metrics: Sequence[str]) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(row)
        return score_mixture(mixture, lambda noisy, _: enhance_any_length(model, noisy), metrics)


def _system(point: Sampling) -> str:
    if point.mode == "generative":
        return "generative"
    return "without first" if point.first_fusion is None else "unified"


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("--corpus", required=True, help="address of a corpus; its test split is enhanced")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--case", help="only rows of this case of the scenario")
    parser.add_argument("--rows", type=int, default=20, help="how many, the first ones")
    for name, default in (("steps", STEPS), ("alphas", ALPHAS), ("betas", BETAS)):
        parser.add_argument(f"--{name}", default=",".join(map(str, default)))
    parser.add_argument("--metrics", default="si_sdr,pesq", help="the first one is drawn")
    arguments = parser.parse_args()
    test, metrics = open_splits(arguments.corpus)["test"], arguments.metrics.split(",")
    chosen = [row for row, label in enumerate(labels_of(test)) if arguments.case in (None, label.case)]
    numbers = ([float(value) for value in getattr(arguments, name).split(",")] for name in ("alphas", "betas"))
    points = list(settings([int(value) for value in arguments.steps.split(",")], *numbers))
    mixtures = [test.read(row) for row in chosen[: arguments.rows]]
    table = sweep(
        load_version(arguments.version).eval(), mixtures, points, metrics, lambda line: print(line, flush=True)
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.out / "sweep.csv", index=False)
    drawn(table, metrics[0]).savefig(arguments.out / "sweep.png", dpi=150)


if __name__ == "__main__":
    main()
