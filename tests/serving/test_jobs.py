import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import psutil
import pytest
import soundfile
import torch
from torch import Tensor, nn

from serving import jobs
from serving.client import Client, ServiceRefused
from serving.engine import Engine
from serving.jobs import Ask, Job, Jobs
from serving.long_files import enhance_file
from serving.messages import Limits, ServedVersion, ServiceConfig
from serving.options import Options
from serving.replica import Service
from simulation import storage
from simulation.audio import Waveform
from simulation.errors import BadAudio
from simulation.home import Home
from training.models import Enhancer, ModelConfig
from training.registry import Version

Versions = tuple[Version, Version]


class PassThrough(Enhancer):
    """Gives back its input."""

    def __init__(self) -> None:
        super().__init__(ModelConfig(kind="pass_through"))
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, noisy: Tensor) -> Tensor:
        return noisy * self.weight


def noise(samples: int, channels: int = 1) -> Waveform:
    """Noise at -20 dB, in 16-bit steps."""
    return (np.random.default_rng(0).normal(0, 0.1, (samples, channels)).clip(-0.9, 0.9) * 2**15).round().astype(
        np.float32
    ) / 2**15


def file_of(samples: Waveform, sample_rate: int) -> bytes:
    """A 16-bit WAV."""
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture
def at(
    home: Home, versions: Versions, run_here: Callable, config_of: Callable[[Version], ServiceConfig]
) -> Iterator[str]:
    """The address of a service of this test alone, with a store of its own; 100 kB are much for a body."""
    config = config_of(versions[0])
    limits = config.limits.model_copy(update={"max_body_mb": 0.1})
    with run_here(Service(), config.model_copy(update={"limits": limits})) as address:
        yield address


def digest(data: bytes) -> str:
    """Compared instead of bytes, of which a test that fails would print the difference for minutes."""
    return hashlib.sha256(data).hexdigest()


def test_a_long_file_of_the_store_is_enhanced_beside_it(
    at: str, home: Home, versions: Versions, tmp_path: Path
) -> None:
    """What the engine makes of the whole, as FLAC; asked again the job is found, done; fetched in ranges."""
    noisy = noise(44_100 * 13, 2)
    storage.create(storage.join(home.store, "inbox/long.wav"), file_of(noisy, 44_100))
    with Client(at) as client:
        job = client.job("inbox/long.wav")
        assert client.job(storage.join(home.store, "inbox/long.wav")) == job
        result, target = storage.read(job["result"]), tmp_path / "long.flac"
        part = tmp_path / f"long.flac.{job['id']}.part"
        target.write_bytes(b"of another job")
        for left in (result[:5000], bytes(len(result) + 1)):  # a download that was cut off, and what cannot be one
            part.write_bytes(left)
            client.fetch(job, target)
            assert digest(target.read_bytes()) == digest(result) and not part.exists()
        with pytest.raises(ServiceRefused, match="Range"):
            client.request("GET", f"/v1/jobs/{job['id']}/result")
        assert client.job("inbox/long.wav", wet=0.5)["id"] != job["id"]
    samples, rate = soundfile.read(tmp_path / "long.flac", dtype="float32")
    assert (rate, samples.shape, job["done_s"]) == (44_100, noisy.shape, 13.0)
    np.testing.assert_allclose(samples, Engine.load(versions[0].address).enhance(noisy, 44_100), atol=2 / 2**15)


def test_a_body_that_is_too_large_is_told_of_the_way_by_the_store(at: str) -> None:
    """413 names the route of jobs."""
    answer = httpx.post(f"{at}/v1/enhance", content=bytes(100_001))
    assert answer.status_code == 413 and "/v1/jobs" in answer.json()["error"]


@pytest.mark.parametrize(
    "named",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "../secret.wav",
        "inbox/../../secret.wav",
        "inbox/link.wav",
        "http://169.254.169.254/latest/meta-data",
        "https://example.org/a.wav",
        "s3://bucket/a.wav",
        "",
        "a\0b",
        "~/x.wav",
    ],
)
def test_nothing_outside_the_store_is_opened(at: str, home: Home, named: str) -> None:
    """No path, link or URL of a caller leads out."""
    inbox = Path(home.store.removeprefix("file://"), "inbox")
    inbox.mkdir(parents=True)
    (home.path / "secret.wav").write_bytes(file_of(noise(100), 16_000))
    (inbox / "link.wav").symlink_to(home.path / "secret.wav")
    answer = httpx.post(f"{at}/v1/jobs", json={"address": named})
    assert answer.status_code in (403, 404) and answer.json()["code"] in ("not_allowed", "not_there")
    assert (answer.status_code == 404) == (named == "~/x.wav")  # a name like any other


def test_a_damaged_file_fails_its_job_with_a_reason(at: str, home: Home) -> None:
    """The job is found failed; when the object has changed, it is another job."""
    storage.create(storage.join(home.store, "text.wav"), b"this is no audio " * 9)
    with Client(at) as client:
        with pytest.raises(ServiceRefused, match="cannot be read as audio"):
            client.job("text.wav")
        storage.replace(storage.join(home.store, "text.wav"), file_of(noise(16_000), 16_000))
        assert client.job("text.wav")["state"] == "done"
        assert client.request("GET", "/v1/models")
        for path, status in (("0" * 24, 404), ("..%2f..", 404), ("0" * 23, 422)):
            assert httpx.get(f"{at}/v1/jobs/{path}").status_code == status


def test_a_job_that_lost_its_replica_begins_anew(
    home: Home, versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its record is fresh another replica leaves it alone; an old one is taken over."""
    storage.create(storage.join(home.store, "a.wav"), file_of(noise(16_000), 16_000))
    engine, version = Engine(PassThrough()), ServedVersion.of(versions[0])
    here, elsewhere = Jobs(), Jobs()
    for name in ("_run", "_keep_fresh"):
        monkeypatch.setattr(Jobs, name, lambda *_: None)  # the replica is killed before it begins
    lost = here.begin(Ask(address="a.wav"), engine, version, Limits())
    assert elsewhere.begin(Ask(address="a.wav"), engine, version, Limits()) == lost
    monkeypatch.undo()
    monkeypatch.setenv("UNMUFFLE_HOME", str(home.path))
    monkeypatch.setattr(jobs, "LOST_S", 0.0)
    told = elsewhere.look(lost.id)
    assert told.state == "failed" and "Ask for the same again" in told.error
    monkeypatch.setattr(jobs, "LOST_S", 60.0)
    storage.replace(storage.join(home.store, "jobs", lost.id, "job.json"), aged(lost, 61.0).canonical())
    elsewhere.begin(Ask(address="a.wav"), engine, version, Limits())
    wait(lambda: Jobs().look(lost.id).state == "done")


def aged(job: Job, seconds: float) -> Job:
    """The record, older."""
    return job.model_copy(update={"updated": job.updated - seconds})


def test_one_ask_by_several_callers_is_one_job(home: Home, versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes while another one looks whether the job is there waits for what becomes of that."""
    storage.create(storage.join(home.store, "a.wav"), file_of(noise(16_000), 16_000))
    running, both, submitted = Jobs(), threading.Barrier(2), []

    def look(self: Jobs, id: str, found: Callable = Jobs.look) -> Job | None:
        known = found(self, id)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.3)
        return known

    monkeypatch.setattr(Jobs, "look", look)
    monkeypatch.setattr(running._worker, "submit", lambda *work: submitted.append(work))
    ask = (Ask(address="a.wav"), Engine(PassThrough()), ServedVersion.of(versions[0]), Limits())
    with ThreadPoolExecutor(2) as callers:
        assert len({job.id for job in callers.map(lambda _: running.begin(*ask), range(2))}) == 1
    assert len(submitted) == 1
    running.cancel(submitted[0][1].id)


def test_a_job_that_waits_for_long_is_not_lost(home: Home, versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a long one its record stays fresh, and asking again finds it."""
    monkeypatch.setattr(jobs, "TELL_S", 0.05)
    monkeypatch.setattr(jobs, "LOST_S", 1.0)
    for name in ("a", "b"):
        storage.create(storage.join(home.store, f"{name}.wav"), file_of(noise(16_000), 16_000))
    go = threading.Event()
    running, waiting, version = Jobs(), Ask(address="b.wav"), ServedVersion.of(versions[0])
    first = running.begin(Ask(address="a.wav"), Engine(Held(threading.Event(), go)), version, Limits())
    second = running.begin(waiting, Engine(PassThrough()), version, Limits())
    elsewhere = Jobs()
    wait(lambda: elsewhere.look(second.id).updated > second.updated + jobs.LOST_S)
    assert running.begin(waiting, Engine(PassThrough()), version, Limits()).id == second.id
    assert [elsewhere.look(job.id).state for job in (first, second)] == ["running", "queued"]
    go.set()
    wait(lambda: all(elsewhere.look(job.id).state == "done" for job in (first, second)))


@pytest.mark.parametrize("told", ["its own replica", "another one"])
def test_a_job_can_be_cancelled(home: Home, versions: Versions, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    """It ends at the next piece, one that waits at once; neither leaves a result."""
    storage.create(storage.join(home.store, "a.wav"), file_of(noise(16_000 * 60), 16_000))
    monkeypatch.setattr(jobs, "TELL_S", 0.05)
    begun, go = threading.Event(), threading.Event()
    running, version = Jobs(), ServedVersion.of(versions[0])
    job = running.begin(Ask(address="a.wav"), Engine(Held(begun, go)), version, Limits())
    behind = running.begin(Ask(address="a.wav", options=Options(wet=0.5)), Engine(PassThrough()), version, Limits())
    assert begun.wait(10)
    (running if told == "its own replica" else Jobs()).cancel(behind.id)
    wait(lambda: Jobs().look(behind.id).state == "cancelled")
    (running if told == "its own replica" else Jobs()).cancel(job.id)
    wait(lambda: job.id in running._cancelled)
    go.set()
    wait(lambda: Jobs().look(job.id).state == "cancelled")
    assert not Jobs().look(job.id).result


class Held(PassThrough):
    """Says that it was asked, and waits until it may answer."""

    def __init__(self, begun: threading.Event, go: threading.Event) -> None:
        super().__init__()
        self._begun, self._go = begun, go

    def forward(self, noisy: Tensor) -> Tensor:
        self._begun.set()
        assert self._go.wait(20)
        return noisy


def test_a_job_that_has_ended_is_forgotten_when_it_is_deleted(at: str, home: Home) -> None:
    """Record and result leave the store; a running or failed job is told in words that fit."""
    storage.create(storage.join(home.store, "a.wav"), file_of(noise(16_000), 16_000))
    with Client(at) as client:
        job = client.job("a.wav")
        assert storage.exists(job["result"])
        assert client.request("DELETE", f"/v1/jobs/{job['id']}").json() == job
        assert not storage.listing(storage.join(home.store, "jobs"))
        with pytest.raises(ServiceRefused, match="There is no job"):
            client.request("GET", f"/v1/jobs/{job['id']}")
        storage.create(storage.join(home.store, "text.wav"), b"this is no audio " * 9)
        with pytest.raises(ServiceRefused):
            client.job("text.wav")
        failed = client.request("POST", "/v1/jobs", json={"address": "text.wav"}).json()
        wait(lambda: client.request("GET", f"/v1/jobs/{failed['id']}").json()["state"] == "failed")
        with pytest.raises(ServiceRefused, match=r"This job is failed\. .* cannot be read as audio"):
            client.request("GET", f"/v1/jobs/{failed['id']}/result")


def test_what_cannot_be_done_to_a_long_file_is_refused_before_it_begins(at: str, home: Home) -> None:
    """No job waits for hours to be told that its options cannot be."""
    storage.create(storage.join(home.store, "a.wav"), file_of(noise(16_000), 16_000))
    for options in ({"contrast": True}, {"tier": "fast"}):
        answer = httpx.post(f"{at}/v1/jobs", json={"address": "a.wav", "options": options})
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_option")
    assert not storage.listing(storage.join(home.store, "jobs"))


@pytest.mark.parametrize("problem", ["changed", "no room"])
def test_a_file_that_cannot_be_copied_as_it_was_fails_its_job(
    home: Home, versions: Versions, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    """Neither is half of one recording joined to half of another, nor is a disk filled to its end."""
    address = storage.join(home.store, "a.wav")
    storage.create(address, file_of(noise(16_000), 16_000))
    if problem == "no room":
        monkeypatch.setattr(jobs.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    else:
        monkeypatch.setattr(storage, "read_range", lambda *_, read=storage.read_range: change(address) or read(*_))
    running = Jobs()
    job = running.begin(Ask(address="a.wav"), Engine(PassThrough()), ServedVersion.of(versions[0]), Limits())
    wait(lambda: Jobs().look(job.id).ended)
    told = Jobs().look(job.id)
    assert told.state == "failed" and ("Ask again" if problem == "changed" else "Make room") in told.error


def change(address: str) -> None:
    """Another recording of the same size in its place."""
    storage.replace(address, file_of(noise(16_000)[::-1], 16_000))


@pytest.mark.parametrize("options", [Options(wet=0.25), Options(max_suppression_db=12.0), Options(downmix=True)])
def test_options_of_a_long_file_are_those_of_a_short_one(tmp_path: Path, options: Options) -> None:
    """The input that is mixed in stays aligned, piece by piece."""
    from serving.options import enhanced

    noisy, engine = noise(22_050 * 30, 2), Engine(Halving())
    soundfile.write(tmp_path / "in.wav", noisy, 22_050, subtype="PCM_16")
    enhance_file(engine, options, tmp_path / "in.wav", tmp_path / "out.flac", lambda done_s: None)
    found, _ = soundfile.read(tmp_path / "out.flac", dtype="float32", always_2d=True)
    np.testing.assert_allclose(found, enhanced(engine, options, noisy, 22_050), atol=2 / 2**15)


class Halving(PassThrough):
    """Half as loud."""

    def forward(self, noisy: Tensor) -> Tensor:
        return noisy / 2


def test_a_header_that_lies_is_answered(tmp_path: Path) -> None:
    """A FLAC that ends before its header says so is no endless wait."""
    soundfile.write(tmp_path / "in.flac", noise(16_000 * 30), 16_000)
    (tmp_path / "in.flac").write_bytes((tmp_path / "in.flac").read_bytes()[:100_000])
    with pytest.raises(BadAudio):
        enhance_file(Engine(Halving()), Options(), tmp_path / "in.flac", tmp_path / "out.flac", lambda done_s: None)


def wait(reached: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Until it is so."""
    deadline = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.long
def test_ten_hours_take_no_more_memory_than_a_minute(home: Home, versions: Versions) -> None:
    """A ten-hour file through a pass-through network: the process grows by less than 600 MB, and the end is there."""
    hours, rate = 10, 16_000
    inbox = Path(home.store.removeprefix("file://"))
    inbox.mkdir(parents=True)
    mark = noise(rate)
    with soundfile.SoundFile(inbox / "long.wav", "w", rate, 1, "PCM_16") as file:
        for _ in range(hours * 60 - 1):
            file.write(np.zeros(rate * 60, np.int16))
        file.write(np.zeros(rate * 59, np.int16))
        file.write(np.rint(mark * 2**15).astype(np.int16))
    running, me = Jobs(), psutil.Process(os.getpid())
    before = most = me.memory_info().rss
    job = running.begin(Ask(address="long.wav"), Engine(PassThrough()), ServedVersion.of(versions[0]), Limits())
    while (found := running.look(job.id)) is None or not found.ended:
        most = max(most, me.memory_info().rss)
        time.sleep(0.05)
    print(f"grew by {(most - before) / 1e6:.0f} MB")
    assert found.state == "done" and found.done_s == hours * 3600.0
    assert most - before < 600e6
    with soundfile.SoundFile(Path(found.result.removeprefix("file://"))) as file:
        assert file.frames == hours * 3600 * rate
        file.seek(-rate, soundfile.SEEK_END)
        np.testing.assert_allclose(file.read(dtype="float32"), mark[:, 0], atol=2 / 2**15)
