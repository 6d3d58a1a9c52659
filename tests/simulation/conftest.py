"""Synthetic recordings and a small plan, so that tests of the simulation need neither real speech nor minutes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation import audio
from simulation.build import Built, build, render_shard
from simulation.chance import generator
from simulation.degradations import AddNoise, BandLimit, Reverberate
from simulation.draw import Plan
from simulation.render import Library
from simulation.rooms import RoomBank
from simulation.scenario import Case, Scenario, Size
from simulation.schema import Range
from simulation.shards import commit
from simulation.sources import SPLITS, Recording, SourceManifest

RATE = 8000
"""Low, so that tests are quick; no promise depends on it."""


def waveform(name: str, seconds: float, sample_rate: int = RATE) -> np.ndarray:
    """Bursts of lowpass-coloured noise with pauses, a little like speech; a pure function of the name."""
    rng = generator("waveform", name)
    samples = int(seconds * sample_rate)
    white = rng.random(samples) - 0.5
    coloured = np.convolve(white, np.ones(5) / 5, mode="same")
    bursts = (np.sin(2 * np.pi * (3 + rng.random()) * np.arange(samples) / sample_rate) > -0.3).astype(float)
    return (0.25 * coloured * bursts / np.abs(coloured).max()).astype(np.float32)


def response(name: str, sample_rate: int = RATE) -> np.ndarray:
    """A measured-looking RIR: travel time, a direct pulse, an exponential tail of 0.2 s."""
    rng = generator("response", name)
    samples = int(0.3 * sample_rate)
    tail = 0.2 * (rng.random(samples) - 0.5) * np.exp(-6.9 * np.arange(samples) / (0.2 * sample_rate))
    tail[:20] = 0.0
    tail[20] = 0.9
    return tail.astype(np.float32)


@dataclass(frozen=True)
class Material:
    """A folder of synthetic sources, as `scan` takes them."""

    speech: str
    noise: str
    rirs: str


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Three groups of each kind in every split, as FLAC files in folders."""
    root = tmp_path_factory.mktemp("material")
    for split in SPLITS:
        for group in range(3):
            for take in range(2):
                _write(root / "speech" / split / f"{split}-s{group}" / f"{take}.flac", waveform, 0.5 + 0.2 * take)
            _write(root / "noise" / split / f"{split}-n{group}" / "0.flac", waveform, 0.35 + 0.3 * group)
            _write(root / "rirs" / split / f"{split}-r{group}" / "0.flac", lambda name, _: response(name), 0.0)
    return Material(str(root / "speech"), str(root / "noise"), str(root / "rirs"))


def _write(path: Path, make: Callable[[str, float], np.ndarray], seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(audio.encode_flac(make("/".join(path.parts[-3:]), seconds), RATE))


def tiny_scenario(**changes: object) -> Scenario:
    """Four cases, four rows a shard: 2 shards of train, 1 of valid, 1 of test over `material`."""
    noise = AddNoise(snr_db=Range(low=-5.0, high=15.0))
    reverb = Reverberate()
    band_limit = BandLimit(cutoff_hz=Range(low=1000.0, high=2000.0))
    fields = {
        "name": "tiny",
        "sample_rate": RATE,
        "rooms": RoomBank(rooms=3, positions=2, rt60_s=Range(low=0.15, high=0.2)),
        "cases": (
            Case(name="noise", degradations=(noise,)),
            Case(name="reverb", degradations=(reverb,)),
            Case(name="band_limit", degradations=(band_limit,)),
            Case(name="all", degradations=(reverb, band_limit, noise)),
        ),
        "rows_per_shard": 4,
        "size": Size(train_hours=4.0 / 3600, valid_rows=4, test_rows=4),
        "seed": 7,
    }
    return Scenario.model_validate(fields | changes)


def manifest_in_memory(sample_rate: int = RATE) -> SourceManifest:
    """Recordings without files: enough to draw from, and for `SyntheticLibrary` to render."""
    recordings = [
        Recording(
            id=f"{kind}/{split}{group}-{take}",
            kind=kind,
            address=f"file:///nowhere/{kind}/{split}{group}-{take}.flac",
            group=f"{split}{group}",
            split=SPLITS[split],
            samples=sample_rate // 2,
            sample_rate=sample_rate,
            sha256=f"{len(kind)}{group}{take}".rjust(64, "0"),
        )
        for kind in ("speech", "noise", "rir")
        for split in SPLITS
        for group in range(3)
        for take in range(2)
    ]
    return SourceManifest(recordings=tuple(recordings))


class SyntheticLibrary(Library):
    """Renders from computed waveforms in place of files; rooms are simulated as ever."""

    def _load(self, recording_id: str) -> np.ndarray:
        return response(recording_id) if recording_id.startswith("rir/") else waveform(recording_id, 0.5)


def synthetic(scenario: Scenario) -> tuple[Plan, SyntheticLibrary]:
    """A plan over recordings in memory, and the library that renders its rows."""
    plan = Plan(scenario, manifest_in_memory(scenario.sample_rate), scenario.seed)
    return plan, SyntheticLibrary(plan.sources, scenario, plan.seed)


# ---- fixtures ------------------------------------------------------------------------------------------------------


@pytest.fixture(name="waveform", scope="session")
def waveform_fixture() -> Callable[..., np.ndarray]:
    """`waveform(name, seconds, sample_rate)`: something like speech."""
    return waveform


@pytest.fixture(name="tiny_scenario", scope="session")
def tiny_scenario_fixture() -> Callable[..., Scenario]:
    """`tiny_scenario(**changes)`: four cases, a few rows."""
    return tiny_scenario


@pytest.fixture(name="synthetic", scope="session")
def synthetic_fixture() -> Callable[[Scenario], tuple[Plan, Library]]:
    """`synthetic(scenario)`: a plan over recordings that are computed, and the library that renders its rows."""
    return synthetic


@pytest.fixture(name="manifest_in_memory", scope="session")
def manifest_fixture() -> Callable[..., SourceManifest]:
    """`manifest_in_memory(sample_rate)`: three groups of two recordings of each kind in each split."""
    return manifest_in_memory


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """`build` renders in this process: what does not concern Ray need not wait for it."""

    def rendered(plan: Plan, root: str, missing: list, workers: int) -> Iterator[tuple]:
        library = Library(plan.sources, plan.scenario, plan.seed)
        for split, number in missing:
            tar, record = render_shard(plan, split, number, library)
            yield split, number, commit(f"{root}/{split}", tar, record)

    monkeypatch.setattr("simulation.build._rendered", rendered)


@pytest.fixture
def build_tiny(material: Material) -> Callable[..., Built]:
    """`build_tiny(store, scenario, ...)`: the tiny corpus over files."""

    def built(store: str, scenario: Scenario | None = None, **options: Any) -> Built:
        return build(scenario or tiny_scenario(), store, **vars(material) | options)

    return built


@pytest.fixture
def faulty_proxy(s3_endpoint: str, s3_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], str]]:
    """`faulty_proxy(share)`: from now on the environment names a proxy that spoils this share of the bucket's answers.

    Gives the proxy's address. Requests are tried as often as for users.
    """
    proxies = []

    def start(share: float) -> str:
        words = [sys.executable, str(Path(__file__).parent / "faulty_proxy.py"), s3_endpoint, str(share), "1"]
        proxies.append(proxy := subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        assert proxy.stdout is not None
        address = proxy.stdout.readline().strip()
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.delenv("AWS_MAX_ATTEMPTS")
        return address

    yield start
    for proxy in proxies:
        proxy.kill()
        proxy.communicate()
