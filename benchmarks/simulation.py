"""How fast corpora are simulated, beside a bare loop over the same rows: `make bench-simulation`.

Every part runs in a process of its own, pinned to one core or to two with all that it starts (Ray's services and its
driver among them), so an hour of core is wall time x cores. The time that a Ray cluster needs to start is told apart;
everything else counts: scan of the sources, start of the workers, reads, measurements, FLAC, tar, commits, corpus.json.
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
from typing import Any

HOURS = 2.0
GROWTH = 10
WANTED_SHARDS = 1000

ROWS_PER_SHARD = 128
"""Seven minutes of audio, 16 MB: small beside what a team would choose, so that commits count."""

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
    took_s, audio_s = loop.run()
    return {"took_s": took_s, "audio_h": audio_s / 3600, "rows": len(loop.rows)}


def ours(hours: float, workers: int, folder: str) -> Figures:
    """`build` on a cluster of so many CPUs."""
    from simulation.build import build
    from simulation.cluster import cluster

    began = time.perf_counter()
    with cluster(cpus=workers):
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
    (split, number) = shards[0]
    with cluster(cpus=workers):
        began = time.time()
        module.build(wanted, folder, workers=workers)
    (tar,) = Path(storage.join(root, split).removeprefix("file://")).glob(f"shard-{number:06d}-*.tar")
    return {"shards": len(shards), "until_s": tar.stat().st_mtime - began}


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
    return {"took_s": max(one["took_s"] for one in each), "audio_h": sum(one["audio_h"] for one in each)}


def main() -> int:
    """Print the table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=HOURS, help="audio-hours of the rows that all parts render")
    parser.add_argument("--growth", type=int, default=GROWTH, help="how many times the rows of the large corpus")
    parser.add_argument("--shards", type=int, default=WANTED_SHARDS, help="shards of the resumed corpus")
    parser.add_argument("--part", choices=("bare", "ours", "resume"), help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "bare":
        print(json.dumps(bare(*options.arguments[:3])))
    elif options.part:
        *arguments, home = options.arguments
        print(json.dumps({"ours": ours, "resume": resume}[options.part](*arguments, os.path.join(home, "store"))))
    else:
        return table(options.hours, options.growth, options.shards)
    return 0


def table(hours: float, growth: int, shards: int) -> int:
    """Measure everything, say it."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("two cores are needed")
    one_bare = bare_loops(hours, cores[:1])
    one = measured("ours", cores[:1], hours, 1)
    two_bare = bare_loops(hours, cores)
    two = measured("ours", cores, hours, 2)
    many = measured("ours", cores, hours * growth, 2)
    print({"one_bare": one_bare, "one": one, "two_bare": two_bare, "two": two, "many": many})
    late = measured("resume", cores, shards * 3.4 / 3600, 2)
    print(late)
    return 0


if __name__ == "__main__":
    sys.exit(main())
