"""What each smoke recipe learns in five minutes on two cores, from the shipped recordings: `make bench-smoke`.

Builds the scenarios `sample`, its case `band_limit` alone to learn from, and `phase_retrieval`, trains each recipe in
this process (the loop without Ray Train), scores it and what it is compared with on slices of the test splits, and says
of each promise whether it held: the paired mean, with its 95 % interval over speakers, noises and rooms as scorecards
have it. Five minutes on two cores are 600 core-seconds; what counts is the time that this process was given, so other
work on the machine does not. With `--out` trained versions are kept, and a later call goes on with those of equal
recipes. Fails where a promise does.
"""

import argparse
import functools
import json
import logging
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from simulation import storage
from simulation.build import build
from simulation.cluster import cluster
from simulation.corpus import Corpus, open_splits
from simulation.scenario import Scenario
from simulation.scenarios import scenario
from training.baselines import BASELINES, MeanSpectrumFill, Waveform
from training.batches import Batches
from training.blocks import enhance_any_length
from training.checkpoint import CONFIG, load_version, save_version, version_record
from training.cookbook import recipe
from training.intervals import Bootstrap, Interval, clusters_of
from training.loop import Run, Seat, train
from training.metrics import METRICS
from training.models import Enhancer
from training.models.polar import PolarEnhancer
from training.objectives import Diffusion
from training.pairs import labels_of
from training.phase_retrieval import griffin_lim, random_phase, zero_phase
from training.recipe import Recipe
from training.scoring import Enhance, score_mixture

CORE_SECONDS = 600.0
ITERATIONS = 8
"""Of Griffin and Lim."""
SCENARIO_OF = {"noise": "sample", "band_limit": "sample", "clean": "phase_retrieval"}
"""Where a slice is."""
LEARNT_FROM = {
    "dm_band_limit_smoke": "sample_band_limit",
    "dm_band_limit_mask_smoke": "sample_band_limit",
    "renet_phase_smoke": "phase_retrieval",
}
"""The scenarios of recipes that do not learn from `sample`."""
SYSTEM_SEED = 0
SCORE_RATIO = "score_ratio"
"""Of a diffusion network on a row: its score loss over what a score of zero costs on average, half the number of bins;
times and noise are drawn from the row's number."""
GP_UNIFIED_SEEDS = (0, 1, 2)


class Promise(NamedTuple):
    """The system is better than the other one by this metric on this slice: by so much, and surely."""

    system: str
    other: str
    slice: str
    metric: str
    least: float = 0.0
    """That the mean difference must reach; the lower end of its interval must be above 0 in any case."""
    told: str = ""
    """Why it is told and not promised; empty: it is promised."""


PROMISES = (
    *(
        promise
        for name, least_db in (("dm_smoke", 2.0), ("mp_senet_smoke", 1.0), ("renet_smoke", 1.0))
        for promise in (
            Promise(name, "unprocessed", "noise", "si_sdr", least_db),
            Promise(name, "unprocessed", "noise", "pesq"),
        )
    ),
    Promise("bsp_mpnet_random_smoke", "contrast_stretching", "noise", "pesq"),
    Promise("bsp_mpnet_random_smoke", "unprocessed", "noise", "stoi"),
    Promise("bsp_mpnet_random_smoke", "unprocessed", "noise", "si_sdr", told="stretching recolours the waveform"),
    Promise("dm_band_limit_smoke", "dm_band_limit_mask_smoke", "band_limit", "lsd"),
    Promise("dm_band_limit_smoke", "mean_spectrum_fill", "band_limit", "lsd"),
    Promise("dm_smoke", "dm_mask_smoke", "band_limit", "lsd", told="its map stays shut: docs/networks.md"),
    Promise("renet_phase_smoke", "zero_phase", "clean", "wopd"),
    Promise("renet_phase_smoke", "random_phase", "clean", "wopd"),
    Promise("renet_phase_smoke_griffin_lim", "random_phase_griffin_lim", "clean", "wopd"),
    *(
        promise
        for seed in GP_UNIFIED_SEEDS
        for promise in (
            Promise(f"gp_unified_smoke_seed_{seed}", "unprocessed", "noise", "si_sdr", 1.0),
            Promise(f"gp_unified_smoke_seed_{seed}", "zero_score", "noise", SCORE_RATIO, 0.3),
        )
    ),
)


class Held(NamedTuple):
    """What came of a promise."""

    promise: Promise
    before: float
    """Mean of the other system."""
    difference: Interval
    """Positive is better, whatever the metric."""

    @property
    def good(self) -> bool:
        """Whether it held, or was told only."""
        low = self.difference.low
        return bool(self.promise.told) or (low is not None and low > 0.0 and self.difference.mean >= self.promise.least)


def main() -> int:
    """Print the tables; 1 where a promise did not hold or a training took more than its time."""
    logging.basicConfig(level=logging.WARNING)
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        out = (arguments.out or Path(temporary)).resolve()
        asked = set(arguments.recipes)
        promises = [each for each in PROMISES if asked & {named(each.system), trained_by(each.system)}]
        needed = dict.fromkeys(
            system
            for each in promises
            for system in (trained_by(each.system), trained_by(each.other))
            if named(system).endswith("_smoke")
        )
        names = {SCENARIO_OF[each.slice] for each in promises} | {learnt_from(recipe_of(each)) for each in needed}
        corpora = {name: corpus(name, out) for name in sorted(names)}
        versions = {system: trained(recipe_of(system), corpora, out) for system in needed}
        found = list(kept(promises, versions, corpora))
    spent = {name: version_record(address).facts for name, address in versions.items()}
    tell(found, spent)
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(found, spent), indent=1))
    in_time = all(facts["core_seconds"] <= CORE_SECONDS for facts in spent.values())
    return 0 if in_time and all(each.good for each in found) else 1


def parsed() -> argparse.Namespace:
    """The command line."""
    known = list(dict.fromkeys(named(each.system) for each in PROMISES))
    seeds = sorted({trained_by(each.system) for each in PROMISES}.difference(known))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "recipes", nargs="*", choices=[*known, *seeds, []], default=known, help="those whose promises are tried"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a folder that keeps corpora and versions")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    return parser.parse_args()


def named(system: str) -> str:
    """The recipe behind a system, or the baseline itself."""
    return re.sub(r"_seed_\d+$", "", trained_by(system))


def trained_by(system: str) -> str:
    """The recipe and its seed."""
    return system.removesuffix("_griffin_lim")


def recipe_of(system: str) -> Recipe:
    """With the seed that the system's name ends in, if it does."""
    found, _, seed = system.partition("_seed_")
    return recipe(found).model_copy(update={"seed": int(seed)}) if seed else recipe(found)


def learnt_from(recipe: Recipe) -> str:
    """Name of the scenario that a recipe learns from."""
    return LEARNT_FROM.get(recipe.name, "sample")


def corpus(name: str, out: Path) -> dict[str, Corpus]:
    """The three splits of a scenario, built where they are not there yet."""
    with cluster():
        built = build(scenario_of(name), (out / "store").as_uri(), workers=1)
    return open_splits(built.address)


def scenario_of(name: str) -> Scenario:
    """The named scenario, or `sample` with one of its cases alone: the same speakers in each split, a row to test."""
    if not name.startswith("sample_"):
        return scenario(name)
    sample = scenario("sample")
    only = tuple(case for case in sample.cases if case.name == name.removeprefix("sample_"))
    return sample.model_copy(
        update={"name": name, "cases": only, "size": sample.size.model_copy(update={"test_rows": 1})}
    )


# ---- training -------------------------------------------------------------------------------------------------------


def trained(recipe: Recipe, corpora: Mapping[str, Mapping[str, Corpus]], out: Path) -> str:
    """Address of the version of a recipe; trained if there is none of an equal one."""
    splits = corpora[learnt_from(recipe)]
    address = (out / f"{recipe.name}-{recipe.digest()[:8]}").as_uri()
    if storage.exists(storage.join(address, CONFIG)):
        return address
    run, batches = Run(recipe), Batches(splits["train"], recipe)
    valid = list(Batches(splits["valid"], recipe).whole(recipe.validation_items))
    before = core_seconds()
    train(run, batches, valid, Seat(), save=lambda run: None, tell=functools.partial(say, recipe, run))
    facts = {"core_seconds": core_seconds() - before, "steps": run.step, "history": run.history}
    save_version(run.released, address, facts)
    return address


def say(recipe: Recipe, run: Run, progress: Any) -> None:
    """Progress, and what the valid split says."""
    row = {name: round(value, 3) for name, value in (run.history or [{}])[-1].items() if name.startswith("valid")}
    print(f"{recipe.name}: {progress.line()} {row or ''}", file=sys.stderr, flush=True)


def core_seconds() -> float:
    """Of processor time that this process and its threads were given."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# ---- comparing ------------------------------------------------------------------------------------------------------


def kept(
    promises: Sequence[Promise], versions: Mapping[str, str], corpora: Mapping[str, Mapping[str, Corpus]]
) -> Iterator[Held]:
    """Each promise with what was found."""
    models = {name: load_version(address) for name, address in versions.items()}

    @functools.cache
    def scores(system: str, part: str) -> pd.DataFrame:
        splits = corpora[SCENARIO_OF[part]]
        metrics = [each.metric for each in promises if each.slice == part and each.metric in METRICS]
        torch.manual_seed(SYSTEM_SEED)
        return scored(enhancing(system, models, splits["train"]), splits["test"], part, list(dict.fromkeys(metrics)))

    @functools.cache
    def ratios(system: str, part: str) -> pd.DataFrame:
        return score_ratios(models.get(system), corpora[SCENARIO_OF[part]]["test"], part)

    for promise in promises:
        table = ratios if promise.metric == SCORE_RATIO else scores
        ours, theirs = (table(name, promise.slice) for name in (promise.system, promise.other))
        sign = 1.0 if promise.metric in METRICS and METRICS[promise.metric].higher_is_better else -1.0
        difference = sign * (ours[promise.metric] - theirs[promise.metric]).to_numpy(float)
        interval = Bootstrap(clusters_of(ours), seed=0).interval(difference)
        assert interval is not None, f"{promise} could not be scored"
        yield Held(promise, float(theirs[promise.metric].mean()), interval)


def scored(enhance: Enhance, test: Corpus, part: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Labels and scores of the rows of a slice."""
    labels = labels_of(test)
    lines = [
        label.model_dump() | score_mixture(test.read(row), enhance, metrics)
        for row, label in enumerate(labels)
        if label.case == part
    ]
    return pd.DataFrame(lines)


@torch.inference_mode()
def score_ratios(model: Enhancer | None, test: Corpus, part: str) -> pd.DataFrame:
    """Labels and score ratios of the rows of a slice; without a network, of a score of zero."""
    objective, lines = Diffusion.Config().build(), []
    for row, label in enumerate(labels_of(test)):
        if label.case == part:
            torch.manual_seed(row)
            mixture = test.read(row)
            noisy, clean = (torch.from_numpy(each.astype(np.float32))[None] for each in (mixture.noisy, mixture.clean))
            ratio = 1.0 if model is None else float(objective.losses(model, noisy, clean).parts["score_ratio"])
            lines.append(label.model_dump() | {SCORE_RATIO: ratio})
    return pd.DataFrame(lines)


def enhancing(system: str, models: Mapping[str, Enhancer], training: Corpus) -> Enhance:
    """What a system does with a waveform."""
    if system in BASELINES:
        return BASELINES[system]
    if system == "mean_spectrum_fill":
        cleans = (training.read(row).clean for row in range(len(training)))
        return MeanSpectrumFill(cleans, training.sample_rate)
    if named(system) in ("zero_phase", "random_phase") or system.endswith("_griffin_lim"):
        retrieval = next(model for model in models.values() if isinstance(model, PolarEnhancer))
        return functools.partial(rephased, named(system), models, retrieval, system.endswith("_griffin_lim"))
    return functools.partial(enhanced, models[system])


def enhanced(model: Enhancer, noisy: Waveform, sample_rate: int) -> Waveform:
    """Through a network, as it would be served."""
    return enhance_any_length(model, noisy.astype(np.float32))


@torch.inference_mode()
def rephased(
    start: str,
    models: Mapping[str, Enhancer],
    like: PolarEnhancer,
    iterate: bool,
    clean: Waveform,
    sample_rate: int,
) -> Waveform:
    """The clean magnitude under another phase: zero, random or a network's; then Griffin and Lim, where asked for.

    All on the transform of the network for phase retrieval, `like`.
    """
    waveform = torch.from_numpy(clean.astype(np.float32))[None]
    magnitude = like.stft(waveform).abs()
    phases: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "zero_phase": zero_phase,
        "random_phase": random_phase,
    }
    if start in phases:
        phase = phases[start](magnitude)
    else:
        polar = models[start].estimate(waveform).polar
        assert polar is not None, f"{start} estimates no phase"
        phase = polar.phase
    found = griffin_lim(like.stft, magnitude, phase, ITERATIONS if iterate else 0, waveform.shape[-1])
    return found[0].numpy()


# ---- telling --------------------------------------------------------------------------------------------------------


def tell(found: Sequence[Held], spent: Mapping[str, Mapping[str, Any]]) -> None:
    """The tables, as documents have them."""
    print(f"\n| recipe | steps | core-seconds (at most {CORE_SECONDS:.0f}) |\n| --- | --: | --: |")
    for name, facts in spent.items():
        print(f"| {name} | {facts['steps']} | {facts['core_seconds']:.0f} |")
    print("\n| | over | slice | metric | from | better by (95 %) | wanted | |\n| --- " + "| --- " * 7 + "|")
    for (promise, before, gain), good in zip(found, (each.good for each in found), strict=True):
        interval = "" if gain.low is None else f" ({gain.low:.3f} to {gain.high:.3f})"
        verdict = f"told: {promise.told}" if promise.told else "PASS" if good else "FAIL"
        print(
            f"| {promise.system} | {promise.other} | {promise.slice}, {gain.n} rows | {titled(promise.metric)} "
            f"| {before:.3f} | {gain.mean:.3f}{interval} | {f'at least {promise.least:g}, ' if promise.least else ''}"
            f"surely | {verdict} |"
        )


def titled(metric: str) -> str:
    """As papers write it, with its unit."""
    return f"{METRICS[metric].title} in {METRICS[metric].unit}" if metric in METRICS else "score loss over that of zero"


def as_json(found: Sequence[Held], spent: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The same for machines."""
    return {
        "recipes": {name: {key: facts[key] for key in ("steps", "core_seconds")} for name, facts in spent.items()},
        "promises": [
            {**each.promise._asdict(), "before": each.before, **each.difference.model_dump(), "held": each.good}
            for each in found
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
