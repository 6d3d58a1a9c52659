"""What serving adds to the bare engine: `make bench-serving`, two to eight minutes.

One run, side by side: the engine called directly (one piece at a time, and in batches), and the same version behind
Ray Serve on this machine, in turns. Recordings are two seconds long. Reported are the latency of one caller, the
throughput of sixteen, the slowest hundredth, processor time, memory, the effect of the batching window, and real-time
streams at 70 % of what the network's real-time factor allows, with the share of chunks that missed their deadline.
"""

import argparse
import http.client
import io
import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
import torch

from serving.client import Client
from serving.deployer import MAIN, deploy
from serving.engine import Engine
from serving.messages import Limits, ServedVersion, ServiceConfig
from serving.service import announced, http_proxy
from simulation.audio import Waveform
from simulation.cluster import cluster
from simulation.home import Home
from training.checkpoint import save_version, version_record
from training.models import GruMask

RATE = 16_000
RECORDING_S = 2.0
CALLERS = 16
CHUNK_S = 0.1
SHARE = 0.7
"""Of the streams that the real-time factor allows."""
WINDOW_MS = Limits().batch_window_ms
WINDOWS_MS = (0.0, 2.0, 20.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=240, help="of each measurement in each round")
    parser.add_argument("--rounds", type=int, default=3, help="in which engine and service take turns")
    parser.add_argument("--stream-s", type=float, default=30.0, help="how long the streams last")
    parser.add_argument("--port", type=int, default=18_765)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        address = f"file://{folder}/version"
        torch.manual_seed(0)
        save_version(GruMask.Config().build(), address, facts={})
        engine, home = Engine.load(address), Home(Path(folder, "home"))
        stack.enter_context(cluster(home, cpus=2))
        stack.enter_context(http_proxy(arguments.port))
        config = serve_with(address, WINDOW_MS)
        stack.enter_context(announced(home, arguments.port, config))
        figures = side_by_side(engine, arguments.port, arguments.requests, arguments.rounds)
        figures["memory_mb"] = memory_mb()
        figures["streams"] = streams(f"http://127.0.0.1:{arguments.port}", engine, arguments.stream_s)
        for window_ms in WINDOWS_MS:
            serve_with(address, window_ms)
            asked = [measured(asking(arguments.port), arguments.requests, CALLERS) for _ in range(arguments.rounds)]
            figures[f"sixteen callers, window of {window_ms:g} ms"] = together(asked)
    report(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


def serve_with(address: str, window_ms: float) -> ServiceConfig:
    """The version behind Serve, on one core, with this batching window."""
    limits = Limits(threads=1, batch_window_ms=window_ms, max_streams=1000)
    config = ServiceConfig(version=served(address), limits=limits)
    deploy(MAIN, config, "/")
    return config


def served(address: str) -> ServedVersion:
    """The version of a folder, as the service is told of it."""
    digest = version_record(address).weights_sha256
    return ServedVersion(use="denoise-16k", version="1", network="gru", address=address, weights_sha256=digest)


def side_by_side(engine: Engine, port: int, requests: int, rounds: int) -> dict[str, Any]:
    """Engine and service in turns, so that whatever else the machine does falls on both."""
    noisy, ask = recording(), asking(port)

    def bare() -> None:
        engine.enhance(noisy, RATE)

    found: dict[str, list[Round]] = defaultdict(list)
    for _ in range(rounds):
        found["engine, one caller"].append(measured(bare, requests, 1))
        found["served, one caller"].append(measured(ask, requests, 1))
        engine.batches.most_s = 0.0
        found["engine, sixteen callers, unbatched"].append(measured(bare, requests, CALLERS))
        engine.batches.most_s = Limits().batch_s
        found["engine, sixteen callers, batched"].append(measured(bare, requests, CALLERS))
        found["served, sixteen callers"].append(measured(ask, requests, CALLERS))
    return {name: together(all) for name, all in found.items()}


def asking(port: int) -> Callable[[], None]:
    """One request to the service, each thread on a connection of its own; a client that costs next to nothing."""
    body = io.BytesIO()
    soundfile.write(body, recording(), RATE, format="WAV", subtype="PCM_16")
    own = threading.local()

    def ask() -> None:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        own.connection.request("POST", "/v1/enhance", body=body.getvalue())
        answer = own.connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {told[:200]!r}")

    return ask


@dataclass(frozen=True)
class Round:
    """Some requests, one after the other or at the same time."""

    latencies_ms: list[float]
    took_s: float
    processor_s: float


def together(rounds: Sequence[Round]) -> dict[str, float]:
    """Latencies of all rounds, requests a second, and what each cost."""
    latencies = [each for one in rounds for each in one.latencies_ms]
    return {
        "median_ms": float(np.median(latencies)),
        "p99_ms": float(np.percentile(latencies, 99)),
        "a_second": len(latencies) / sum(one.took_s for one in rounds),
        "processor_ms": 1000 * sum(one.processor_s for one in rounds) / len(latencies),
    }


def measured(ask: Callable[[], object], requests: int, callers: int) -> Round:
    """A round, after a few requests to warm up."""

    def timed(_: int) -> float:
        began = time.perf_counter()
        ask()
        return time.perf_counter() - began

    print(f"{requests} requests of {callers} callers", file=sys.stderr, flush=True)
    with ThreadPoolExecutor(callers) as threads:
        list(threads.map(timed, range(2 * callers)))
        before_s, began = processor_s(), time.perf_counter()
        latencies_ms = [1000 * each for each in threads.map(timed, range(requests))]
        took_s, worked_s = time.perf_counter() - began, processor_s() - before_s
    return Round(latencies_ms, took_s, worked_s)


def processor_s() -> float:
    """Processor time of this process, the proxy and the replicas so far."""
    return sum(sum(each.cpu_times()[:2]) for each in [psutil.Process(), *serving_processes().values()])


def serving_processes() -> dict[str, psutil.Process]:
    """The proxy, and the latest replica."""
    found: dict[str, psutil.Process] = {}
    for process in sorted(psutil.Process().children(recursive=True), key=lambda each: each.create_time()):
        with suppress(psutil.Error):
            title = " ".join(process.cmdline())
            found |= {what: process for what in ("ServeReplica", "ProxyActor") if f"ray::{what}" in title}
    return found


def streams(address: str, engine: Engine, stream_s: float) -> dict[str, float]:
    """As many real-time streams as 70 % of what the engine could do alone, and the chunks that came late."""
    factor = stream_factor(engine)
    count = max(1, int(SHARE / factor))
    print(f"{count} streams of {stream_s:g} s", file=sys.stderr, flush=True)

    def talk(number: int) -> tuple[int, int]:
        time.sleep(CHUNK_S * number / count)  # nobody speaks in step
        with Client(address) as client:
            list(client.stream(spoken(stream_s), RATE, encoding="s16le"))
            ended = client.last_stream
        assert ended is not None
        return ended.chunks, ended.deadline_misses

    with ThreadPoolExecutor(count) as threads:
        told = list(threads.map(talk, range(count)))
    chunks, misses = (sum(each) for each in zip(*told, strict=True))
    return {"real_time_factor": factor, "streams": count, "chunks": chunks, "late_share": misses / max(1, chunks)}


def stream_factor(engine: Engine) -> float:
    """Seconds that a second of one stream takes, in chunks as they are sent."""
    stream, chunk = engine.stream(RATE), recording()[: round(CHUNK_S * RATE)]
    for _ in range(20):
        stream.feed(chunk)
    began = time.perf_counter()
    for _ in range(200):
        stream.feed(chunk)
    return (time.perf_counter() - began) / (200 * CHUNK_S)


def spoken(stream_s: float) -> Iterator[Waveform]:
    """Chunks, each when it has been spoken."""
    chunk, began = recording()[: round(CHUNK_S * RATE)], time.monotonic()
    for number in range(1, round(stream_s / CHUNK_S) + 1):
        time.sleep(max(0.0, began + number * CHUNK_S - time.monotonic()))
        yield chunk


def recording() -> Waveform:
    """Two seconds of noise at -20 dB."""
    return np.random.default_rng(0).normal(0, 0.1, (round(RECORDING_S * RATE), 1)).astype(np.float32)


def memory_mb() -> dict[str, float]:
    """Resident memory of replica and proxy."""
    return {what: process.memory_info().rss / 1e6 for what, process in serving_processes().items()}


def report(figures: dict[str, Any]) -> None:
    """The figures and what they say."""
    print(json.dumps(figures, indent=1))
    one, alone = figures["served, one caller"], figures["engine, one caller"]
    many = figures["served, sixteen callers"]["a_second"]
    batched, unbatched = (figures[f"engine, sixteen callers, {how}"]["a_second"] for how in ("batched", "unbatched"))
    print(f"added median latency, one caller: {one['median_ms'] - alone['median_ms']:.1f} ms (at most 10)")
    print(f"added processor time, one caller: {one['processor_ms'] - alone['processor_ms']:.1f} ms")
    print(f"throughput of sixteen over the engine's batched: {many / batched:.2f} (at least 0.85)")
    print(f"throughput of sixteen over the engine's unbatched: {many / unbatched:.2f} (at least 2)")
    live = figures["streams"]
    print(f"late chunks at {live['streams']} streams: {live['late_share']:.4f} (at most 0.001)")


if __name__ == "__main__":
    main()
