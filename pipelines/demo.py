"""The main job on the shipped recordings, as a new user would type it: run the pipeline, serve, send a recording.

`make demo` runs this. It ends with a real recording of the test split, enhanced over HTTP by the promoted version.
"""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np

from simulation import audio, storage
from simulation.corpus import Corpus
from simulation.home import Home
from training.metrics import METRICS
from training.registry import DEFAULT_USE

PATIENCE_S = 180.0
"""How long the service may take to load the champion and answer."""


def main() -> None:
    """Run, serve, enhance, and say what was heard."""
    began = time.monotonic()
    home = Home.current()
    _command("run")
    with _service() as address:
        clean, noisy, sample_rate = _recording(home)
        answer = httpx.post(f"{address}/v1/enhance", content=audio.encode_flac(noisy, sample_rate), timeout=60.0)
        answer.raise_for_status()
    enhanced = audio.mono(audio.read(answer.content, "answer")[0])
    folder = home.path / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    for name, waveform in (("noisy", noisy), ("enhanced", enhanced), ("clean", clean)):
        (folder / f"{name}.flac").write_bytes(audio.encode_flac(waveform, sample_rate))
    _tell(clean, noisy, enhanced, sample_rate, answer.headers["x-unmuffle-version"], folder)
    print(f"Done in {time.monotonic() - began:.0f} s.")


def _command(*words: str) -> None:
    """Run `unmuffle` with these words, shown as a person would type them; ends this process where it fails."""
    print(f"$ unmuffle {' '.join(words)}", flush=True)
    done = subprocess.run([*_unmuffle(), *words], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def _unmuffle() -> Sequence[str]:
    return (sys.executable, "-m", "pipelines")


@contextlib.contextmanager
def _service() -> Iterator[str]:
    """`unmuffle serve` on a free port for as long as the block lasts; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    print(f"$ unmuffle serve --port {port} &", flush=True)
    process = subprocess.Popen([*_unmuffle(), "serve", "--port", str(port)])
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(address, process)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _wait_for(address: str, process: "subprocess.Popen[bytes]") -> None:
    """Until the service says that it is well."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/healthz", timeout=10.0).status_code == httpx.codes.OK:
                return
        time.sleep(0.5)
    sys.exit(
        f"The service at {address} did not answer within {PATIENCE_S:.0f} s. `unmuffle doctor` looks for the cause."
    )


def _recording(home: Home) -> tuple[np.ndarray, np.ndarray, int]:
    """A recording of the gate's noise slice, near the middle of its range of SNR."""
    gate = json.loads(storage.read(storage.join(home.store, "gates", f"{DEFAULT_USE}.json")))
    corpus = Corpus.open(gate["address"], gate["sha256"])
    noisy_rows = [
        (abs((entry.measured.snr_db or 0.0) - 5.0), index)
        for index, entry in enumerate(corpus.entries)
        if entry.row.case == "noise"
    ]
    mixture = corpus.read(min(noisy_rows)[1])
    return mixture.clean, mixture.noisy, mixture.sample_rate


def _tell(
    clean: np.ndarray, noisy: np.ndarray, enhanced: np.ndarray, sample_rate: int, version: str, folder: Path
) -> None:
    print(f"A test recording of {len(noisy) / sample_rate:.1f} s, answered by {version}:")
    for name in ("si_sdr", "pesq", "stoi"):
        metric = METRICS[name]
        before, after = (metric.score(clean, heard, sample_rate) for heard in (noisy, enhanced))
        print(f"  {metric.title:8} {before:7.3f} -> {after:7.3f} {metric.unit}")
    print(f"Listen: {folder}/noisy.flac, {folder}/enhanced.flac")


if __name__ == "__main__":
    main()
