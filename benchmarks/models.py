"""What the networks cost on this machine: `make bench-models`.

For every preset: seconds of processor and clock for one second of audio, forward (serving) and forward and backward
(training, a batch of one), on one thread and on two, and the most memory of the process beyond what it held before;
then the forward pass of one waveform of 2, 10 and 60 s, whole, since attention grows with the square. Each line is
measured in a process of its own, after one pass to warm up. What would not fit into memory or time is not tried, and
the line says why.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from training.models.presets import PRESETS

LENGTHS_S = (2, 10, 60)
THREADS = (1, 2)
PASSES = 3
"""Timed ones; the fastest counts."""
MOST_SECONDS = 120.0
"""That one pass may take, as the pass before it foretells."""
MEMORY_SHARE = 0.7
"""Of what is available now that a pass may need, as the length before it foretells."""
KILOBYTE = 1024
MEGABYTE = 1024 * 1024


class Line(NamedTuple):
    """One measurement."""

    preset: str
    what: str
    """forward, or forward and backward."""
    threads: int
    audio_s: int
    took_s: float | None
    """Of the clock, for one pass; None where it was not tried."""
    core_s: float | None
    """Of the processor."""
    peak_mb: float | None
    """More than before the network was built, weights included."""
    reason: str = ""
    """Why it was not tried, or what went wrong."""


def main() -> int:
    """Measure and print."""
    arguments = parsed()
    lines: list[Line] = []
    for line in measurements(arguments.presets, arguments.lengths, arguments.threads):
        print(shown(line), file=sys.stderr, flush=True)
        lines.append(line)
    print("\n".join(table(lines)))
    if arguments.json:
        arguments.json.write_text(json.dumps([line._asdict() for line in lines], indent=1))
    return 0


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", default=list(PRESETS), help=f"of {', '.join(PRESETS)}")
    parser.add_argument("--lengths", nargs="*", type=int, default=list(LENGTHS_S), help="seconds, in rising order")
    parser.add_argument("--threads", nargs="*", type=int, default=list(THREADS))
    parser.add_argument("--json", type=Path, help="a file for the figures")
    arguments = parser.parse_args()
    if unknown := set(arguments.presets) - set(PRESETS):
        parser.error(f"found {', '.join(sorted(unknown))}; expected some of {', '.join(PRESETS)}")
    return arguments


def measurements(presets: list[str], lengths: list[int], threads: list[int]) -> Iterator[Line]:
    """All of them, the cheapest of a preset first."""
    for preset in presets:
        for what in ("forward", "forward and backward"):
            for count in threads:
                yield measured(preset, what, count, 1)
        before: Line | None = None
        for seconds in lengths:
            reason = "" if before is None else foretold(before, seconds)
            line = (
                Line(preset, "forward", max(threads), seconds, None, None, None, reason)
                if reason
                else measured(preset, "forward", max(threads), seconds)
            )
            yield line
            if line.took_s is not None:
                before = line


def foretold(before: Line, seconds: int) -> str:
    """Why a longer waveform is not tried: "" where it is. Memory and time grow by the square at worst."""
    assert before.took_s is not None and before.peak_mb is not None
    growth = (seconds / before.audio_s) ** 2
    if before.peak_mb * growth > MEMORY_SHARE * available_mb():
        least = before.peak_mb * seconds / before.audio_s / 1024
        return f"{least:.0f} to {before.peak_mb * growth / 1024:.0f} GB, {available_mb() / 1024:.0f} GB are free"
    if before.took_s * growth > MOST_SECONDS:
        return f"up to {before.took_s * growth:.0f} s, at most {MOST_SECONDS:.0f} s are given"
    return ""


def available_mb() -> float:
    """Memory that is free or can be freed, and that a limit on this machine leaves."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * KILOBYTE / MEGABYTE
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        free = min(free, (int(most) - int(used.read_text())) / MEGABYTE)
    return free


def measured(preset: str, what: str, threads: int, seconds: int) -> Line:
    """In a process of its own, whose memory is counted from its start."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(theirs, preset, what, threads, seconds))
    process.start()
    theirs.close()
    try:
        figures: tuple[Any, ...] = ours.recv()
    except EOFError:
        figures = (None, None, None, "the process was ended by the system, for memory presumably")
    process.join()
    return Line(preset, what, threads, seconds, *figures)


def measure(answer: Any, preset: str, what: str, threads: int, seconds: int) -> None:
    """What `measured` starts."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = PRESETS[preset].config
    empty = peak_mb()
    model, learning = config.build(), what != "forward"
    model.train(learning)
    heard = 0.05 * torch.randn(1, seconds * config.sample_rate)
    fastest = (float("inf"), float("inf"))
    for _ in range(1 + (PASSES if seconds <= min(LENGTHS_S) else 1)):  # the first warms up
        began, worked = time.perf_counter(), time.process_time()
        with torch.set_grad_enabled(learning):
            enhanced = model(heard)
            if learning:
                enhanced.square().mean().backward()
        fastest = min(fastest, (time.perf_counter() - began, time.process_time() - worked))
    answer.send((*fastest, peak_mb() - empty, ""))


def peak_mb() -> float:
    """Most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE / MEGABYTE


def shown(line: Line) -> str:
    """A line while it is measured."""
    found = line.reason or f"{line.took_s:.2f} s, {line.core_s:.2f} core-s, {line.peak_mb:.0f} MB"
    return f"{line.preset}: {line.what}, {line.audio_s} s of audio, {line.threads} threads: {found}"


def table(lines: list[Line]) -> Iterator[str]:
    """As documents have it."""
    yield "| preset | what | threads | audio | s per s of audio | core-s per s | peak memory |"
    yield "| --- | --- | --: | --: | --: | --: | --: |"
    for line in lines:
        start = f"| {line.preset} | {line.what} | {line.threads} | {line.audio_s} s |"
        if line.took_s is None or line.core_s is None:
            yield f"{start} {line.reason} | | |"
        else:
            per_s, core_per_s = line.took_s / line.audio_s, line.core_s / line.audio_s
            yield f"{start} {per_s:.2f} | {core_per_s:.2f} | {line.peak_mb:.0f} MB |"


if __name__ == "__main__":
    sys.exit(main())
