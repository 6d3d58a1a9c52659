"""What a frame of 10 ms costs where sound comes live: part of `make bench-models`.

Frame by frame on one thread, a preset of RaD-Net 2 after another: processor and clock for one frame, the median of
frames after some to warm up, over 10 ms (the real-time factor), of the network's own `stream` and of its `streamer`.
They take turns, two frames of the one and ten of the other, so that what else the machine does meets them alike. Then
where the streamer's time goes, block by block, and what a stream keeps.

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
from training.models.rad_net2 import frame_denoising as denoising
from training.models.rad_net2 import frame_repairing as repairing
from training.models.rad_net2 import frames as shared

PRESETS_HERE = ("rad_net2_tiny", "rad_net2_small", "rad_net2")
FRAMES, WARM_UP = 300, 60
TURN, TURN_OF_STREAM = 10, 2
"""Frames."""
LARGEST_CHUNK = 4800
CHUNK_S = 10
"""Seconds that the network itself gets at once, for the whole."""
BLOCKS = (
    ("stage 1", repairing.FrameRepairing),
    ("- levels down", repairing.FrameDown),
    ("- temporal stacks", shared.FrameStacks),
    ("- levels up", repairing.FrameUp),
    ("stage 2", denoising.FrameDenoising),
    ("- feature coders", denoising.FrameCoder),
    ("-- attention of these", denoising.FrameAttention),
    ("- masks of the bands and of the whole", denoising.FrameMaskings),
    ("-- levels down", denoising.FrameWayDown),
    ("-- levels up", denoising.FrameWayUp),
)
"""The temporal stacks are those of both stages."""


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
    }
    states, spent = dict.fromkeys(forms), defaultdict[str, list[tuple[float, float]]](list)
    chunks = list(frames(model, WARM_UP + count))
    for turn in range(0, len(chunks), TURN):
        for name, form in forms.items():
            for frame in range(turn, min(turn + (TURN_OF_STREAM if name == "stream" else TURN), len(chunks))):
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
    """Core-ms of each block of the streamer, as it is without a compiler: medians over frames."""
    model, spent, times = network(preset), Counter[str](), defaultdict[str, list[float]](list)
    originals = {block: block.__call__ for _, block in BLOCKS}
    for name, block in BLOCKS:
        vars_of(block, timed(originals[block], name, spent))
    try:
        streamer, state = model.streamer(), None
        for frame, chunk in enumerate(frames(model, WARM_UP + count)):
            spent.clear()
            worked = time.thread_time()
            state, _ = streamer(state, chunk)
            spent["all"] = time.thread_time() - worked
            if frame >= WARM_UP:
                for name, seconds in spent.items():
                    times[name].append(seconds)
    finally:
        for block, original in originals.items():
            vars_of(block, original)
    assert state is not None
    yield f"\n{preset}: where the {1000 * median(times['all']):.2f} core-ms of the streamer go; a stream keeps"
    yield f"{state[0].bytes() / 1e6:.1f} MB\n\n| block | core-ms |\n| --- | --: |"
    for name, _ in BLOCKS:
        if name in times:
            yield f"| {name} | {1000 * median(times[name]):.2f} |"


def vars_of(block: type, call: Callable[..., Any]) -> None:
    """Give a class this way of being called."""
    block.__call__ = call  # type: ignore[method-assign]


def timed(call: Callable[..., Any], name: str, spent: Counter[str]) -> Callable[..., Any]:
    """The same, and its time is counted."""

    def timing(*arguments: Any) -> Any:
        worked = time.thread_time()
        answer = call(*arguments)
        spent[name] += time.thread_time() - worked  # type: ignore[assignment]
        return answer

    return timing


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
