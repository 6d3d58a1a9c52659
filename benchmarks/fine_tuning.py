"""What learning of the SSL model does to BSP-MPNet in a small budget: `python -m benchmarks.fine_tuning`.

The smoke recipe's network around its tiny WavLM, which is frozen, learns but for its convolutions (partial), learns
whole (entire), or is absent: for all the same steps, seed and order of items. Of each: weights that learn, core-seconds
of a step, and the loss of the valid split, and on rows of the noise slice PESQ and STOI, with the paired difference
to the frozen one and its 95 % interval. The WavLM has random weights, and every network few steps: what released
weights gain by fine-tuning cannot be seen here, only that each way learns, and what it costs.
"""

import argparse
import functools
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.smoke import corpus, enhanced, trained
from simulation.corpus import Corpus
from training.checkpoint import load_version, version_record
from training.cookbook import recipe
from training.intervals import Bootstrap, clusters_of
from training.models.bsp_mpnet import BspMpnet
from training.pairs import labels_of
from training.recipe import Recipe
from training.scoring import score_mixture

WAYS = ("frozen", "partial", "entire", "absent")
METRICS = ("pesq", "stoi")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="*", choices=[*WAYS, []], default=WAYS)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rows", type=int, default=60, help="of the noise slice, the first ones")
    parser.add_argument("--out", type=Path, help="a folder that keeps corpus and versions")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        out = (arguments.out or Path(temporary)).resolve()
        splits = corpus("sample", out)
        found = {way: measured(variant(way, arguments.steps), splits, out, arguments.rows) for way in arguments.ways}
    print("\n".join(table(found)))
    return 0


def variant(way: str, steps: int) -> Recipe:
    """The smoke recipe, but for how its SSL model learns, and the steps."""
    smoke = recipe("bsp_mpnet_random_smoke")
    assert isinstance(smoke.model, BspMpnet.Config)
    ssl = smoke.model.ssl.model_copy(update={"kind": "absent"})
    changes = {"ssl": ssl} if way == "absent" else {"fine_tuning": way}
    model = smoke.model.model_copy(update=changes)
    budget = {"steps": steps, "validate_every": steps, "checkpoint_every": steps}
    return smoke.model_copy(update={"name": f"bsp_mpnet_{way}", "model": model} | budget)


def measured(of: Recipe, splits: Mapping[str, Corpus], out: Path, rows: int) -> dict[str, Any]:
    """Facts of a training, and `scores`, a table of the rows."""
    address = trained(of, {"sample": splits}, out)
    facts, model = version_record(address).facts, load_version(address)
    test, enhance = splits["test"], functools.partial(enhanced, model)
    chosen = [(row, label) for row, label in enumerate(labels_of(test)) if label.case == "noise"][:rows]
    lines = [label.model_dump() | score_mixture(test.read(row), enhance, METRICS) for row, label in chosen]
    return {
        "learns": sum(each.numel() for each in model.parameters() if each.requires_grad),
        "core_s": facts["core_seconds"] / facts["steps"],
        "steps": facts["steps"],
        "loss": facts["history"][-1]["valid/loss"],
        "scores": pd.DataFrame(lines),
    }


def table(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """As documents have it; the first way is what the others are compared with."""
    first = next(iter(found.values()))["scores"]
    titles = " | ".join(f"{metric.upper()} | over {next(iter(found))} (95 %)" for metric in METRICS)
    rows = [f"| SSL model | steps | weights that learn | core-s a step | valid loss | {titles} |"]
    rows += ["| --- | --: | --: | --: | --: | " + "--: | --- | " * len(METRICS)]
    for way, one in found.items():
        cells = []
        for metric in METRICS:
            ours = one["scores"][metric].to_numpy(float)
            gain = Bootstrap(clusters_of(first), seed=0).interval(ours - first[metric].to_numpy(float))
            shown = (
                "" if gain is None or gain.low is None else f"{gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
            )
            cells += [f"{np.nanmean(ours):.3f}", shown]
        figures = f"{one['steps']} | {one['learns']:,} | {one['core_s']:.2f} | {one['loss']:.3f}"
        rows.append(f"| {way} | {figures} | {' | '.join(cells)} |")
    return rows


if __name__ == "__main__":
    sys.exit(main())
