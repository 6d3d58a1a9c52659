"""Networks that some metrics ask: loaded from a local file, run on one thread, never downloaded."""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.metrics.base import MetricFailed

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A batch of one in, the network's first output out."""


def network_at(variable: str, takes: str) -> Network:
    """The network whose path stands in an environment variable: `*.onnx`, or else TorchScript.

    `takes` says in words what the file has to be. Raises `MetricFailed` with what to set where there is none.
    """
    path = os.environ.get(variable)
    if not path:
        raise MetricFailed(f"needs weights: set {variable} to the path of {takes}")
    if not Path(path).is_file():
        raise MetricFailed(f"needs weights: {variable} names {path}, which is no file; expected {takes}")
    return load(path)


def weights_sha256(variable: str | None) -> str | None:
    """sha256 of the file that an environment variable names, and of `<same name>.tokens` where that lies beside it.

    None where nothing is asked for, or no file is there. Values of other weights are other values.
    """
    named = os.environ.get(variable) if variable else None
    files = [each for each in (Path(named), Path(named).with_suffix(".tokens")) if each.is_file()] if named else []
    if not files:
        return None
    stamps = tuple((str(each), each.stat().st_mtime_ns, each.stat().st_size) for each in files)
    return _sha256(stamps)


@functools.lru_cache(maxsize=8)
def _sha256(stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Of the files, in order; times and sizes say whether they are still the same."""
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path, _, _ in stamps]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


@functools.lru_cache(maxsize=8)
def load(path: str) -> Network:
    """The network in a file; `MetricFailed` where it cannot be read."""
    try:
        return _onnx(path) if path.endswith(".onnx") else _torchscript(path)
    except Exception as error:  # both libraries raise bare RuntimeErrors and classes of their own
        reason = str(error).strip().split("\n")[0]
        raise MetricFailed(f"the weights at {path} cannot be loaded: {reason}") from None


def _onnx(path: str) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: np.asarray(session.run(None, {name: batch})[0], dtype=np.float32)


def _torchscript(path: str) -> Network:
    import torch

    module = torch.jit.load(path, map_location="cpu").eval()

    def ask(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(batch)).float().numpy())

    return ask
