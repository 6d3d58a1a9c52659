"""Values of metrics computed before, by what they depend on: the audio, the metric, its version and weights.

Below the cache's address each scoring has a folder named by the digest of its audio, and in it one object for each
time that something new was computed. Objects are never changed, so any number of workers may share a cache. Failures
are not kept: some of them are of the machine (absent weights), and the others are quickly found again.
"""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from simulation import storage
from simulation.schema import canonical_json
from training.metrics import METRICS
from training.metrics.weights import weights_sha256

FOLDER = "scores"
"""Below a store."""


def audio_digest(sample_rate: int, *waveforms: np.ndarray) -> str:
    """sha256 of waveforms [samples] in order, with their types and lengths, at `sample_rate` (Hz)."""
    digest = hashlib.sha256(str(sample_rate).encode())
    for waveform in waveforms:
        digest.update(f"{waveform.dtype.str} {waveform.shape}".encode())
        digest.update(np.ascontiguousarray(waveform).tobytes())
    return digest.hexdigest()


def recall(cache: str, audio: str) -> dict[str, float]:
    """The values known of this audio, by metric; only those of the metrics' versions of today."""
    found: dict[str, float] = {}
    for address in (stored.address for stored in storage.listing(_folder(cache, audio))):
        found |= json.loads(storage.read(address))
    return {name: found[key] for name in METRICS if (key := _key(name)) in found}


def keep(cache: str, audio: str, values: Mapping[str, float]) -> None:
    """Add values, by metric; nothing happens where the same ones are there already."""
    content = canonical_json({_key(name): value for name, value in values.items()})
    names = canonical_json(sorted(_key(name) for name in values))
    address = storage.join(_folder(cache, audio), f"{hashlib.sha256(names).hexdigest()[:16]}.json")
    storage.create(address, content)


def _folder(cache: str, audio: str) -> str:
    return storage.join(cache, audio[:2], audio)


def _key(metric: str) -> str:
    """Metric, version, and the weights it asks where they are a file of the user's own."""
    weights = weights_sha256(METRICS[metric].needs_weights)
    return f"{metric}@{METRICS[metric].version}" + (f"@{weights}" if weights else "")
