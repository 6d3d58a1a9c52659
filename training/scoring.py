"""What a worker does: run one system on a few rows and score what comes out.

It uses one thread, so that no number depends on how many workers there are.
"""

import functools
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from simulation import audio, levels
from simulation.degradations.base import Mixture
from training.baselines import BASELINES, Waveform
from training.blocks import enhance_any_length
from training.checkpoint import load_version
from training.metrics import METRICS, MetricFailed
from training.models import Enhancer
from training.pairs import Readable
from training.score_cache import audio_digest, keep, recall

Enhance = Callable[[Waveform, int], Waveform]
"""A system: a noisy waveform [samples] and its rate (Hz) to an enhanced one of the same length and rate."""


def system_at(address: str) -> Enhance:
    """The baseline of this name, or the version at this address."""
    return BASELINES.get(address) or functools.partial(_enhance, _loaded(address))


def score_rows(
    corpus: Readable,
    address: str,
    metrics: Sequence[str],
    rows: Sequence[int],
    cache: str | None = None,
    seeds: Sequence[int] = (0,),
) -> list[dict[str, Any]]:
    """The scores of one system on some rows, each row with every sampling seed in turn.

    Values that lie in `cache` (an address) are not computed again.
    """
    torch.set_num_threads(1)
    enhance, scores = system_at(address), []
    for row in rows:
        mixture = corpus.read(row)
        scores += [score_mixture(mixture, _sampled(enhance, row, seed), metrics, cache) for seed in seeds]
    return scores


def _sampled(enhance: Enhance, row: int, seed: int) -> Enhance:
    """The system with torch's generator set to a sequence of this row's and seed's own, and put back afterwards."""

    def sampled(noisy: Waveform, sample_rate: int) -> Waveform:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed} {row}".encode()).digest()[:8], signed=True))
            return enhance(noisy, sample_rate)

    return sampled


def score_mixture(
    mixture: Mixture, enhance: Enhance, metrics: Sequence[str], cache: str | None = None
) -> dict[str, Any]:
    """`seconds`, `level_db`, every metric (None: no value), and `failed`: JSON text, the reasons by metric.

    `took_s` has the seconds that each metric took; one whose value lay in the cache is not in it.
    """
    enhanced = enhance(mixture.noisy, mixture.sample_rate)
    digest = audio_digest(mixture.sample_rate, mixture.clean, mixture.noisy, enhanced) if cache else ""
    known = recall(cache, digest) if cache else {}
    computed, failed, took_s = _computed(mixture, enhanced, [name for name in metrics if name not in known])
    if cache and computed:
        keep(cache, digest, computed)
    return {
        "seconds": len(mixture.clean) / mixture.sample_rate,
        "level_db": levels.rms_db(mixture.noisy),
        **{name: known.get(name, computed.get(name)) for name in metrics},
        "failed": json.dumps(failed, sort_keys=True),
        "took_s": took_s,
    }


def _computed(
    mixture: Mixture, enhanced: Waveform, metrics: Sequence[str]
) -> tuple[dict[str, float], dict[str, str], dict[str, float]]:
    """Values, reasons of failures and seconds taken, each by metric."""
    values, failed, took_s = {}, {}, {}
    for name in metrics:
        start = time.perf_counter()
        try:
            values[name] = METRICS[name].score(mixture.clean, enhanced, mixture.sample_rate, mixture.noisy)
        except MetricFailed as failure:
            failed[name] = failure.reason
        took_s[name] = time.perf_counter() - start
    return values, failed, took_s


def enhance_row(corpus: Readable, row: int, addresses: Sequence[str]) -> tuple[Mixture, list[Waveform]]:
    """One row and what each system makes of it (with its first sampling seed), for the listening page."""
    torch.set_num_threads(1)
    mixture = corpus.read(row)
    systems = [_sampled(system_at(address), row, seed=0) for address in addresses]
    return mixture, [system(mixture.noisy, mixture.sample_rate) for system in systems]


@functools.lru_cache(maxsize=4)
def _loaded(address: str) -> Enhancer:
    """A version, kept by the worker that loaded it: what lies at a version's address never changes."""
    return load_version(address)


def _enhance(model: Enhancer, noisy: Waveform, sample_rate: int) -> Waveform:
    """Through the model at its own rate and back, at the same length, as it would be served."""
    there = audio.resample(noisy.astype(np.float32), sample_rate, model.sample_rate)
    enhanced = enhance_any_length(model, there)
    back = audio.resample(enhanced, model.sample_rate, sample_rate)[: len(noisy)]
    return np.pad(back, (0, len(noisy) - len(back)))
