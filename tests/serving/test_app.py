import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from serving.app import DEPLOYMENT
from serving.client import Client
from serving.deployer import LocalServe
from serving.engine import Engine
from serving.lease import promotion_lock
from serving.messages import ServiceConfig
from serving.replica import Service
from serving.service import bring_to_alias
from simulation import storage
from simulation.audio import Waveform
from simulation.errors import CheckpointIncompatible, VerificationFailed
from training.registry import Version

Versions = tuple[Version, Version]
ConfigOf = Callable[[Version], ServiceConfig]


@pytest.fixture(scope="module")
def client(service) -> Iterator[httpx.Client]:
    """An HTTP client of the service."""
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        yield client


class Pointing:
    """A registry that knows its champion and nothing else."""

    def __init__(self, champion: Version) -> None:
        self.champion = champion

    def alias(self, use: str, alias: str) -> Version:
        """The champion."""
        return self.champion


@pytest.fixture
def current(service, versions: Versions) -> Version:
    """The version in service, which depends on the tests that ran before."""
    served = LocalServe(service.home).serving()
    return next(version for version in versions if version.weights_sha256 == served.weights_sha256)


def noise(samples: int, channels: int = 1) -> Waveform:
    """Noise at -20 dB."""
    return np.random.default_rng(0).normal(0, 0.1, (samples, channels)).astype(np.float32)


def sound_file(samples: Waveform, sample_rate: int, format: str = "WAV", subtype: str | None = None) -> bytes:
    """The bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=format, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    ("format", "sample_rate", "channels", "samples"),
    [
        ("WAV", 16_000, 1, 16_000),
        ("FLAC", 44_100, 2, 30_001),
        ("WAV", 8_000, 1, 80),
        ("WAV", 48_000, 1, 1),
        ("OGG", 22_050, 2, 22_051),
        ("AIFF", 96_000, 5, 9_600),
    ],
)
def test_an_answer_has_the_shape_of_the_question(
    client: httpx.Client, format: str, sample_rate: int, channels: int, samples: int
) -> None:
    """Same sample rate, channels and length, as 16-bit WAV, whatever came in."""
    response = client.post("/v1/enhance", content=sound_file(noise(samples, channels), sample_rate, format))
    assert response.status_code == 200 and response.headers["content-type"] == "audio/wav"
    answer = soundfile.info(io.BytesIO(response.content))
    assert (answer.samplerate, answer.channels, answer.frames) == (sample_rate, channels, samples)
    assert (answer.format, answer.subtype) == ("WAV", "PCM_16")


def test_an_answer_is_the_input_enhanced(client: httpx.Client, current: Version) -> None:
    """It is what the engine makes of it, rounded to 16 bits, and not the input."""
    noisy = noise(16_000)
    body = client.post("/v1/enhance", content=sound_file(noisy, 16_000, subtype="FLOAT")).content
    enhanced, _ = soundfile.read(io.BytesIO(body), dtype="float32", always_2d=True)
    np.testing.assert_allclose(enhanced, Engine.load(current.address).enhance(noisy, 16_000), atol=1e-4)
    assert np.abs(enhanced - noisy).max() > 0.01


def test_an_answer_says_which_version_gave_it(client: httpx.Client, current: Version) -> None:
    """Version, network, digest of the weights and processing time stand in headers."""
    headers = client.post("/v1/enhance", content=sound_file(noise(100), 16_000)).headers
    assert headers["X-Unmuffle-Version"] == f"denoise-16k/{current.version}"
    assert headers["X-Unmuffle-Network"] == "gru"
    assert headers["X-Unmuffle-Weights"] == current.weights_sha256
    assert 0 < float(headers["X-Unmuffle-Seconds"]) < 10


def test_flac_is_answered_on_request(client: httpx.Client) -> None:
    """`Accept: audio/flac` gives the same samples as WAV."""
    body = sound_file(noise(5_000, 2), 44_100)
    flac = client.post("/v1/enhance", content=body, headers={"Accept": "audio/flac"})
    assert flac.headers["content-type"] == "audio/flac" and flac.content[:4] == b"fLaC"
    wav = client.post("/v1/enhance", content=body)
    assert np.array_equal(soundfile.read(io.BytesIO(flac.content))[0], soundfile.read(io.BytesIO(wav.content))[0])


def test_a_multipart_body_is_answered_like_a_raw_one(client: httpx.Client) -> None:
    """The part named `file`, beside other fields."""
    body = sound_file(noise(5_000), 16_000)
    parts = client.post("/v1/enhance", files={"file": ("speech.wav", body)}, data={"note": "hello"})
    assert parts.content == client.post("/v1/enhance", content=body).content


MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("request_parts", "status", "code", "complaint"),
    [
        ({"content": b""}, 400, "empty_body", "empty"),
        ({"content": b"Just a text named .wav\n" * 9}, 422, "bad_audio", "text of"),
        ({"content": b"file:///etc/passwd"}, 422, "bad_audio", "text of"),
        ({"content": bytes(range(256)) * 4}, 422, "bad_audio", "cannot be read as audio"),
        ({"content": sound_file(noise(0), 16_000)}, 422, "bad_audio", "0 samples"),
        ({"content": sound_file(noise(9) * np.nan, 16_000, subtype="FLOAT")}, 422, "bad_audio", "NaN"),
        ({"content": sound_file(noise(9) * 1e30, 16_000, subtype="FLOAT")}, 422, "bad_audio", "Divide"),
        ({"content": sound_file(noise(900), 1), "headers": {}}, 413, "too_long", "900.0 s"),
        ({"content": sound_file(noise(900), 500)}, 422, "bad_audio", "sample rate"),
        ({"content": sound_file(noise(900), 16_000, "FLAC")[:100]}, 422, "bad_audio", "audio"),
        ({"files": {"audio": b"x"}}, 400, "bad_multipart", "'file'"),
        ({"data": {"file": "x"}, "files": {"other": b"x"}}, 400, "bad_multipart", "'file'"),
        ({"files": {"file": b""}}, 400, "empty_body", "empty"),
        ({"content": b"--y\r\nnonsense", "headers": MULTIPART}, 400, "bad_multipart", "multipart"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "bad_multipart", "boundary"),
        ({"content": sound_file(np.zeros((2**21 + 1, 1)), 48_000, "FLAC")}, 413, "too_long", "8.4 MB decoded"),
        ({"content": sound_file(np.zeros((8_000 * 31, 2)), 8_000, "FLAC")}, 413, "too_long", "31.0 s of 2 channels"),
        ({"content": bytes(1_000_001)}, 413, "too_large", "up to 1 MB"),
        ({"content": (bytes(100_000) for _ in range(11))}, 413, "too_large", "up to 1 MB"),
        (
            {"content": sound_file(noise(99, 9), 16_000), "headers": {"Accept": "audio/flac"}},
            406,
            "not_encodable",
            "9 channels",
        ),
    ],
)
def test_a_bad_request_is_answered_with_one_paragraph_of_json(
    client: httpx.Client, request_parts: dict, status: int, code: str, complaint: str
) -> None:
    """4xx, never 500, for whatever bytes a client sends; nothing in a request is opened as a path."""
    response = client.post("/v1/enhance", **request_parts)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert complaint in response.json()["error"] and "\n" not in response.json()["error"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/enhance", 405), ("POST", "/v2/enhance", 404)])
def test_an_unknown_route_is_answered_with_the_routes_there_are(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    """JSON in the same form as every other refusal."""
    response = client.request(method, path)
    assert response.status_code == status and "POST /v1/enhance" in response.json()["error"]


def test_health_is_a_sane_answer_to_a_second_of_speech(client: httpx.Client, current: Version) -> None:
    """200, and the version that was tried."""
    response = client.get("/healthz")
    assert response.status_code == 200
    assert response.json()["version"] == response.headers["X-Unmuffle-Version"] == f"denoise-16k/{current.version}"
    assert response.json()["weights_sha256"] == current.weights_sha256


def test_models_tells_what_is_loaded(client: httpx.Client, current: Version) -> None:
    """Facts of the network, and the limits in force."""
    answer = client.get("/v1/models").json()
    (model,) = answer["models"]
    assert model["version"]["address"] == current.address
    assert (model["kind"], model["sample_rate"], model["causal"]) == ("gru_mask", 16_000, True)
    assert answer["limits"]["max_body_mb"] == 1.0


def test_no_request_fails_while_the_version_is_switched(
    service, client: httpx.Client, current: Version, versions: Versions
) -> None:
    """Under steady traffic every answer is whole and from one of the two versions, and at the end from the new one."""
    body, stop, seen = sound_file(noise(8_000), 16_000), threading.Event(), []
    (other,) = [version for version in versions if version != current]

    def ask() -> None:
        with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as own:
            while not stop.is_set():
                response = own.post("/v1/enhance", content=body)
                seen.append((response.status_code, response.headers.get("X-Unmuffle-Version"), len(response.content)))

    with ThreadPoolExecutor(3) as threads:
        asking = [threads.submit(ask) for _ in range(3)]
        try:
            LocalServe(service.home).switch(other)
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert set(seen) == {(200, "denoise-16k/1", 16_044), (200, "denoise-16k/2", 16_044)}
    assert client.get("/healthz").json()["version"] == f"denoise-16k/{other.version}"


def test_beside_the_service_a_candidate_answers_without_traffic(
    service, client: httpx.Client, current: Version, versions: Versions
) -> None:
    """A second application holds the candidate while the first one goes on, and is swept up if its promotion died."""
    (other,) = [version for version in versions if version != current]
    deployer = LocalServe(service.home)
    handle = deployer.deploy_beside(other)
    deployer.verify(handle, other)
    assert deployer.left_behind() and deployer.serving().weights_sha256 == current.weights_sha256
    assert client.get("/healthz").json()["version"] == f"denoise-16k/{current.version}"
    registry: Any = Pointing(current)
    with promotion_lock(service.home.store, "denoise-16k"):
        bring_to_alias(service.home, "denoise-16k", registry, deployer)
        assert deployer.left_behind()
    bring_to_alias(service.home, "denoise-16k", registry, deployer)
    assert not deployer.left_behind()
    deployer.discard(handle)


def test_a_corrupt_version_is_refused_and_the_old_one_goes_on(
    service, client: httpx.Client, current: Version, corrupt: Version
) -> None:
    """Neither beside the service nor in its place; the reason is said, and the service answers as before."""
    before = client.get("/healthz").json()
    with pytest.raises(VerificationFailed, match="digest"):
        LocalServe(service.home).deploy_beside(corrupt)
    assert not LocalServe(service.home).left_behind()
    with pytest.raises(VerificationFailed, match="digest"):
        LocalServe(service.home).switch(corrupt)
    assert client.get("/healthz").json() == before
    assert LocalServe(service.home).serving().weights_sha256 == current.weights_sha256


def test_a_living_replica_keeps_its_version_when_it_is_told_to_load_a_corrupt_one(
    versions: Versions, corrupt: Version, config_of: ConfigOf
) -> None:
    """`reconfigure` swaps to an intact version, notes a refusal, and raises only with nothing loaded."""
    replica = Service()
    with pytest.raises(CheckpointIncompatible, match="digest"):
        reconfigure(replica, config_of(corrupt))
    reconfigure(replica, config_of(versions[0]))
    reconfigure(replica, config_of(corrupt))
    assert replica.facts().name == "denoise-16k/1" and "digest" in replica.facts().refused
    reconfigure(replica, config_of(versions[1]))
    assert replica.facts().name == "denoise-16k/2" and not replica.facts().refused


def reconfigure(replica: Service, config: ServiceConfig) -> None:
    """As Serve calls it."""
    asyncio.run(replica.reconfigure(config.model_dump(mode="json")))


def test_a_flood_is_turned_away_with_the_time_to_come_back(service, versions: Versions, config_of: ConfigOf) -> None:
    """Beyond its queue the service answers 429 with Retry-After, and goes on answering the others."""
    from ray import serve

    narrow = DEPLOYMENT.options(user_config=config_of(versions[0]).model_dump(), max_ongoing_requests=1)
    serve.run(narrow.options(max_queued_requests=1).bind(), name="narrow", route_prefix="/narrow")
    body = sound_file(noise(8_000 * 50), 8_000)
    try:
        with ThreadPoolExecutor(8) as threads:
            url = f"{service.url}/narrow/v1/enhance"
            answers = list(threads.map(lambda _: httpx.post(url, content=body, timeout=60, trust_env=False), range(8)))
    finally:
        serve.delete("narrow")
    turned_away = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(answer.headers["Retry-After"] for answer in turned_away)


def test_streams_and_long_files_pass_serve(service, client: httpx.Client, current: Version) -> None:
    """Through proxy and replica: a stream equals the file, a job finds its result, the routes are described."""
    noisy, engine = noise(40_000), Engine.load(current.address)
    with Client(service.url) as own:
        streamed = np.concatenate(list(own.stream(np.split(noisy, [100, 9_000, 30_000]), 16_000)))
        np.testing.assert_allclose(streamed, engine.enhance(noisy, 16_000), atol=1e-5)
        storage.replace(storage.join(service.store, "inbox/a.wav"), sound_file(noisy, 16_000))
        job = own.job(storage.join(service.store, "inbox/a.wav"))
        samples, _ = soundfile.read(io.BytesIO(storage.read(job["result"])), dtype="float32", always_2d=True)
        np.testing.assert_allclose(samples, streamed, atol=3 / 2**15)
    assert client.get("/openapi.json").json()["paths"].keys() >= {"/v1/enhance", "/v1/jobs", "/healthz"}
