"""What a frame of 10 ms costs where sound comes live: part of `make bench-models`.

Frame by frame on one thread, a preset of RaD-Net 2 after another: processor and clock for one frame, the median of
frames after some to warm up, over 10 ms (the real-time factor), of the network's own `stream`, of its `streamer`, and
of the streamer in PyTorch's operations, which is what a machine without a C++ compiler has. They take turns, so that
what else the machine does meets them alike. Then what the processor is able to, where the streamer's time goes, part
by part, and what a stream keeps.

`--minutes N` feeds a preset noise of that length in chunks of 1 to 4,800 samples, and says how far the streamer is from
the network's answer to the whole, and what the stream kept at the beginning and at the end.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from torch import Tensor

from training.models.presets import PRESETS
from training.models.rad_net2 import RadNet2
from training.models.rad_net2.program import ATTENTION, COMPLEX_DEPTHWISE, DEPTHWISE, LINEAR, Kept
from training.models.rad_net2.realtime import FrameByFrame

PRESETS_HERE = ("rad_net2_tiny", "rad_net2_small", "rad_net2")
FRAMES, WARM_UP = 300, 60
TURN = 10
TURNS = {"stream": 2, "streamer": TURN, "streamer, PyTorch": 4}
"""Frames of each form in a turn."""
LARGEST_CHUNK = 4800
CHUNK_S = 10
"""Seconds that the network itself gets at once, for the whole."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", default=list(PRESETS_HERE), help=f"of {', '.join(PRESETS_HERE)}")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--minutes", type=float, help="compare streamer and network on so much noise instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.minutes:
        for preset in arguments.presets:
            print(long_stream(preset, arguments.minutes), flush=True)
        return 0
    print("| preset | form | core-ms a frame | of 10 ms | ms of the clock | of 10 ms |")
    print("| --- | --- | --: | --: | --: | --: |")
    for preset in arguments.presets:
        print("\n".join(costs(preset, arguments.frames)), flush=True)
    print(f"\n{limits()}", flush=True)
    for preset in arguments.presets:
        print("\n".join(profile(preset, arguments.frames)), flush=True)
    return 0


def network(preset: str) -> RadNet2:
    """With fresh weights, in eval mode."""
    torch.manual_seed(0)
    model = PRESETS[preset].config.build()
    assert isinstance(model, RadNet2)
    return model.eval()


def frames(model: RadNet2, count: int) -> Iterator[Tensor]:
    """Noise."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield 0.05 * torch.randn(1, model.config.hop_size, generator=generator)


def costs(preset: str, count: int) -> Iterator[str]:
    """A line for each form."""
    model = network(preset)
    forms: dict[str, Callable[..., Any]] = {
        "stream": torch.inference_mode()(model.stream),
        "streamer": model.streamer(),
        "streamer, PyTorch": model.streamer(compiled=False),
    }
    states, spent = dict.fromkeys(forms), defaultdict[str, list[tuple[float, float]]](list)
    chunks = list(frames(model, WARM_UP + count))
    for turn in range(0, len(chunks), TURN):
        for name, form in forms.items():
            for frame in range(turn, min(turn + TURNS[name], len(chunks))):
                worked, began = time.thread_time(), time.perf_counter()
                states[name], _ = form(states[name], chunks[frame])
                if frame >= WARM_UP:
                    spent[name].append((time.thread_time() - worked, time.perf_counter() - began))
    frame_s = model.config.hop_size / model.sample_rate
    for name, times in spent.items():
        core_s, clock_s = (median(each) for each in zip(*times, strict=True))
        yield (
            f"| {preset} | {name} | {1000 * core_s:.2f} | {core_s / frame_s:.2f}"
            f" | {1000 * clock_s:.2f} | {clock_s / frame_s:.2f} |"
        )


def profile(preset: str, count: int) -> Iterator[str]:
    """Core-ms of each part of the streamer's frame, medians over frames, beside what its products need."""
    model = network(preset)
    streamer = model.streamer()
    if not isinstance(streamer, FrameByFrame) or streamer.compiled is None:
        yield f"\n{preset}: no C++ compiler was found, so the streamer is PyTorch's operations; its parts are not timed"
        return
    program, state, times = streamer.compiled, None, defaultdict[str, list[float]](list)
    run = program.run

    def timed(_: range, kept: Kept, frame: int) -> None:
        spent = Counter[str]()
        for name, steps in program.parts:
            worked = time.thread_time()
            run(steps, kept, frame)
            spent[name] += time.thread_time() - worked  # type: ignore[assignment]
        if frame >= WARM_UP:
            for name, seconds in spent.items():
                times[name].append(seconds)

    program.run = timed  # type: ignore[method-assign]
    for chunk in frames(model, WARM_UP + count):
        worked = time.thread_time()
        state, _ = streamer(state, chunk)
        times["all"].append(time.thread_time() - worked)
    assert state is not None
    yield f"\n{preset}: where the {1000 * median(times.pop('all')[WARM_UP:]):.2f} core-ms of the streamer go; a stream"
    yield f"keeps {state[0].bytes() / 1e6:.1f} MB, the weights are {4e-6 * program.weights.numel():.1f} MB"
    yield "\n| part | core-ms | million multiply-accumulates | thousand millions a second |\n| --- | --: | --: | --: |"
    work = Counter[str]()
    for name, steps in program.parts:
        work[name] += sum(products(program.steps[place]) for place in steps)
    for name, spent in times.items():
        core_s = median(spent)
        yield f"| {name} | {1000 * core_s:.2f} | {work[name] / 1e6:.1f} | {work[name] / core_s / 1e9:.0f} |"


def products(step: Any) -> int:
    """Multiply-accumulates of a step of `kernels.cpp`; of those that are not convolutions or attention, none."""
    if step.kind == LINEAR:
        return int(step.rows * step.inner * step.columns * step.more)
    if step.kind == ATTENTION:
        return int(step.rows**2 * step.more * 2 * step.inner)
    return {DEPTHWISE: 9, COMPLEX_DEPTHWISE: 18}.get(step.kind, 0) * int(step.rows * step.columns)


def limits() -> str:
    """What one thread of this processor reaches: a matrix product from near memory, reading and a copy from far."""
    x, y, out = torch.randn(256, 256), torch.randn(256, 256), torch.empty(256, 256)
    far, to = torch.randn(1 << 25), torch.empty(1 << 25)
    near = torch.randn(1 << 23)
    ways: dict[str, tuple[Callable[[], Any], float]] = {
        "multiply-accumulates of a 256 x 256 x 256 product": (lambda: torch.mm(x, y, out=out), 256**3),
        "bytes read of 128 MB": (lambda: far.sum(), 4 * far.numel()),
        "bytes read of 32 MB": (lambda: near.sum(), 4 * near.numel()),
        "bytes of a copy of 128 MB": (lambda: to.copy_(far), 8 * far.numel()),
    }
    rates = []
    for name, (way, amount) in ways.items():
        spent = []
        for _ in range(12):
            worked = time.thread_time()
            way()
            spent.append(time.thread_time() - worked)
        rates.append(f"{amount / median(spent[2:]) / 1e9:.1f} thousand million {name}")
    return "One thread here does in a second: " + "; ".join(rates)


def long_stream(preset: str, minutes: float) -> str:
    """How far any cutting into chunks is from the whole, and what the stream keeps."""
    model, generator = network(preset), torch.Generator().manual_seed(2)
    length = round(60 * minutes * model.sample_rate)
    noisy = 0.05 * torch.randn(1, length + model.latency_samples, generator=generator)
    whole, state = [], None
    with torch.inference_mode():
        for piece in noisy.split(CHUNK_S * model.sample_rate, dim=-1):
            state, ready = model.stream(state, piece)
            whole.append(ready)
    streamer, live, found, kept, place = model.streamer(), None, [], list[int](), 0
    while place < noisy.shape[-1]:
        size = int(torch.randint(1, LARGEST_CHUNK + 1, (1,), generator=generator))
        live, ready = streamer(live, noisy[:, place : place + size])
        place += size
        found.append(ready)
        kept.append(sum(stream.bytes() for stream in live))
    wanted = torch.cat(whole, dim=-1)
    apart, largest = (torch.cat(found, dim=-1) - wanted).abs().max().item(), wanted.abs().max().item()
    first, most, last = (size / 1e6 for size in (kept[0], max(kept), kept[-1]))
    return (
        f"{preset}, {minutes:g} min in {len(found)} chunks of 1 to {LARGEST_CHUNK} samples: at most {apart:.1e} from"
        f" the network, {apart / largest:.1e} of its largest sample ({largest:.2e}); the stream kept {first:.3f} MB at"
        f" first, {most:.3f} at most, {last:.3f} at the end"
    )


if __name__ == "__main__":
    sys.exit(main())
