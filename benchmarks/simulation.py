"""How fast corpora are simulated, beside a bare loop over the same rows: `make bench-simulation`.

Every part runs in a process of its own, pinned to one core or to two with all that it starts (Ray's services and its
driver among them), so an hour of core is wall time x cores. The time that a Ray cluster needs to start, and Ray Data's
services in it (one of each a cluster), is told apart; everything else counts: scan of the sources, start of the
workers, reads, measurements, FLAC, tar, commits, corpus.json. To be run on a machine that does nothing else.

Where URGENT_DIR names a checkout of the URGENT 2025 challenge (and URGENT_PYTHON an interpreter with its requirements),
its renderer is timed on the same recordings in the same run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

HOURS = 4.0
GROWTH = 10
WANTED_SHARDS = 1000

ROWS_PER_SHARD = 128
"""Seven minutes of audio, 16 MB: small beside what a team would choose, so that commits count."""

UTTERANCE_S = 3.4
"""Of the shipped recordings, on average."""
URGENT_HOURS = 0.1
"""Audio-hours that URGENT 2025's renderer is timed on."""

Figures = dict[str, Any]


# ---- parts, each in a process of its own ----------------------------------------------------------------------------


def scenario(hours: float, rows_per_shard: int = ROWS_PER_SHARD) -> Any:
    """Room, band limit and noise in every row, from the shipped recordings at 16 kHz."""
    from simulation.degradations import AddNoise, BandLimit, Reverberate
    from simulation.scenario import Case, Scenario, Size
    from simulation.schema import Range

    degradations = (
        Reverberate(target="early"),
        BandLimit(cutoff_hz=Range(low=1000.0, high=4000.0)),
        AddNoise(snr_db=Range(low=-5.0, high=15.0)),
    )
    return Scenario(
        name="bench",
        cases=(Case(name="all", degradations=degradations),),
        rows_per_shard=rows_per_shard,
        size=Size(train_hours=hours, valid_rows=1, test_rows=1),
    )


def bare(hours: float, part: int, parts: int) -> Figures:
    """The bare loop over every `parts`-th row."""
    from benchmarks.bare_loop import BareLoop
    from simulation.draw import draw, shard_count
    from simulation.planned import planned
    from simulation.sources import SPLITS

    plan = planned(scenario(hours))
    rows = [
        draw(plan, split, index)
        for split in SPLITS.values()
        for index in range(shard_count(plan, split) * plan.scenario.rows_per_shard)
    ]
    loop = BareLoop(plan, rows[part::parts])
    if not loop.agrees():
        raise SystemExit("the bare loop renders something else")
    print("ready", flush=True)
    sys.stdin.readline()
    busy_s = time.process_time()
    took_s, audio_s = loop.run()
    return {"took_s": took_s, "audio_h": audio_s / 3600, "cpu_s": time.process_time() - busy_s}


def ours(hours: float, workers: int, folder: str) -> Figures:
    """`build` on a cluster of so many CPUs."""
    from simulation.build import build
    from simulation.cluster import cluster

    began = time.perf_counter()
    with cluster(cpus=workers):
        start_services()
        started_s = time.perf_counter() - began
        before = plasma_bytes()
        with peak_of_renderers() as peak:
            began = time.perf_counter()
            built = build(scenario(hours), folder, workers=workers)
            took_s = time.perf_counter() - began
        through = plasma_bytes() - before
    return {
        "took_s": took_s,
        "audio_h": sum(split.hours for split in built.splits.values()),
        "rows": sum(split.rows for split in built.splits.values()),
        "shards": built.rendered,
        "started_s": started_s,
        "peak_mb": peak() / 1e6,
        "plasma_mb": through / 1e6,
    }


def resume(hours: float, workers: int, folder: str) -> Figures:
    """999 of 1,000 shards are committed, and no corpus.json: how long until the last one is begun."""
    from simulation import build as module
    from simulation import storage
    from simulation.cluster import cluster
    from simulation.draw import shard_count
    from simulation.planned import planned
    from simulation.render import Library
    from simulation.shards import commit
    from simulation.sources import SPLITS

    wanted = scenario(hours, rows_per_shard=1).model_copy(update={"name": "bench_resume"})
    plan = planned(wanted)
    library = Library(plan.sources, plan.scenario, plan.seed)
    root = storage.join(storage.normal(folder), "corpora", plan.name)
    shards = [(split, number) for split in SPLITS.values() for number in range(shard_count(plan, split))]
    for split, number in shards[1:]:
        commit(storage.join(root, split), *module.render_shard(plan, split, number, library))
    mark = Path(folder, "began")

    class Marked(module._Renderer):
        """Leaves a mark when it begins its first shard."""

        def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
            mark.exists() or mark.touch()
            return super().__call__(batch)

    with cluster(cpus=workers):
        start_services()
        began = time.time()
        with patch.object(module, "_Renderer", Marked):
            built = module.build(wanted, folder, workers=workers)
        took_s = time.time() - began
    return {
        "shards": len(shards),
        "rendered": built.rendered,
        "until_s": mark.stat().st_mtime - began,
        "took_s": took_s,
    }


def urgent_2025(hours: float, checkout: str, folder: str) -> Figures:
    """The renderer of URGENT 2025 over the first rows, by the interpreter that has what it requires."""
    from simulation.draw import draw
    from simulation.planned import planned

    plan = planned(scenario(hours))
    rows = [draw(plan, "train", index) for index in range(round(hours * 3600 / UTTERANCE_S))]
    paths = {one.id: one.address.removeprefix("file://") for one in plan.sources.recordings}
    task = {
        "folder": folder,
        "rows": [row.model_dump(mode="json") for row in rows],
        "paths": paths,
        "sample_rate": plan.scenario.sample_rate,
    }
    words = [os.environ.get("URGENT_PYTHON", sys.executable), "benchmarks/urgent2025.py", checkout]
    done = subprocess.run(words, input=json.dumps(task), capture_output=True, text=True, check=False)
    if done.returncode:
        return {"problem": done.stderr.strip().splitlines()[-1]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


class Nothing:
    """What an actor pool does that only starts."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch."""
        return batch


def start_services() -> None:
    """Ray Data starts its statistics, autoscaler and actor tracker with the first data set of a cluster."""
    import ray.data

    from simulation.build import _silence

    pool = ray.data.ActorPoolStrategy(size=1)
    started = ray.data.from_items([{"nothing": 0}]).map_batches(Nothing, compute=pool, num_cpus=0.1)
    _silence(started)
    started.materialize()


def plasma_bytes() -> int:
    """Bytes of all objects that were ever created in Ray's object store."""
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    return int(get_memory_info_reply(state).store_stats.cumulative_created_bytes)


@contextmanager
def peak_of_renderers() -> Iterator[Callable[[], int]]:
    """The most memory that one rendering worker held so far, in bytes (the kernel's high-water mark)."""
    import psutil

    most, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.25):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "_Renderer" in " ".join(process.cmdline()):
                        text = Path(f"/proc/{process.pid}/status").read_text()
                        most[0] = max(most[0], 1024 * int(text.split("VmHWM:")[1].split()[0]))
                except (psutil.Error, OSError, IndexError):
                    continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: most[0]
    finally:
        over.set()
        thread.join()


PARTS: dict[str, Callable[..., Figures]] = {"ours": ours, "resume": resume, "urgent": urgent_2025}


# ---- running them ---------------------------------------------------------------------------------------------------


@contextmanager
def part(name: str, cores: list[int], *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A part in a process of its own, pinned, in a home of its own that is removed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment |= {"UNMUFFLE_HOME": home}
        words = [sys.executable, "-m", "benchmarks.simulation", "--part", name]
        process = subprocess.Popen(
            [*words, "--arguments", json.dumps([*arguments, home])],
            cwd=Path(__file__).parent.parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        with process:
            yield process


def answer(process: "subprocess.Popen[str]") -> Figures:
    """What a part prints last."""
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a part failed with exit code {process.returncode}")
    return dict(json.loads(out.strip().splitlines()[-1]))


def measured(name: str, cores: list[int], *arguments: object) -> Figures:
    """The figures of one part."""
    with part(name, cores, *arguments) as process:
        return answer(process)


def bare_loops(hours: float, cores: list[int]) -> Figures:
    """A bare loop on each core at the same time, the rows shared out; the slowest ends it."""
    if len(cores) == 1:
        with part("bare", cores, hours, 0, 1) as process:
            return _started([process])
    with part("bare", cores[:1], hours, 0, 2) as one, part("bare", cores[1:], hours, 1, 2) as two:
        return _started([one, two])


def _started(processes: list["subprocess.Popen[str]"]) -> Figures:
    for process in processes:
        assert process.stdout is not None
        while process.stdout.readline() != "ready\n":
            if process.poll() is not None:
                raise SystemExit(f"a bare loop failed with exit code {process.returncode}")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    each = [answer(process) for process in processes]
    return {
        "took_s": max(one["took_s"] for one in each),
        "cpu_s": max(one["cpu_s"] for one in each),
        "audio_h": sum(one["audio_h"] for one in each),
    }


def main() -> int:
    """Print the table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=HOURS, help="audio-hours of the rows that all parts render")
    parser.add_argument("--growth", type=int, default=GROWTH, help="how many times the rows of the large corpus")
    parser.add_argument("--shards", type=int, default=WANTED_SHARDS, help="shards of the resumed corpus")
    parser.add_argument("--part", choices=("bare", *PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "bare":
        print(json.dumps(bare(*options.arguments[:3])))
    elif options.part:
        *arguments, home = options.arguments
        print(json.dumps(PARTS[options.part](*arguments, os.path.join(home, "store"))))
    else:
        return table(options.hours, options.growth, options.shards)
    return 0


class Line(NamedTuple):
    """One line of the table."""

    what: str
    found: str
    wanted: str = ""
    good: bool = True


def table(hours: float, growth: int, shards: int) -> int:
    """Measure everything and print it as a table in Markdown; 1 where a target is missed."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("Two cores are needed; this process may use one.")
    bare_one, one = told(bare_loops, hours, cores[:1]), told(measured, "ours", cores[:1], hours, 1)
    bare_two, two = told(bare_loops, hours, cores), told(measured, "ours", cores, hours, 2)
    many = told(measured, "ours", cores, hours * growth, 2)
    late = told(measured, "resume", cores, shards * UTTERANCE_S / 3600, 2)
    lines = [
        *speeds(bare_one, one, bare_two, two),
        *sizes(one, two, many),
        resumed(late),
        Line("start of the cluster and of Ray Data's services, not counted above", f"{one['started_s']:.1f} s"),
        *urgent(cores[:1], hours, speed(bare_one)),
    ]
    print(f"\n{one['audio_h']:.2f} audio-hours at 16 kHz, {one['rows']} rows of room, band limit and noise")
    print("| | measured | target |\n| --- | --: | --: |")
    for line in lines:
        print(f"| {line.what} | {line.found}{'' if line.good else ' (missed)'} | {line.wanted} |")
    if bare_one["took_s"] > 1.05 * bare_one["cpu_s"]:
        print(
            "\nThe machine did other work meanwhile: the bare loop waited for its core. Run this again when it is idle."
        )
    return 0 if all(line.good for line in lines) else 1


def told(measure: Callable[..., Figures], *arguments: Any) -> Figures:
    """A measurement, said as it is taken."""
    found = measure(*arguments)
    words = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    print(f"{measure.__name__} {arguments}: {words}", file=sys.stderr, flush=True)
    return found


def speed(figures: Figures, cores: int = 1) -> float:
    """Audio-hours per core-hour."""
    return float(figures["audio_h"] * 3600 / figures["took_s"] / cores)


def speeds(bare_one: Figures, one: Figures, bare_two: Figures, two: Figures) -> Iterator[Line]:
    """On one core, on two, and beside the bare loop."""
    yield Line("audio-hours per core-hour, one core", f"{speed(one):.0f}")
    yield Line("the bare loop's", f"{speed(bare_one):.0f}")
    share = speed(one) / speed(bare_one)
    yield Line("share of the bare loop", f"{share:.2f}", "at least 0.60", share >= 0.6)
    gain, bare_gain = (2 * speed(both, 2) / speed(alone) for both, alone in ((two, one), (bare_two, bare_one)))
    yield Line("two cores over one", f"{gain:.2f} times")
    yield Line("two bare loops over one", f"{bare_gain:.2f} times")
    yield Line("the first over the second", f"{gain / bare_gain:.2f}", "at least 0.90", gain >= 0.9 * bare_gain)


def sizes(one: Figures, two: Figures, many: Figures) -> Iterator[Line]:
    """What does not depend on the size of a corpus."""
    more, kept = many["audio_h"] / two["audio_h"], speed(many, 2) / speed(two, 2)
    yield Line(
        f"throughput at {more:.1f} times the rows, two cores", f"{kept:.2f} times", "at least 0.95", kept >= 0.95
    )
    peaks = [figures["peak_mb"] for figures in (one, two, many)]
    shown = f"{max(peaks[:2]):.0f} MB, {peaks[2]:.0f} MB"
    flat = max(peaks) <= 600 and peaks[2] <= 1.1 * max(peaks[:2])
    yield Line(f"most memory of a worker, at {more:.1f} times the rows", shown, "at most 600 MB, flat", flat)
    through = max(figures["plasma_mb"] / figures["audio_h"] for figures in (one, two, many))
    yield Line("through Ray's object store per audio-hour", f"{through:.2f} MB", "at most 1 MB", through <= 1)


def resumed(late: Figures) -> Line:
    """How soon a build that was nearly done goes on."""
    what = f"until the next shard begins, {late['shards'] - 1} of {late['shards']} being there and no corpus.json"
    return Line(what, f"{late['until_s']:.1f} s", "at most 2 s", late["until_s"] <= 2)


def urgent(cores: list[int], hours: float, bare_speed: float) -> Iterator[Line]:
    """The renderer of URGENT 2025 beside the bare loop, where there is a checkout of it."""
    checkout = os.environ.get("URGENT_DIR")
    if not checkout:
        return
    found = told(measured, "urgent", cores, min(hours, URGENT_HOURS), checkout)
    if "problem" in found:
        yield Line("URGENT 2025", f"not timed: {found['problem']}")
        return
    yield Line("URGENT 2025: audio-hours per core-hour", f"{speed(found):.0f}")
    yield Line("its share of the bare loop", f"{speed(found) / bare_speed:.2f}")


if __name__ == "__main__":
    sys.exit(main())
