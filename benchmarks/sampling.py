"""What a sample of a diffusion model costs on this machine: the second half of `make bench-models`.

    python -m benchmarks.sampling [gp_unified] [gp_unified_small] [--steps 5 8 15 30] [--seconds 1] [--threads 1]

For each size, in a process of its own: a call of the network (score alone, both decoders, prediction alone); samples at
each number of steps, by the score alone (SGMSE+, GP-SGMSE+) and fused (GP-Unified), in turns, each the fastest of its
passes; the predictive mode. Times are of the processor. Beside what fusion costs stands what its products alone
come to. Last, ten minutes of audio through the small one in its blocks, beside one minute: memory must not grow.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from training.blocks import enhance_any_length
from training.models import GpUnified
from training.models.gp_unified import Sampling
from training.models.presets import PRESETS

SIZES = ("gp_unified", "gp_unified_small")
STEPS = (5, 8, 15, 30)
"""Eight: the fewest at which two calls of the predictive decoder are less than a tenth of a sample by the score."""
LONG_S = (60, 600)


class Line(NamedTuple):
    """One measurement."""

    size: str
    what: str
    audio_s: float
    core_s: float
    """Of the processor."""
    over_generative: float | None = None
    """Of samples that are fused: this time over that of the score alone."""
    by_products: float | None = None
    """The same ratio, of multiply-accumulates."""
    peak_mb: float | None = None
    """The most that the process held until then, over what it held before the network was built."""


def main() -> int:
    """Measure and print."""
    arguments = parsed()
    lines: list[Line] = []
    for size in arguments.sizes:
        lines += apart(measured, size, arguments.steps, arguments.seconds, arguments.threads, arguments.passes)
    small = "gp_unified_small" in arguments.sizes
    long = [line for seconds in LONG_S for line in apart(whole_files, seconds, arguments.threads)] if small else []
    print("\n".join(table(lines + long)))
    if arguments.json:
        arguments.json.write_text(json.dumps([line._asdict() for line in lines + long], indent=1))
    return 0


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", choices=[*SIZES, []], default=SIZES)
    parser.add_argument("--steps", nargs="*", type=int, default=STEPS)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    return parser.parse_args()


def apart(measure: Callable[..., list[Line]], *arguments: Any) -> list[Line]:
    """The lines of a measurement, taken in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        lines = pool.apply(measure, arguments)
    for line in lines:
        print(shown(line), file=sys.stderr, flush=True)
    return lines


# ---- what is measured ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def measured(size: str, steps: list[int], seconds: float, threads: int, passes: int) -> list[Line]:
    """Calls, then samples of one size."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    before, model = peak_mb(), network(size)
    noisy = 0.05 * torch.randn(1, round(seconds * model.sample_rate))
    heard, time_one = model.conditions(noisy).spectrum, torch.ones(1)

    def call(generate: bool, predict: bool) -> Callable[[], object]:
        return lambda: model.outputs(heard, heard, time_one, generate=generate, predict=predict)

    def sample(mode: str, count: int = 1) -> Callable[[], object]:
        sampling = Sampling.model_validate({"mode": mode, "steps": count})
        return lambda: model.enhanced(noisy, [0], sampling)

    calls = {"score": call(True, False), "score and prediction": call(True, True), "prediction": call(False, True)}
    products = {name: products_of(one) for name, one in calls.items()}
    taken = in_turns(calls, 1 + passes)
    lines = [Line(size, f"a call, {name}", seconds, core_s) for name, core_s in taken.items()]
    predictive = in_turns({"predictive": sample("predictive")}, 1 + passes)["predictive"]
    lines.append(Line(size, "predictive mode", seconds, predictive, peak_mb=peak_mb() - before))
    for count in steps:
        found = in_turns({mode: sample(mode, count) for mode in ("generative", "unified")}, passes)
        more = 1 + (products["score and prediction"] / products["score"] - 1) * min(2, count) / (2 * count)
        lines.append(Line(size, f"generative, N = {count}", seconds, found["generative"]))
        ratio = found["unified"] / found["generative"]
        lines.append(Line(size, f"unified, N = {count}", seconds, found["unified"], ratio, more, peak_mb() - before))
    return lines


def network(size: str) -> GpUnified:
    """Fresh weights at this size, with both decoders."""
    model = PRESETS[size].config.build().eval()
    assert isinstance(model, GpUnified)
    return model


def in_turns(what: dict[str, Callable[[], object]], passes: int) -> dict[str, float]:
    """The least processor time of each, one pass of all after the other, so that no one has a calmer machine."""
    least = dict.fromkeys(what, float("inf"))
    for _ in range(passes):
        for name, one in what.items():
            began = time.process_time()
            one()
            least[name] = min(least[name], time.process_time() - began)
    return least


def products_of(call: Callable[[], object]) -> int:
    """Multiply-accumulates of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops()) // 2


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def whole_files(seconds: int, threads: int) -> list[Line]:
    """A file of this length through the small one as it is released, as serving and scoring do it."""
    torch.set_num_threads(threads)
    before, model = peak_mb(), network("gp_unified_small")
    noisy = 0.05 * np.random.default_rng(0).standard_normal(seconds * model.sample_rate).astype(np.float32)
    began = time.process_time()
    enhanced = enhance_any_length(model, noisy)
    assert enhanced.shape == noisy.shape
    core_s = time.process_time() - began
    held = peak_mb() - before - 2 * noisy.nbytes / 1024**2
    return [Line("gp_unified_small", "predictive mode in blocks, file left out", seconds, core_s, peak_mb=held)]


# ---- telling ---------------------------------------------------------------------------------------------------------


def shown(line: Line) -> str:
    """A line while it is measured."""
    return f"{line.size}: {line.what}: {line.core_s:.2f} core-s, {line.core_s / line.audio_s:.3f} per s of audio"


def table(lines: list[Line]) -> list[str]:
    """As documents have it."""
    rows = [
        "| size | what | audio | core-s | core-s per s of audio | over the score alone | by products | peak memory |",
        "| --- | --- | --: | --: | --: | --: | --: | --: |",
    ]
    for line in lines:
        ratios = " | ".join("" if one is None else f"{one:.3f}" for one in (line.over_generative, line.by_products))
        memory = "" if line.peak_mb is None else f"{line.peak_mb:.0f} MB"
        rows.append(
            f"| {line.size} | {line.what} | {line.audio_s:g} s | {line.core_s:.2f} | {line.core_s / line.audio_s:.3f} "
            f"| {ratios} | {memory} |"
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
