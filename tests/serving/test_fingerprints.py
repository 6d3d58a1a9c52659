"""Fingerprints: what they tell of a recording, what is kept of it, and that whoever asks does not wait for them."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from serving import fingerprints
from serving.fingerprints import EDGES, Counts, Fingerprints, address, asked_since, estimated_rt60_s, fingerprint
from serving.messages import ServiceConfig
from serving.replica import Service
from simulation import audio, storage
from simulation.home import Home

RATE = 16_000
USE = "denoise-16k"


def bursts(rt60_s: float = 0.2, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """[samples, 1]: eight bursts of noise in 6 s that die away by 60 dB in `rt60_s`, above a steady noise."""
    rng = np.random.default_rng(seed)
    at = np.arange(6 * RATE)
    since_s = (at % (6 * RATE // 8)) / RATE
    envelope = np.where(since_s < 0.2, 1.0, 10 ** (-3 * (since_s - 0.2) / rt60_s))
    return (0.1 * envelope * rng.standard_normal(len(at)) + noise * rng.standard_normal(len(at)))[:, None]


@pytest.mark.parametrize("rt60_s", [0.3, 0.6, 0.9])
def test_the_decay_of_a_room_is_told_from_its_sound(rt60_s: float) -> None:
    """Within a fifth, without knowing the room."""
    assert estimated_rt60_s(bursts(rt60_s)[:, 0], RATE) == pytest.approx(rt60_s, rel=0.2)


def test_each_measure_follows_what_it_measures() -> None:
    """Half the amplitude is 6 dB; more noise is less SNR; every second sample has half the band."""
    plain, noisy = fingerprint(bursts(noise=0.001), RATE), fingerprint(bursts(noise=0.02), RATE)
    assert fingerprint(0.5 * bursts(noise=0.001), RATE)["level_db"] == pytest.approx(plain["level_db"] - 6.02, abs=0.01)
    assert plain["snr_db"] > noisy["snr_db"] + 10
    assert fingerprint(bursts()[::2], RATE // 2)["bandwidth_hz"] == pytest.approx(plain["bandwidth_hz"] / 2, rel=0.05)


@pytest.mark.parametrize("samples", [np.zeros((RATE, 1)), np.zeros((0, 1)), np.full((1, 2), 0.5)])
def test_what_cannot_be_measured_is_left_out(samples: np.ndarray) -> None:
    """Silence, nothing, a single sample: counted as recordings without measures that are no number."""
    assert np.isfinite(list(fingerprint(samples, RATE).values())).all()


def test_counts_are_kept_and_nothing_else(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two replicas, on a day: how many recordings fell into each range. No sample, no name, no time of the day."""
    monkeypatch.setattr(fingerprints, "WRITTEN_EVERY", 2)
    for _ in range(2):
        replica = Fingerprints()
        for _ in range(2):
            replica._busy.acquire()
            replica._count(USE, bursts(), RATE)
    kept = [json.loads(storage.read(one.address)) for one in storage.listing(storage.join(home.store, "fingerprints"))]
    assert [set(one) for one in kept] == [{"recordings", "counts"}] * 2
    assert all(set(one["counts"]) == set(EDGES) for one in kept)
    assert all(isinstance(number, int) for one in kept for row in one["counts"].values() for number in row)
    found = asked_since(home.store, USE, "2000-01-01")
    assert found.recordings == 4 and all(sum(row) == 4 for row in found.counts.values())
    assert asked_since(home.store, USE, "2999-01-01").recordings == 0
    assert asked_since(home.store, "fullband-48k", "2000-01-01").recordings == 0


def test_whoever_asks_does_not_wait_for_a_measurement(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one recording is measured, the next ones are left out; afterwards they count again."""
    begun, may_end = threading.Event(), threading.Event()

    def slow(samples: np.ndarray, sample_rate: int) -> dict[str, float]:
        begun.set()
        may_end.wait(20)
        return {}

    monkeypatch.setattr(fingerprints, "fingerprint", slow)
    monkeypatch.setattr(fingerprints, "EVERY_S", 0.0)
    replica = Fingerprints()
    replica.note(USE, bursts(), RATE)
    assert begun.wait(20)
    for _ in range(3):
        replica.note(USE, bursts(), RATE)
    may_end.set()
    replica._thread.shutdown()
    (counts,) = replica._counted.values()
    assert counts.recordings == 1
    assert replica._busy.acquire(timeout=20)


def test_a_busy_service_measures_once_a_second(home: Home) -> None:
    """A hundred requests at once cost as much as one: answers must not get slower."""
    replica = Fingerprints()
    for _ in range(100):
        replica.note(USE, bursts()[:RATE], RATE)
        with replica._busy:  # whatever was begun is done
            pass
    replica._thread.shutdown()
    (counts,) = replica._counted.values()
    assert 1 <= counts.recordings < 100


def test_a_store_that_is_away_fails_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counts wait for a better day; the next recording is counted."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNMUFFLE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(fingerprints, "WRITTEN_EVERY", 1)
    replica = Fingerprints()
    for _ in range(2):
        replica._busy.acquire()
        replica._count(USE, bursts(), RATE)
    (counts,) = replica._counted.values()
    assert counts.recordings == 2


def test_a_value_beyond_all_edges_has_a_range() -> None:
    """The first and the last one are open."""
    counts = Counts().added({"level_db": -200.0}).added({"level_db": 50.0})
    assert (counts.counts["level_db"][0], counts.counts["level_db"][-1], counts.recordings) == (1, 1, 2)
    assert address("file:///s", USE, "2026-01-02", "r") == "file:///s/fingerprints/denoise-16k/2026-01-02/r.json"


def test_the_service_counts_what_it_answers(
    home: Home, versions: Any, config_of: Callable[..., ServiceConfig], run_here: Callable
) -> None:
    """A recording that was sent is counted for the use of the version that answered."""
    service, config = Service(), config_of(versions[0])
    with run_here(service, config) as address:
        sent = audio.encode_flac(bursts()[: 2 * RATE, 0].astype(np.float32), RATE)
        assert httpx.post(f"{address}/v1/enhance", content=sent, timeout=60).status_code == 200
    service.fingerprints._thread.shutdown()
    ((of_today, counts),) = service.fingerprints._counted.items()
    assert (of_today[0], counts.recordings) == (config.version.use, 1)
