"""What the networks cost on this machine: `make bench-models`.

For every preset: seconds of processor and clock for one second of audio, forward (serving) and forward and backward
(training, a batch of one), on one thread and on two, and the most memory of the process beyond what it held before;
then the same for one waveform of 2, 10 and 60 s, whole, since attention grows with the square. Each line is measured in
a process of its own, after one second to warm up. Where memory or time does not suffice, the line says so. All presets
take long: name some to measure in parts (`python -m benchmarks.models dm renet --threads 1`).
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from serving.facts import ONE_THREAD
from serving.network_costs import available_mb, leave_room, passes, why
from training.models.presets import PRESETS

LENGTHS_S = (2, 10, 60)
THREADS = (1, 2)
WHAT = ("forward", "forward and backward")
PASSES = 3
"""Over one second, of which the fastest counts, unless `--passes` says otherwise; longer ones are timed once."""
MOST_SECONDS = 90.0
"""That one pass may take, unless `--longest` says otherwise."""


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
    if arguments.one:
        measure(*json.loads(arguments.one))
        return 0
    lines: list[Line] = []
    for line in measurements(arguments):
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
    parser.add_argument("--longest", type=float, default=MOST_SECONDS, help="seconds that one pass may take")
    parser.add_argument("--passes", type=int, default=PASSES, help="over one second; the fastest counts")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.presets) - set(PRESETS):
        parser.error(f"found {', '.join(sorted(unknown))}; expected some of {', '.join(PRESETS)}")
    return arguments


def measurements(arguments: argparse.Namespace) -> Iterator[Line]:
    """All of them: a second with every number of threads, then the lengths with the most of them."""
    for preset in arguments.presets:
        for what in WHAT:
            lines = [
                measured(preset, what, count, 1, arguments.longest, arguments.passes) for count in arguments.threads
            ]
            yield from lines
            yield from longer(lines[-1], arguments.lengths, arguments.longest)


def longer(before: Line, lengths: list[int], longest_s: float) -> Iterator[Line]:
    """The same at other lengths, as far as time and memory allow."""
    for seconds in lengths:
        reason = foretold(before, seconds, longest_s)
        if reason:
            yield Line(before.preset, before.what, before.threads, seconds, None, None, None, reason)
        else:
            line = measured(before.preset, before.what, before.threads, seconds, longest_s)
            yield line
            before = line if line.took_s is not None else before


def foretold(before: Line, seconds: int, longest_s: float) -> str:
    """Why a longer waveform is not tried: "" where it is. Memory and time grow with the length at least."""
    if before.took_s is None or before.peak_mb is None:
        return before.reason
    growth = seconds / before.audio_s
    if before.peak_mb * growth > available_mb():
        return f"at least {before.peak_mb * growth / 1000:.0f} GB, {available_mb() / 1000:.0f} GB are free"
    if before.took_s * growth > longest_s:
        return f"at least {before.took_s * growth:.0f} s, {longest_s:.0f} s are given"
    return ""


def measured(preset: str, what: str, threads: int, seconds: int, longest_s: float, repeats: int = 1) -> Line:
    """In a process of its own, whose memory is counted from its start."""
    words = [sys.executable, "-m", "benchmarks.models", "--one", json.dumps([preset, what, threads, seconds, repeats])]
    environment = os.environ | dict.fromkeys(ONE_THREAD, str(threads))
    try:
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=max(2 * longest_s, 60.0), check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return Line(preset, what, threads, seconds, None, None, None, why(error))
    return Line(preset, what, threads, seconds, *json.loads(done.stdout.splitlines()[-1]))


def measure(preset: str, what: str, threads: int, seconds: int, repeats: int) -> None:
    """What `measured` starts; prints JSON."""
    torch.set_num_threads(threads)
    leave_room()
    print(json.dumps(passes(PRESETS[preset].config, seconds, what != "forward", repeats)))


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
