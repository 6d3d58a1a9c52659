"""The cache of scores: a value is computed once for the same audio, and again for anything else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation import storage
from simulation.degradations.base import Mixture
from training.baselines import unprocessed
from training.metrics import METRICS
from training.scoring import score_mixture

RATE = 16_000


@pytest.fixture
def cache(tmp_path: Path) -> str:
    """An empty one."""
    return storage.normal(str(tmp_path))


def mixture(seed: int = 0) -> Mixture:
    """Noise in noise."""
    clean, noise = np.random.default_rng(seed).standard_normal((2, RATE)).astype(np.float32)
    return Mixture(0.1 * clean, 0.1 * clean + 0.01 * noise, RATE)


def score(cache: str, metrics: list[str], seed: int = 0) -> dict[str, Any]:
    """The noisy input's scores."""
    return score_mixture(mixture(seed), unprocessed, metrics, cache)


def test_only_what_is_new_is_computed(cache: str) -> None:
    """A metric that is added later is computed beside the kept ones; the values are equal to the last bit."""
    first = score(cache, ["si_sdr"])
    second = score(cache, ["si_sdr", "lsd"])
    third = score(cache, ["si_sdr", "lsd"])
    assert [set(each["took_s"]) for each in (first, second, third)] == [{"si_sdr"}, {"lsd"}, set()]
    assert first["si_sdr"] == third["si_sdr"] and second["lsd"] == third["lsd"]
    plain = score_mixture(mixture(), unprocessed, ["si_sdr", "lsd"])
    assert (plain["si_sdr"], plain["lsd"]) == (third["si_sdr"], third["lsd"])


def test_a_new_version_of_a_metric_is_computed_again(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raising the version by hand is enough."""
    score(cache, ["si_sdr"])
    monkeypatch.setitem(METRICS, "si_sdr", replace(METRICS["si_sdr"], version=99, measure=lambda *_: 42.0))
    assert score(cache, ["si_sdr"])["si_sdr"] == 42.0


def test_other_audio_has_other_values(cache: str) -> None:
    """The digest is of the clean, the noisy and the enhanced together."""
    assert score(cache, ["si_sdr"], seed=0)["si_sdr"] != score(cache, ["si_sdr"], seed=1)["si_sdr"]


def test_a_failure_is_not_kept(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be of the machine: the next scoring tries again, and then keeps the value."""
    monkeypatch.setitem(METRICS, "si_sdr", replace(METRICS["si_sdr"], measure=lambda *_: float("nan")))
    assert score(cache, ["si_sdr"])["failed"] == '{"si_sdr": "gave nan"}'
    monkeypatch.undo()
    assert score(cache, ["si_sdr"])["si_sdr"] == pytest.approx(20, abs=0.5)


def test_other_weights_give_other_values(cache: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A metric that asks a network is kept by the network's own digest too, and its tokens'; the path is no matter."""
    weights = tmp_path / "asr.pt"
    monkeypatch.setenv("UNMUFFLE_ASR", str(weights))
    metric = replace(METRICS["dwer"], measure=lambda *_: float(weights.stat().st_size))
    monkeypatch.setitem(METRICS, "dwer", metric)
    found = []
    for content in (b"one", b"three", b"one"):
        weights.write_bytes(content)
        scored = score(cache, ["dwer"])
        found.append((scored["dwer"], "dwer" in scored["took_s"]))
    weights.with_suffix(".tokens").write_text("-")
    found.append((3.0, "dwer" in score(cache, ["dwer"])["took_s"]))
    assert found == [(3.0, True), (5.0, True), (3.0, False), (3.0, True)]
