import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from simulation import audio, errors, storage
from simulation import build as build_module
from simulation.build import Built
from simulation.cluster import cluster
from simulation.corpus import Corpus, open_splits, replay, verify
from simulation.degradations import AddNoise
from simulation.errors import (
    BadSetting,
    ManifestMismatch,
    NotReproducible,
    NotThere,
    TooManyQuarantined,
    UnmuffleError,
)
from simulation.home import Home
from simulation.manifest import CorpusRecord
from simulation.place import NotConditional
from simulation.scenario import Case, Scenario, Size

BuildTiny = Callable[..., Built]
Tiny = Callable[..., Scenario]


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cluster of two CPUs for this file."""
    home = tmp_path_factory.mktemp("ray") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMUFFLE_HOME", str(home))
        with cluster(Home.current(), cpus=2):
            yield


@pytest.fixture
def scenario(tiny_scenario: Tiny) -> Scenario:
    """Ten shards: eight of train, one of each other split."""
    return tiny_scenario(size=Size(train_hours=18.0 / 3600, valid_rows=4, test_rows=4))


# ---- on Ray ----------------------------------------------------------------------------------------------------------


def test_workers_order_and_deaths_leave_no_trace(
    tmp_path: Path,
    ray_cluster: None,
    build_tiny: BuildTiny,
    material: Any,
    scenario: Scenario,
    without_ray: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process in order; on one worker; on four in shuffled order, of which four are killed: one digest."""
    alone = build_tiny(str(tmp_path / "alone"), scenario)
    monkeypatch.undo()
    one = build_tiny(str(tmp_path / "one"), scenario, workers=1)
    store = str(tmp_path / "four")
    driver = Driver(
        tmp_path / "home", scenario, store, material, workers=4, first=f"FOLDER = {str(tmp_path)!r}{REPORTING}"
    )
    killed = _kill_those_that_report(tmp_path, 4)
    word, digest, reused = driver.digest().split()
    assert len(killed) == 4 and (word, reused) == ("digest", "0")
    assert alone.digest == one.digest == digest
    assert one.rendered == 10
    assert verify(storage.join(storage.normal(store), "corpora", one.address.rpartition("/")[2])) == []


REPORTING = """
import os, pathlib, random, time
from simulation import build as module

class Reporting(module._Renderer):
    def __call__(self, batch):
        pathlib.Path(FOLDER, f"{os.getpid()}.worker").touch()
        while not pathlib.Path(FOLDER, "go").exists():
            time.sleep(0.01)
        return super().__call__(batch)

missing = module._missing
module._missing = lambda *arguments: random.Random(1).sample(found := missing(*arguments), len(found))
module._Renderer = Reporting
"""
"""For a driver: workers say who they are when they have a shard to render, and render once they are told to go; the
missing shards are handed out in another order."""


def _kill_those_that_report(folder: Path, count: int) -> set[int]:
    """SIGKILL for the first so many workers that have a shard in hand; then the others may go. Their process ids."""
    killed: set[int] = set()
    deadline = time.monotonic() + 120
    while len(killed) < count and time.monotonic() < deadline:
        for pid in {int(report.stem) for report in folder.glob("*.worker")} - killed:
            if len(killed) < count:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.01)
    (folder / "go").touch()
    return killed


def test_a_single_missing_shard_waits_for_no_worker(
    tmp_path: Path, build_tiny: BuildTiny, scenario: Scenario, without_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rendered in this process, by the same code, and the digest is the same."""
    first = build_tiny(str(tmp_path), scenario)
    monkeypatch.undo()
    monkeypatch.setattr(build_module, "_answers", lambda *arguments: pytest.fail("a pool of workers was started"))
    train = Path(first.address.removeprefix("file://"), "train")
    for lost in (*train.glob("shard-000003*"), *train.glob("corpus*.json")):
        lost.unlink()
    again = build_tiny(str(tmp_path), scenario)
    assert (again.rendered, again.digest) == (1, first.digest)


def test_an_error_of_a_worker_arrives_as_it_was_raised(
    tmp_path: Path, ray_cluster: None, build_tiny: BuildTiny, without_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another commit in the place of a shard: the driver raises NotReproducible itself, and publishes nothing."""
    built = build_tiny(str(tmp_path))
    monkeypatch.undo()
    folder = Path(built.splits["train"].address.removeprefix("file://"))
    (folder / "shard-000000.json").write_bytes((folder / "shard-000001.json").read_bytes())
    next(folder.glob("shard-000001-*.tar")).unlink()
    (folder / "corpus.json").unlink()
    (folder.parent / "valid" / "shard-000000.json").unlink()  # two are missing, so a pool renders them
    with pytest.raises(NotReproducible, match=r"shard-000000\.json|shard-000001\.json"):
        build_tiny(str(tmp_path), workers=1)
    assert not (folder / "corpus.json").exists()


OURS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UnmuffleError)]


@pytest.mark.parametrize("kind", [*OURS, NotConditional])
def test_every_error_of_a_worker_has_a_form_here(kind: type[UnmuffleError]) -> None:
    """Also those that are defined elsewhere or are made from more than a message: never a traceback of ours."""
    raised = build_module._as_raised(kind.__name__, "what was found, what to type")
    assert str(raised) == "what was found, what to type"
    assert type(raised) in (kind, UnmuffleError)


# ---- growing and resuming --------------------------------------------------------------------------------------------


def _untouched(root: str) -> dict[str, int]:
    """When each shard's objects were last written."""
    objects = Path(root.removeprefix("file://")).rglob("shard-*")
    return {f"{path.parent.name}/{path.name}": path.stat().st_mtime_ns for path in objects}


@pytest.mark.usefixtures("without_ray")
def test_twice_the_hours_reuses_the_first_half(tmp_path: Path, build_tiny: BuildTiny) -> None:
    """Growing adds shards and touches none; the smaller corpus is a prefix; building it again renders nothing."""
    small = build_tiny(str(tmp_path), hours=6.0 / 3600)
    before = _untouched(small.address)
    large = build_tiny(str(tmp_path), hours=12.0 / 3600)
    after = _untouched(large.address)
    assert large.reused == small.rendered and large.rendered > 0
    assert {name: after[name] for name in before} == before
    assert large.splits["train"].hours == pytest.approx(12.0 / 3600, rel=0.3)
    assert (
        Corpus.open(large.splits["train"].address, small.splits["train"].digest).digest == small.splits["train"].digest
    )
    again = build_tiny(str(tmp_path), hours=6.0 / 3600)
    assert (again.digest, again.rendered) == (small.digest, 0)
    assert len(Corpus.open(small.splits["train"].address)) == large.splits["train"].rows


@pytest.mark.usefixtures("without_ray")
def test_building_twice_renders_once(tmp_path: Path, build_tiny: BuildTiny) -> None:
    """The second run answers from what is there, with the same facts, and reports it as progress."""
    seen: list[tuple[int, int]] = []
    first = build_tiny(str(tmp_path))
    second = build_tiny(str(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert (second.digest, second.splits, second.rendered, second.reused) == (first.digest, first.splits, 0, 4)
    assert seen == [(4, 4)]


@pytest.mark.usefixtures("without_ray")
def test_progress_counts_every_shard(tmp_path: Path, build_tiny: BuildTiny) -> None:
    """From what was found to all, one at a time."""
    seen: list[tuple[int, int]] = []
    build_tiny(str(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 4) for done in range(5)]


@pytest.mark.usefixtures("without_ray")
def test_an_interrupted_build_is_invisible_and_goes_on(
    tmp_path: Path, build_tiny: BuildTiny, scenario: Scenario
) -> None:
    """Stopped after four of ten shards there is no corpus; the next run renders the other six, to the same digest."""

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_tiny(str(tmp_path / "a"), scenario, progress=stop)
    assert not list((tmp_path / "a").rglob("corpus*.json"))
    resumed = build_tiny(str(tmp_path / "a"), scenario)
    assert (resumed.reused, resumed.rendered) == (4, 6)
    assert resumed.digest == build_tiny(str(tmp_path / "b"), scenario).digest


@pytest.mark.usefixtures("without_ray")
def test_a_shard_beside_which_another_tar_lies_is_rendered_again(tmp_path: Path, build_tiny: BuildTiny) -> None:
    """One listing takes it for finished; the commit object, read meanwhile, names a tar that is gone."""
    built = build_tiny(str(tmp_path))
    tar = next(Path(built.splits["train"].address.removeprefix("file://")).glob("shard-000001-*.tar"))
    tar.rename(tar.with_name(f"shard-000001-{'0' * 64}.tar"))
    assert verify(built.address) == [f"file://{tar} is missing."]
    again = build_tiny(str(tmp_path))
    assert (again.digest, again.rendered, again.reused) == (built.digest, 1, 3)
    assert verify(built.address) == []


@pytest.mark.usefixtures("without_ray")
def test_rendering_begins_before_what_is_there_was_read(
    tmp_path: Path, build_tiny: BuildTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many shards were committed: while one is rendered, none of the others has been answered yet."""
    built = build_tiny(str(tmp_path))
    for name in ("corpus.json", "shard-000001.json"):
        Path(built.splits["train"].address.removeprefix("file://"), name).unlink()
    begun, read = threading.Event(), storage.read

    def late(address: str) -> bytes:
        assert "shard-" not in address or begun.wait(30)
        return read(address)

    def beginning(*arguments: Any) -> Any:
        begun.set()
        return rendered(*arguments)

    rendered = build_module._rendered
    monkeypatch.setattr(storage, "read", late)
    monkeypatch.setattr(build_module, "_rendered", beginning)
    again = build_tiny(str(tmp_path))
    assert (again.digest, again.rendered) == (built.digest, 1)


# ---- stores and writers ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_ray")
def test_a_bucket_holds_the_same_corpus_as_a_folder(tmp_path: Path, s3_store: str, build_tiny: BuildTiny) -> None:
    """Equal digests; opened, verified and replayed from S3 as from files."""
    folder, bucket = build_tiny(str(tmp_path)), build_tiny(s3_store)
    assert bucket.address.startswith(s3_store)
    assert folder.digest == bucket.digest
    assert verify(bucket.address) == []
    corpus = open_splits(bucket.address, folder.digest)["test"]
    assert np.array_equal(replay(bucket.address, "test-00000002").noisy, corpus.read(2).noisy)


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_racing_writers_end_with_one_corpus(
    tmp_path: Path, request: pytest.FixtureRequest, build_tiny: BuildTiny, scenario: Scenario, kind: str
) -> None:
    """Four writers of the same plan at once, two of them of a smaller size: all succeed, and the larger size stands."""
    store = str(tmp_path / "store") if kind == "folder" else request.getfixturevalue("s3_store")
    start = threading.Barrier(4)

    def write(hours: float) -> Built:
        start.wait()
        return build_tiny(store, scenario, hours=hours)

    with ThreadPoolExecutor(4) as writers:
        built = list(writers.map(write, [18.0 / 3600, 6.0 / 3600] * 2))
    large, small = built[0], built[1]
    assert (large.digest, small.digest) == (built[2].digest, built[3].digest)
    assert Corpus.open(large.splits["train"].address).digest == large.splits["train"].digest
    assert open_splits(small.address, small.digest)["train"].digest == small.splits["train"].digest
    assert verify(large.address) == []
    assert large.digest == build_tiny(str(tmp_path / "alone"), scenario).digest


@pytest.mark.usefixtures("without_ray")
def test_what_cannot_be_built_leaves_nothing(tmp_path: Path, build_tiny: BuildTiny) -> None:
    """Sources that are not there, or that leave a split empty, are refused before anything is written."""
    store = tmp_path / "store"
    with pytest.raises(NotThere):
        build_tiny(str(store), speech=str(tmp_path / "nobody"))
    for name in ("a", "b", "c"):
        path = tmp_path / "few" / "train" / name / "0.flac"
        path.parent.mkdir(parents=True)
        path.write_bytes(audio.encode_flac(np.sin(np.arange(4000)).astype(np.float32) * 0.1, 8000))
    with pytest.raises(BadSetting):
        build_tiny(str(store), noise=str(tmp_path / "few"))
    assert not store.exists()


@pytest.mark.usefixtures("without_ray")
def test_sources_that_changed_since_they_were_promised_are_refused(tmp_path: Path, build_tiny: BuildTiny) -> None:
    """Else a stage would keep, under the key of some recordings, what was made from others; nothing is written."""
    with pytest.raises(ManifestMismatch, match="was promised"):
        build_tiny(str(tmp_path / "store"), sources_digest="0" * 64)
    assert not (tmp_path / "store").exists()
    built = build_tiny(str(tmp_path / "store"))
    record = CorpusRecord.parse(storage.read(f"{built.splits['valid'].address}/corpus.json"), "x")
    assert build_tiny(str(tmp_path / "store"), sources_digest=record.sources_digest).digest == built.digest


@pytest.mark.usefixtures("without_ray")
def test_the_record_says_what_made_it(tmp_path: Path, build_tiny: BuildTiny) -> None:
    """corpus.json holds the full scenario with absolute addresses, seed, digests and library versions."""
    built = build_tiny(str(tmp_path), seed=11, hours=4.0 / 3600)
    record = CorpusRecord.parse(storage.read(f"{built.splits['valid'].address}/corpus.json"), "x")
    assert (record.seed, record.scenario.seed, record.split) == (11, 11, "valid")
    assert record.scenario.size.train_hours == pytest.approx(4.0 / 3600)
    assert record.scenario.speech.startswith("file:///")
    assert built.address.endswith(f"/corpora/tiny@{record.plan_digest[:8]}")
    assert {"numpy", "scipy", "pyroomacoustics", "audiomentations", "libsndfile"} < set(record.libraries)


# ---- rows that fail --------------------------------------------------------------------------------------------------


@pytest.fixture
def half_silent_noise(tmp_path: Path, material: Any) -> str:
    """Noise whose training recording is silent in its first half: rows that need just that part cannot be rendered."""
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        path = tmp_path / "noise" / split / f"{split}-hum" / "0.flac"
        path.parent.mkdir(parents=True)
        samples = 0.1 * rng.standard_normal(16000).astype(np.float32)
        samples[: 8000 if split == "train" else 0] = 0.0
        path.write_bytes(audio.encode_flac(samples, 8000))
    return str(tmp_path / "noise")


@pytest.mark.usefixtures("without_ray")
def test_rows_that_fail_are_quarantined_with_their_reason(
    tmp_path: Path, build_tiny: BuildTiny, tiny_scenario: Tiny, half_silent_noise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, named, left out of the rows, and part of a digest that repeats; too many of them publish nothing."""
    still = (Case(name="still", degradations=(AddNoise(offset=0.0),)), Case(name="hum", degradations=(AddNoise(),)))
    scenario = tiny_scenario(cases=still, rooms=None)
    with pytest.raises(TooManyQuarantined, match="could not be rendered"):
        build_tiny(str(tmp_path / "refused"), scenario, noise=half_silent_noise)
    assert not list((tmp_path / "refused").rglob("corpus*.json"))
    monkeypatch.setattr(build_module, "MOST_QUARANTINED", 0.9)
    built = build_tiny(str(tmp_path / "a"), scenario, noise=half_silent_noise)
    corpus = Corpus.open(built.splits["train"].address)
    quarantined = [one for shard in corpus.shards for one in shard.quarantined]
    assert built.quarantined == len(quarantined) >= 4
    assert len(corpus) == built.splits["train"].rows == 4 * len(corpus.shards) - len(quarantined)
    assert {one.id for one in quarantined}.isdisjoint(entry.row.id for entry in corpus.entries)
    assert all("noise/" in one.reason and str(tmp_path) not in one.reason for one in quarantined)
    assert verify(built.address) == []
    assert build_tiny(str(tmp_path / "b"), scenario, noise=half_silent_noise).digest == built.digest


@pytest.mark.usefixtures("without_ray")
def test_a_small_split_that_fails_is_not_hidden_by_a_large_one(
    tmp_path: Path, build_tiny: BuildTiny, tiny_scenario: Tiny, half_silent_noise: str
) -> None:
    """Most rows of train fail, none of the other splits, which are larger: a few per cent of all, but not of train."""
    case = Case(name="still", degradations=(AddNoise(offset=0.0),))
    size = Size(train_hours=0.1 / 3600, valid_rows=100, test_rows=100)
    with pytest.raises(TooManyQuarantined, match=r"4 of 4 rows of .*/train"):
        build_tiny(str(tmp_path / "a"), tiny_scenario(cases=(case,), rooms=None, size=size), noise=half_silent_noise)


# ---- long ------------------------------------------------------------------------------------------------------------

DRIVER = """
import json, sys
from simulation.build import build
from simulation.cluster import cluster
from simulation.scenario import Scenario
scenario, store, speech, noise, rirs, workers = sys.argv[1:]
with cluster(cpus=2):
    built = build(
        Scenario.parse(scenario, "test"), store, speech=speech, noise=noise, rirs=rirs, workers=int(workers),
        progress=lambda done, total: print(done, flush=True),
    )
print("digest", built.digest, built.reused, flush=True)
"""


class Driver:
    """A process of its own that builds on a cluster of its own."""

    def __init__(
        self, home: Path, scenario: Scenario, store: str, material: Any, workers: int, first: str = ""
    ) -> None:
        outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                first + DRIVER,
                scenario.model_dump_json(),
                store,
                *vars(material).values(),
                str(workers),
            ],
            env=outside | {"UNMUFFLE_HOME": str(home)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        return (line.strip() for line in self.process.stdout)

    def digest(self) -> str:
        """What it printed at its end."""
        last = list(self.lines())[-1]
        assert self.process.wait(60) == 0
        return last

    def kill(self) -> None:
        """SIGKILL of the driver; its cluster shares its fate."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        for member in psutil.wait_procs(family, timeout=30)[1]:
            member.kill()


@pytest.mark.long
def test_a_killed_driver_is_followed_by_one_that_goes_on(
    tmp_path: Path, material: Any, scenario: Scenario, build_tiny: BuildTiny, without_ray: None
) -> None:
    """SIGKILL half-way, start again: what was committed is kept, and the digest is that of an undisturbed build."""
    store = str(tmp_path / "store")
    first = Driver(tmp_path / "home1", scenario, store, material, workers=1)
    for line in first.lines():
        if line == "3":
            first.kill()
            break
    assert not list((tmp_path / "store").rglob("corpus*.json"))
    word, digest, reused = Driver(tmp_path / "home2", scenario, store, material, workers=4).digest().split()
    assert word == "digest" and int(reused) >= 3
    assert digest == build_tiny(str(tmp_path / "alone"), scenario).digest


@pytest.mark.long
@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_two_clusters_race_for_one_corpus(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    material: Any,
    scenario: Scenario,
    build_tiny: BuildTiny,
    without_ray: None,
    kind: str,
) -> None:
    """Two drivers with clusters of their own write the same plan at once: both answer with the right digest."""
    store = str(tmp_path / "store") if kind == "folder" else request.getfixturevalue("s3_store")
    drivers = [Driver(tmp_path / f"home{number}", scenario, store, material, workers=2) for number in range(2)]
    answers = [driver.digest().split()[:2] for driver in drivers]
    expected = build_tiny(str(tmp_path / "alone"), scenario)
    assert answers == [["digest", expected.digest]] * 2
    assert verify(f"{storage.normal(store)}/corpora/{expected.address.rpartition('/')[2]}") == []


@pytest.mark.long
def test_the_sample_corpus_is_built_in_a_minute(tmp_path: Path, ray_cluster: None) -> None:
    """Its default size on two cores; and again in a few seconds."""
    from simulation.scenarios import scenario as named

    started = time.monotonic()
    built = build_module.build(named("sample"), str(tmp_path), workers=2)
    assert time.monotonic() - started < 90
    started = time.monotonic()
    assert build_module.build(named("sample"), str(tmp_path), workers=2).digest == built.digest
    assert time.monotonic() - started < 5
    assert built.quarantined == 0 and built.splits["test"].rows == 256
