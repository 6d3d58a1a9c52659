"""What the training stack costs beside a bare PyTorch loop on the same batches: `make bench-training`.

The full run is `fit` on a Ray cluster of this machine: Ray Train's worker, reader threads, record, progress, ledger.
The bare loop is a process of its own with its batches in memory. They take turns of some steps each, so that whatever
else the machine does meets both; each pair of turns gives a ratio, and the table gives their median with an interval
for it (order statistics, at least 95 %). Both loops have one thread for each core of the machine.

On a machine with a GPU, the GPU takes the steps, and precision and compilation are compared as well.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

Figures = dict[str, Any]

PAIRS = 7
"""Of turns; their smallest and largest hold the median with 98 %."""
HOURS = 0.12
"""Of training audio, 128 rows."""


# ---- recipes --------------------------------------------------------------------------------------------------------


def recipes() -> dict[str, tuple[Any, int, int]]:
    """What is timed, by name: recipe, steps of a turn, how many of them come before the clock runs."""
    from training.cookbook import recipe

    smoke, dm = recipe("dm_smoke"), recipe("dm")
    short = {"segment_s": 0.4, "batch_size": 2, "warmup_steps": 1}
    return {"smoke": (smoke, 6, 1), "full": (dm.model_copy(update=short), 3, 1)}


def timed(name: str, **changes: Any) -> Any:
    """A recipe whose objective notes its steps; validated and saved at its end only, unless it is told otherwise.

    The objective is the regression, also where the recipe's is another: the bare loop has one optimiser.
    """
    from benchmarks.stopwatch import Stopwatch
    from training.objectives import Regression

    recipe = recipes()[name][0]
    steps = changes["steps"]
    usual = {"validate_every": steps, "checkpoint_every": steps, "validation_items": 1, "warmup_steps": 1}
    plain = recipe.objective if isinstance(recipe.objective, Regression.Config) else Regression.Config()
    objective = Stopwatch.Config(**plain.model_dump())
    return recipe.model_copy(update={"objective": objective, **usual, **changes})


# ---- parts, each in a process of its own ----------------------------------------------------------------------------


def corpora(home: str, folder: str) -> Figures:
    """Build the corpus, and plan the same for those who render it themselves."""
    from benchmarks.simulation import scenario
    from simulation.build import build
    from simulation.cluster import cluster
    from simulation.virtual import commit_plan

    wanted = scenario(HOURS, rows_per_shard=32)
    wanted = wanted.model_copy(update={"size": wanted.size.model_copy(update={"valid_rows": 8})})
    with cluster():
        built = build(wanted, os.path.join(folder, "store"))
    planned = commit_plan(wanted, os.path.join(folder, "planned"))
    return {"rendered": built.address, "virtual": planned.address, "rows": built.splits["train"].rows}


def paired(home: str, corpus: str, name: str, threads: int) -> Figures:
    """Turns of the full run and of the bare loop."""
    from benchmarks.stopwatch import FOLDER, SOCKET, TURN, times, turns

    _, size, skipped = recipes()[name]
    socket = os.path.join(home, "turns")
    os.environ |= {TURN: str(size), SOCKET: socket}
    with part("bare", [corpus, name, threads, socket]) as bare:
        fitted(home, corpus, timed(name, steps=size * PAIRS + 1), threads=threads)
        other = answer(bare)
    noted = times(os.environ[FOLDER])[0]
    full, plain = turns(noted, size, skipped), other["turns_s"]
    ratios = [one / two for one, two in zip(full, plain, strict=True)]
    work = zip(turns(noted, size, skipped, "cpu_"), other["turns_cpu_s"], strict=True)
    low, high = interval(ratios)
    return {
        "ratio": statistics.median(ratios),
        "ratio_low": low,
        "ratio_high": high,
        "work_ratio": statistics.median(one / two for one, two in work),
        "full_step_s": statistics.median(full),
        "bare_step_s": statistics.median(plain),
        "full_peak_mb": noted[-1]["peak_mb"],
        "bare_peak_mb": other["peak_mb"],
        "ratios": ratios,
    }


def bare(home: str, corpus: str, name: str, threads: int, socket: str) -> Figures:
    """The bare loop's side of it."""
    import torch

    from benchmarks.bare_training import take_turns

    torch.set_num_threads(threads)
    _, size, skipped = recipes()[name]
    return dict(take_turns(timed(name, steps=size * PAIRS + 1), corpus, socket, size, skipped, PAIRS))


def interrupted(home: str, corpus: str) -> Figures:
    """A run with checkpoints that its budget stops, and that a larger one lets go on: stalls, start, resume."""
    from benchmarks.stopwatch import FOLDER, times
    from simulation.errors import BudgetSpent
    from training.profile import Budget

    every, steps = 5, 40
    recipe = timed("full", steps=steps, checkpoint_every=every, segment_s=0.2, batch_size=1)
    began = time.time()
    try:
        fitted(home, corpus, recipe, budget=Budget(max_steps=steps - every))
    except BudgetSpent:
        stopped = time.time()
    fitted(home, corpus, recipe)
    later, earlier = sorted(times(os.environ[FOLDER]), key=lambda noted: -noted[0]["begins"])
    gaps = [(two["step"], two["begins"] - one["begins"]) for one, two in itertools.pairwise(earlier)]
    plain = statistics.median(gap for step, gap in gaps if step % every)
    stalls = [gap - plain for step, gap in gaps if step % every == 0]
    return {
        "start_s": earlier[0]["begins"] - began,
        "resume_s": later[0]["begins"] - stopped,
        "resumed_at": later[0]["step"],
        "steps_again": earlier[-1]["step"] + 1 - later[0]["step"],
        "stall_s": statistics.median(stalls),
        "longest_stall_s": max(stalls),
        "step_s": plain,
    }


def workers(home: str, corpus: str, count: int) -> Figures:
    """Samples a second of so many workers of one thread each."""
    from benchmarks.stopwatch import FOLDER, times

    recipe = timed("smoke", steps=21)
    fitted(home, corpus, recipe, workers=count)
    noted = times(os.environ[FOLDER])[0][5:]
    seconds = (noted[-1]["begins"] - noted[0]["begins"]) / (len(noted) - 1)
    return {
        "items_per_s": recipe.batch_size / seconds,
        "samples_per_s": recipe.batch_size * recipe.segment_samples / seconds,
    }


def waits(home: str, corpus: str, readers: int) -> Figures:
    """The loop without Ray: how long it waits for its first batch, and for which share of the time after that."""
    import torch

    from simulation.virtual import open_corpora
    from training.batches import Batches
    from training.loop import Run, Seat, train

    torch.set_num_threads(1)
    recipe, told = timed("smoke", steps=16), []
    opened = open_corpora(corpus)
    valid = list(Batches(opened["valid"], recipe).whole(1))
    batches = Batches(opened["train"], recipe, readers)
    train(Run(recipe), batches, valid, Seat(), lambda run: None, told.append)
    clock = [one.step * recipe.batch_size / one.items_per_s for one in told]
    waited = [one.input_wait_share * elapsed for one, elapsed in zip(told, clock, strict=True)]
    return {
        "first_batch_s": waited[0],
        "wait_share": (waited[-1] - waited[0]) / (clock[-1] - clock[0]),
        "items_per_s": (told[-1].step - told[0].step) * recipe.batch_size / (clock[-1] - clock[0]),
    }


def stored(home: str) -> Figures:
    """What the order of rows costs a store."""
    from benchmarks.reading import compare

    return compare(os.path.join(home, "corpus"))


def reading(home: str, corpus: str) -> Figures:
    """How many items a second one reader makes when nobody waits, rows read or rendered."""
    from contextlib import closing

    from simulation.virtual import open_corpora
    from training.batches import AHEAD, Batches

    recipe = timed("smoke", steps=24)
    with closing(Batches(open_corpora(corpus)["train"], recipe, 1).stream(0)) as stream:
        for _ in range(4):
            next(stream)
        began = time.perf_counter()
        count = sum(len(batch.ids) for batch in stream)
    return {"items_per_s": (count - AHEAD * recipe.batch_size) / (time.perf_counter() - began)}


def device(home: str) -> Figures:
    """On a GPU: the full-size model's step in fp32 and bf16, as it is and compiled; TFLOP/s and memory."""
    import torch

    from training.batches import Batch
    from training.cookbook import recipe
    from training.counting import gmacs_per_second
    from training.objectives import Regression
    from training.run import Run, Seat
    from training.steps import Steps

    if not torch.cuda.is_available():
        return {}
    found: Figures = {"device": torch.cuda.get_device_name()}
    operations = 3 * 2e9 * gmacs_per_second(recipe("dm").model, 2) * 2.0  # backward costs twice the forward pass
    for precision in ("fp32", "bf16"):
        for compiled in (False, True):
            settings = {"objective": Regression.Config(), "precision": precision, "compile": compiled}
            one = recipe("dm").model_copy(update={"batch_size": 16, "segment_s": 2.0, **settings})
            run = Run(one, torch.device("cuda"))
            steps = Steps(run, Seat(device=torch.device("cuda")))
            clean = 0.1 * torch.randn(one.batch_size, one.segment_samples)
            batch = Batch(clean + 0.05 * torch.randn_like(clean), clean, ("noise",) * one.batch_size).pinned()
            torch.cuda.reset_peak_memory_stats()
            for _ in range(5):
                steps.take(batch)
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(20):
                steps.take(batch)
            torch.cuda.synchronize()
            seconds = (time.perf_counter() - began) / 20
            found[f"{precision}{' compiled' if compiled else ''}"] = {
                "step_s": seconds,
                "tflop_per_s": operations * one.batch_size / seconds / 1e12,
                "peak_mb": torch.cuda.max_memory_allocated() / 1e6,
            }
    return found


def fitted(home: str, corpus: str, recipe: Any, *, workers: int = 1, threads: int = 1, budget: Any = None) -> None:
    """One run of `fit` on a cluster of its own."""
    import torch

    from simulation.cluster import cluster
    from training.fit import fit
    from training.profile import Budget, ComputeProfile

    gpus = int(torch.cuda.is_available())
    profile = ComputeProfile(workers=workers, cpus_per_worker=threads, gpus_per_worker=gpus, budget=budget or Budget())
    with cluster():
        fit(recipe, corpus=corpus, storage=os.path.join(home, "runs"), name="5" * 64, profile=profile)


PARTS: dict[str, Callable[..., Figures]] = {
    one.__name__: one for one in (corpora, paired, bare, interrupted, workers, waits, reading, stored, device)
}


# ---- running them ---------------------------------------------------------------------------------------------------


@contextmanager
def part(name: str, arguments: list[Any]) -> Iterator["subprocess.Popen[str]"]:
    """A part in a process of its own, in a home of its own that is removed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        Path(home, "times").mkdir()
        root = Path(__file__).parent.parent
        environment = {one: value for one, value in os.environ.items() if not one.startswith("RAY_")}
        environment |= {"UNMUFFLE_HOME": home, "UNMUFFLE_BENCH_TIMES": os.path.join(home, "times")}
        environment |= {"PYTHONPATH": str(root)}
        words = [sys.executable, "-m", "benchmarks.training", "--part", name]
        command = [*words, "--arguments", json.dumps([home, *arguments])]
        with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
            yield process


def answer(process: "subprocess.Popen[str]") -> Figures:
    """What a part prints last."""
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a part failed with exit code {process.returncode}")
    return dict(json.loads(out.strip().splitlines()[-1]))


def measured(name: str, *arguments: Any) -> Figures:
    """The figures of one part, said as they are taken."""
    began = time.monotonic()
    with part(name, list(arguments)) as process:
        found = answer(process)
    words = ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in found.items()
    )
    print(f"{name} ({time.monotonic() - began:.0f} s): {words}", file=sys.stderr, flush=True)
    return found


def interval(values: list[float]) -> tuple[float, float]:
    """Order statistics that hold the median with at least 95 %, whatever the distribution."""
    ordered, count = sorted(values), len(values)
    cut = 0
    while 2 * sum(math.comb(count, below) for below in range(cut + 2)) / 2**count <= 0.05:
        cut += 1
    return ordered[cut], ordered[-1 - cut]


class Line(NamedTuple):
    """One line of the table."""

    what: str
    found: str
    wanted: str = ""
    good: bool = True


def main() -> int:
    """Print the table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write every figure there too")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](*options.arguments)))
        return 0
    load, began = os.getloadavg()[0], time.monotonic()
    found = everything()
    found |= {"load_before": load, "load_after": os.getloadavg()[0], "took_s": time.monotonic() - began}
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))
    return table(found)


def everything() -> Figures:
    """Each part after the other."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="bench-corpora-") as folder:
        built = measured("corpora", folder)
        rendered, virtual = built["rendered"], built["virtual"]
        return {
            "cores": cores,
            "smoke": measured("paired", rendered, "smoke", cores),
            "full": measured("paired", rendered, "full", cores),
            "interrupted": measured("interrupted", rendered),
            "workers": {str(count): measured("workers", rendered, count) for count in (1, 2)},
            "waits": measured("waits", rendered, 2),
            "virtual_waits": {str(count): measured("waits", virtual, count) for count in (1, 2)},
            "reading": {"rendered": measured("reading", rendered), "virtual": measured("reading", virtual)},
            "stored": measured("stored"),
            "device": measured("device"),
        }


def table(found: Figures) -> int:
    """Print what was found in Markdown; 1 where a target is missed."""
    lines = [
        *ratios("smoke", found["smoke"], 1.10),
        *ratios("full", found["full"], 1.03),
        *inputs(found),
        *stops(found["interrupted"]),
        *(Line(f"items a second, {count} worker(s) of one thread", f"{each['items_per_s']:.2f}")
          for count, each in found["workers"].items()),
        *orders(found["stored"]),
        *on_device(found["device"]),
    ]  # fmt: skip
    print(f"\n{found['cores']} cores; load {found['load_before']:.1f} before, {found['load_after']:.1f} after")
    print("| | measured | target |\n| --- | --: | --: |")
    for line in lines:
        print(f"| {line.what} | {line.found}{'' if line.good else ' (missed)'} | {line.wanted} |")
    if found["load_before"] > 0.5:
        print("\nThe machine did other work when this began. Run it again when it is idle.")
    return 0 if all(line.good for line in lines) else 1


def ratios(name: str, found: Figures, most: float) -> Iterator[Line]:
    """A recipe beside the bare loop."""
    shown = f"{found['ratio']:.3f} ({found['ratio_low']:.3f} to {found['ratio_high']:.3f})"
    pairs = len(found["ratios"])
    yield Line(f"{name}: step of the full run over the bare loop's, median of {pairs} pairs", shown,
               f"at most {most:.2f}", found["ratio"] <= most)  # fmt: skip
    yield Line(f"{name}: the same in processor time, decoding included", f"{found['work_ratio']:.3f}")
    yield Line(f"{name}: step of each", f"{1000 * found['full_step_s']:.0f} ms, {1000 * found['bare_step_s']:.0f} ms")
    yield Line(f"{name}: most memory of each", f"{found['full_peak_mb']:.0f} MB, {found['bare_peak_mb']:.0f} MB")


def inputs(found: Figures) -> Iterator[Line]:
    """Waiting for batches."""
    share = found["waits"]["wait_share"]
    yield Line("smoke: share of the time that the loop waits for batches, corpus read by 2 threads", f"{share:.2%}",
               "at most 2 %", share <= 0.02)  # fmt: skip
    for count, each in found["virtual_waits"].items():
        yield Line(f"the same, corpus rendered by {count} process(es)", f"{each['wait_share']:.2%}")
    first = found["waits"], *found["virtual_waits"].values()
    shown = ", ".join(f"{each['first_batch_s']:.1f} s" for each in first)
    yield Line("until the first batch is there, in the same order", shown)
    made = {kind: each["items_per_s"] for kind, each in found["reading"].items()}
    yield Line("items a second of one reader, reading and rendering", f"{made['rendered']:.0f}, {made['virtual']:.1f}")
    needed = math.ceil(found["waits"]["items_per_s"] / made["virtual"])
    yield Line("rendering processes that the smoke recipe on one thread needs", str(needed))


def stops(found: Figures) -> Iterator[Line]:
    """Checkpoints, and going on from them."""
    stall = f"{1000 * found['stall_s']:.0f} ms, {1000 * found['longest_stall_s']:.0f} ms"
    yield Line("full: how long a checkpoint holds the loop up, median and longest", stall)
    yield Line("full: from the call to the first step, cluster included: new, resumed",
               f"{found['start_s']:.1f} s, {found['resume_s']:.1f} s")  # fmt: skip
    yield Line("full: steps taken again after a resume", str(found["steps_again"]), "0", found["steps_again"] == 0)


def orders(found: Figures) -> Iterator[Line]:
    """What a batch of 16 costs the store."""
    names = {"random": "one worker, random order, a read for each row", "1": "one worker", "4": "four workers"}
    for kind, each in found.items():
        where, _, who = kind.partition(", ")
        shown = f"{each['requests']:.2f}, {each['bytes']:.2f}, {each['ms']:.1f} ms"
        yield Line(f"a batch of 16 out of a {where}, {names[who]}: requests, bytes over the rows' own, time", shown)


def on_device(found: Figures) -> Iterator[Line]:
    """What a GPU does."""
    if not found:
        yield Line("GPU", "none here: not run")
    for kind, each in found.items():
        if isinstance(each, dict):
            shown = f"{1000 * each['step_s']:.0f} ms, {each['tflop_per_s']:.1f} TFLOP/s, {each['peak_mb']:.0f} MB"
            yield Line(f"{found['device']}, dm, batch of 16, {kind}: step, speed, memory", shown)


if __name__ == "__main__":
    sys.exit(main())
