"""What distillation gives a small causal student: `make bench-distillation`.

Trains, on the shipped recordings and one thread, a network that sees both sides, and a causal student of its width for
each of the seeds 0 to 4, once alone and once with that teacher: equal first weights, batches and steps. The pair `gru`
is of recurrent masks, for a minute; `renet` of narrow RENets takes several times as long. On the noise slice of the
test split it then says, each with its 95 % interval:

- how far the features are from the teacher's, and whether the taught students are at least 30 % nearer
- the difference in SI-SDR, whatever its sign: not inferior if the interval's lower end is above -0.2 dB, a gain if it
  is above 0; an interval that covers 0 is told as not shown
- quality lost against time saved, teacher beside students

All seeds are shown. Intervals are over speakers, noises and rooms, as scorecards have them, of means over seeds, and
over seeds; the wider one counts. Time is that which the process was given. With `--out` corpora, lessons and versions
are kept, and a later call goes on; `--only` trains a part, so that each call stays short. Fails where a promise does.
"""

import argparse
import functools
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student_t

from benchmarks.smoke import core_seconds, corpus, say, scored
from simulation import storage
from simulation.corpus import Corpus, open_splits
from training.batches import Batches
from training.beside import accompanied
from training.blocks import enhance_any_length
from training.checkpoint import CONFIG, load_version, save_version, version_record
from training.cookbook_distillation import (
    gru_causal_smoke,
    gru_distilled_smoke,
    gru_teacher_smoke,
    renet_causal_smoke,
    renet_distilled_smoke,
    renet_teacher_smoke,
)
from training.intervals import Bootstrap, clusters_of
from training.loop import Run, Seat, train
from training.metrics import METRICS
from training.models import Enhancer
from training.objectives import Taught
from training.recipe import Recipe
from training.run import maker_of

SEEDS = (0, 1, 2, 3, 4)
ARMS = ("alone", "taught")
PAIRS = {
    "gru": (gru_teacher_smoke, gru_causal_smoke, gru_distilled_smoke),
    "renet": (renet_teacher_smoke, renet_causal_smoke, renet_distilled_smoke),
}
"""Teacher, student alone, student taught."""
SLICE = "noise"
METRIC_NAMES = ("si_sdr",)
NEARER, MARGIN_DB = 0.30, -0.2
RTF_S, RTF_CALLS = 4.0, 15
"""Seconds of noise that a call enhances, and calls, of which the median counts."""


def main() -> int:
    """Train what is missing, then print the tables; 1 where a promise did not hold."""
    logging.basicConfig(level=logging.WARNING)
    arguments = parsed()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        out = (arguments.out or Path(temporary)).resolve()
        splits = recordings(out)
        first, alone, taught = PAIRS[arguments.pair]
        teacher = trained(first(), splits, out)
        bases = {"alone": alone(), "taught": taught(teacher)}  # equal but for the teacher
        recipes = {(arm, seed): bases[arm].model_copy(update={"seed": seed}) for seed in SEEDS for arm in ARMS}
        if arguments.only == "teacher":
            return 0
        students = {name: trained(each, splits, out) for name, each in recipes.items()}
        if arguments.only == "students":
            return 0
        found = compared(teacher, students, recipes["taught", 0], splits["test"])
    tell(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    return 0 if all(found["held"].values()) else 1


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", default="gru", choices=PAIRS)
    parser.add_argument("--only", default="", choices=["", "teacher", "students"], help="train, and compare nothing")
    parser.add_argument("--out", type=Path, help="a folder that keeps corpora, lessons and versions")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    return parser.parse_args()


def recordings(out: Path) -> dict[str, Corpus]:
    """The splits of the scenario `sample`: built, or as an earlier call left them, for which Ray is not started."""
    note = out / "sample.address"
    if not note.exists():
        splits = corpus("sample", out)
        note.write_text(splits["train"].address.rpartition("/")[0])
        return splits
    return open_splits(note.read_text())


# ---- training -------------------------------------------------------------------------------------------------------


def trained(recipe: Recipe, splits: dict[str, Corpus], out: Path) -> str:
    """Address of the version of a recipe; trained if there is none of an equal one."""
    address = (out / f"{recipe.name}-{recipe.seed}-{recipe.digest()[:8]}").as_uri()
    if storage.exists(storage.join(address, CONFIG)):
        return address
    before = core_seconds()
    corpora = accompanied({split: splits[split] for split in ("train", "valid")}, maker_of(recipe), out.as_uri())
    run, valid = Run(recipe), list(Batches(corpora["valid"], recipe).whole(recipe.validation_items))
    batches = Batches(corpora["train"], recipe)
    train(run, batches, valid, Seat(), save=lambda run: None, tell=functools.partial(say, recipe, run))
    facts = {"core_seconds": core_seconds() - before, "history": run.history}
    save_version(run.released, address, facts)
    return address


# ---- comparing ------------------------------------------------------------------------------------------------------


def compared(teacher: str, students: dict[tuple[str, int], str], taught: Recipe, test: Corpus) -> dict[str, Any]:
    """Every figure of the page."""
    models = {"teacher": load_version(teacher)} | {
        f"{arm} {seed}": load_version(address) for (arm, seed), address in students.items()
    }
    tables = {
        name: scored(functools.partial(enhanced, model), test, SLICE, METRIC_NAMES) for name, model in models.items()
    }
    tables["unprocessed"] = scored(lambda noisy, rate: noisy, test, SLICE, METRIC_NAMES)
    rows = list(tables["teacher"]["id"])
    apart = {name: distances(model, taught, test, rows) for name, model in models.items() if name != "teacher"}
    spent = {f"{arm} {seed}": version_record(address).facts for (arm, seed), address in students.items()}
    per_seed = [
        {
            "seed": seed,
            **{f"apart_{arm}": float(apart[f"{arm} {seed}"].mean()) for arm in ARMS},
            **{f"{name}_{arm}": mean(tables[f"{arm} {seed}"], name) for name in METRIC_NAMES for arm in ARMS},
            **{f"core_seconds_{arm}": spent[f"{arm} {seed}"]["core_seconds"] for arm in ARMS},
        }
        for seed in SEEDS
    ]
    clusters = clusters_of(tables["teacher"])
    nearer = 1 - by_seed(apart, "taught") / by_seed(apart, "alone").mean(1, keepdims=True)
    gains = {
        name: interval(values(tables, "taught", name) - values(tables, "alone", name), clusters)
        for name in METRIC_NAMES
    }
    lost = {
        name: interval(values(tables, "taught", name) - tables["teacher"][name].to_numpy(float)[None], clusters)
        for name in METRIC_NAMES
    }
    factors = {name: real_time_factors(model) for name, model in models.items() if name in ("teacher", "taught 0")}
    nearness = interval(nearer, clusters)
    return {
        "rows": len(rows),
        "per_seed": per_seed,
        "unprocessed": {name: mean(tables["unprocessed"], name) for name in METRIC_NAMES},
        "teacher": {name: mean(tables["teacher"], name) for name in METRIC_NAMES},
        "teacher_core_seconds": version_record(teacher).facts["core_seconds"],
        "nearer": nearness,
        "gain": gains,
        "lost": lost,
        "real_time_factor": {name: float(np.median(each)) for name, each in factors.items()},
        "time_saved": time_saved(factors["teacher"], factors["taught 0"]),
        "held": {
            f"features at least {NEARER:.0%} nearer": nearness["low"] >= NEARER,
            f"SI-SDR not inferior at {MARGIN_DB} dB": gains["si_sdr"]["low"] >= MARGIN_DB,
        },
    }


def enhanced(model: Enhancer, noisy: np.ndarray, sample_rate: int) -> np.ndarray:
    """As it would be served."""
    return enhance_any_length(model, noisy.astype(np.float32))


@torch.inference_mode()
def distances(model: Enhancer, taught: Recipe, test: Corpus, rows: list[str]) -> np.ndarray:
    """[rows]: how far a student's features are from the teacher's, in sizes of these, over whole mixtures."""
    assert isinstance(taught.objective, Taught.Config)
    distillation = taught.objective.distillation.build().eval()
    found = []
    for row in rows:
        noisy = torch.from_numpy(test.read(test.position(row)).noisy.astype(np.float32))[None]
        found.append(
            distillation.features(distillation.estimate(model, noisy), distillation.asked(model, noisy)).item()
        )
    return np.array(found)


def by_seed(apart: dict[str, np.ndarray], arm: str) -> np.ndarray:
    """[seeds, rows]."""
    return np.stack([apart[f"{arm} {seed}"] for seed in SEEDS])


def values(tables: dict[str, pd.DataFrame], arm: str, metric: str) -> np.ndarray:
    """[seeds, rows], positive is better."""
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    return sign * np.stack([tables[f"{arm} {seed}"][metric].to_numpy(float) for seed in SEEDS])


def mean(table: pd.DataFrame, metric: str) -> float:
    """Over rows."""
    return float(table[metric].mean())


def interval(differences: np.ndarray, clusters: Any) -> dict[str, float]:
    """Mean of [seeds, rows] and the wider of two 95 % intervals: over what rows share, and over seeds."""
    over_rows = Bootstrap(clusters, seed=0).interval(differences.mean(0))
    assert over_rows is not None and over_rows.low is not None and over_rows.high is not None
    seeds = differences.mean(1)
    over_seeds = float(student_t.ppf(0.975, len(seeds) - 1) * seeds.std(ddof=1) / np.sqrt(len(seeds)))
    half = max(over_seeds, (over_rows.high - over_rows.low) / 2)
    centre = float(seeds.mean())
    return {"mean": centre, "low": centre - half, "high": centre + half, "half_over_seeds": over_seeds}


@torch.inference_mode()
def real_time_factors(model: Enhancer) -> np.ndarray:
    """Of calls over some seconds of noise on one thread, in processor time."""
    noise = 0.05 * torch.randn(1, round(RTF_S * model.sample_rate), generator=torch.Generator().manual_seed(0))
    model(noise)
    found = []
    for _ in range(RTF_CALLS):
        began = time.process_time()
        model(noise)
        found.append((time.process_time() - began) / RTF_S)
    return np.array(found)


def time_saved(teacher: np.ndarray, student: np.ndarray) -> dict[str, float]:
    """Share of the teacher's time that the student does not need; its interval over calls, resampled."""
    chance = np.random.default_rng(0)
    draws = chance.integers(RTF_CALLS, size=(2, 2000, RTF_CALLS))
    ratios = 1 - np.median(student[draws[1]], axis=1) / np.median(teacher[draws[0]], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {"mean": float(1 - np.median(student) / np.median(teacher)), "low": float(low), "high": float(high)}


# ---- telling --------------------------------------------------------------------------------------------------------


def tell(found: dict[str, Any]) -> None:
    """The tables, as documents have them."""
    print(f"\nTeacher: {found['teacher_core_seconds']:.0f} core-seconds. Over the {found['rows']} rows of {SLICE}:\n")
    print("| seed | features apart, alone | taught | SI-SDR alone | taught | core-s |")
    print("| --: " * 6 + "|")
    for each in found["per_seed"]:
        print(
            f"| {each['seed']} | {each['apart_alone']:.3f} | {each['apart_taught']:.3f} | {each['si_sdr_alone']:.2f} | "
            f"{each['si_sdr_taught']:.2f} | "
            f"{each['core_seconds_alone']:.0f} + {each['core_seconds_taught']:.0f} |"
        )
    print(f"\nunprocessed {said_means(found['unprocessed'])}; teacher {said_means(found['teacher'])}")
    print(f"features nearer by {100 * found['nearer']['mean']:.1f} % {between(found['nearer'], 100)}")
    for name in METRIC_NAMES:
        gain, title = found["gain"][name], METRICS[name].title
        covers = "" if gain["low"] > 0 or gain["high"] < 0 else ": not shown"
        print(f"{title}, taught less alone: {gain['mean']:+.3f} {between(gain)}{covers}")
        print(f"{title}, taught less teacher: {found['lost'][name]['mean']:+.3f} {between(found['lost'][name])}")
    saved, factors = found["time_saved"], found["real_time_factor"]
    print(
        f"time: real-time factor {factors['teacher']:.3f} of the teacher, {factors['taught 0']:.3f} of the student; "
        f"{100 * saved['mean']:.0f} % saved {between(saved, 100)}"
    )
    for promise, held in found["held"].items():
        print(f"{'PASS' if held else 'FAIL'} {promise}")


def said_means(means: dict[str, float]) -> str:
    """Means by metric."""
    return ", ".join(f"{METRICS[name].title} {value:.3f}" for name, value in means.items())


def between(interval: dict[str, float], factor: float = 1.0) -> str:
    """The interval in brackets."""
    return f"({factor * interval['low']:.2f} to {factor * interval['high']:.2f})"


if __name__ == "__main__":
    sys.exit(main())
