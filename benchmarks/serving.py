"""What serving adds to the bare engine: `make bench-serving`.

One run, side by side: the engine called directly (one piece at a time, and in batches), and the same version behind
Ray Serve on this machine. Recordings are two seconds long. Reported are the latency of one caller, the throughput of
sixteen, the slowest hundredth, memory, the effect of the batching window, and real-time streams at 70 % of what the
network's real-time factor allows, with the share of chunks that missed their deadline.
"""

import argparse
import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=320, help="of each measurement")
    parser.add_argument("--stream-s", type=float, default=20.0, help="how long the streams last")
    parser.add_argument("--port", type=int, default=18_765)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        address = f"file://{folder}/version"
        torch.manual_seed(0)
        save_version(GruMask.Config().build(), address, facts={})
        engine = Engine.load(address)
        figures = bare(engine, arguments.requests)
        home = Home(Path(folder, "home"))
        stack.enter_context(cluster(home, cpus=2))
        stack.enter_context(http_proxy(arguments.port))
        for window_ms in (0.0, 2.0, 20.0):
            config = ServiceConfig(version=served(address), limits=Limits(threads=1, batch_window_ms=window_ms))
            deploy(MAIN, config, "/")
            if window_ms == 0.0:
                stack.enter_context(announced(home, arguments.port, config))
            service = f"http://127.0.0.1:{arguments.port}"
            figures[f"served, window of {window_ms:g} ms"] = behind_serve(service, arguments.requests)
        figures["streams"] = streams(service, engine, arguments.stream_s)
        figures["memory_mb"] = memory_mb()
    report(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


def served(address: str) -> ServedVersion:
    """The version of a folder, as the service is told of it."""
    digest = version_record(address).weights_sha256
    return ServedVersion(use="denoise-16k", version="1", network="gru", address=address, weights_sha256=digest)


def bare(engine: Engine, requests: int) -> dict[str, Any]:
    """The engine called directly: one caller, sixteen one at a time, sixteen in batches."""
    noisy = recording()
    found: dict[str, Any] = {}
    found["engine, one caller"] = measured(lambda: engine.enhance(noisy, RATE), requests, 1)
    engine.batches.most_s = 0.0
    found["engine, sixteen callers, unbatched"] = measured(lambda: engine.enhance(noisy, RATE), requests, CALLERS)
    engine.batches.most_s = Limits().batch_s
    found["engine, sixteen callers, batched"] = measured(lambda: engine.enhance(noisy, RATE), requests, CALLERS)
    return found


def behind_serve(address: str, requests: int) -> dict[str, Any]:
    """The same over HTTP."""
    body = io.BytesIO()
    soundfile.write(body, recording(), RATE, format="WAV", subtype="PCM_16")
    clients = threading.local()

    def ask() -> None:
        client = getattr(clients, "own", None)
        if client is None:
            client = clients.own = httpx.Client(trust_env=False, timeout=60)
        client.post(f"{address}/v1/enhance", content=body.getvalue()).raise_for_status()

    return {"one caller": measured(ask, requests, 1), "sixteen callers": measured(ask, requests, CALLERS)}


def measured(ask: Callable[[], object], requests: int, callers: int) -> dict[str, float]:
    """Latencies in ms and recordings a second, after a few to warm up."""

    def timed(_: int) -> float:
        began = time.perf_counter()
        ask()
        return time.perf_counter() - began

    print(f"{requests} requests of {callers} callers", file=sys.stderr, flush=True)
    with ThreadPoolExecutor(callers) as threads:
        list(threads.map(timed, range(2 * callers)))
        began = time.perf_counter()
        latencies = 1000 * np.array(list(threads.map(timed, range(requests))))
        took_s = time.perf_counter() - began
    return {
        "median_ms": float(np.median(latencies)),
        "p99_ms": float(np.percentile(latencies, 99)),
        "a_second": requests / took_s,
    }


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
    """Resident memory of replicas and proxy."""
    found: dict[str, float] = {}
    for process in psutil.process_iter(["name", "cmdline", "memory_info"]):
        title = " ".join(process.info["cmdline"] or ())
        for what in ("ServeReplica", "ProxyActor"):
            if f"ray::{what}" in title:
                found[what] = max(found.get(what, 0.0), process.info["memory_info"].rss / 1e6)
    return found


def report(figures: dict[str, Any]) -> None:
    """The figures and what they say."""
    print(json.dumps(figures, indent=1))
    best = figures["served, window of 2 ms"]
    added = best["one caller"]["median_ms"] - figures["engine, one caller"]["median_ms"]
    many = best["sixteen callers"]["a_second"]
    batched, unbatched = (figures[f"engine, sixteen callers, {how}"]["a_second"] for how in ("batched", "unbatched"))
    print(f"added median latency, one caller: {added:.1f} ms (at most 10)")
    print(f"throughput of sixteen over the engine's batched: {many / batched:.2f} (at least 0.85)")
    print(f"throughput of sixteen over the engine's unbatched: {many / unbatched:.2f} (at least 2)")
    live = figures["streams"]
    print(f"late chunks at {live['streams']} streams: {live['late_share']:.4f} (at most 0.001)")


if __name__ == "__main__":
    main()
