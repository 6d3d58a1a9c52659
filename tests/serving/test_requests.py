"""`POST /v1/enhance` without Ray: what may be asked for, who may ask, and how much."""

import io
import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
import torch
from starlette.requests import HTTPConnection
from typer.testing import CliRunner

from pipelines.cli import app
from serving import keys
from serving.admission import Admission
from serving.client import Client, ServiceRefused
from serving.engine import MOST_ASKED_OTHERWISE, Engine
from serving.keys import Doorkeeper
from serving.messages import Limits, ServiceConfig
from serving.options import Options, engine_for, mixed
from serving.replica import Service
from serving.telemetry import Figures
from serving.wire import Refused
from simulation.audio import Waveform
from simulation.home import Home
from training.checkpoint import save_version
from training.models import GpUnified
from training.registry import Version


def noise(samples: int, channels: int = 1) -> Waveform:
    """Noise at -20 dB."""
    return np.random.default_rng(0).normal(0, 0.1, (samples, channels)).astype(np.float32)


def wav(samples: Waveform, sample_rate: int = 16_000) -> bytes:
    """A file that holds the samples as they are."""
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def heard(body: bytes) -> Waveform:
    """The samples of an answer."""
    samples, _ = soundfile.read(io.BytesIO(body), dtype="float32", always_2d=True)
    return samples


# ---- options and formats --------------------------------------------------------------------------------------------


def test_dry_and_wet_are_mixed_sample_by_sample(here: str, versions: tuple[Version, Version]) -> None:
    """Half of each, and a suppression of 20 dB at most, which is a tenth of the input."""
    noisy = noise(16_000)
    enhanced = Engine.load(versions[0].address).enhance(noisy, 16_000)
    with Client(here) as client:
        half = heard(client.enhance(wav(noisy), wet=0.5))
        held = heard(client.enhance(wav(noisy), max_suppression_db=20))
    np.testing.assert_allclose(half, (enhanced + noisy) / 2, atol=1e-4)
    np.testing.assert_allclose(held, 0.9 * enhanced + 0.1 * noisy, atol=1e-4)


@pytest.mark.parametrize("limit_db", [6.0, 20.0, 60.0])
def test_nothing_is_lowered_by_more_than_was_allowed(limit_db: float) -> None:
    """Where the network gives silence, the input is left, that much lower."""
    noisy = noise(1000)
    left = mixed(np.zeros_like(noisy), noisy, Options(max_suppression_db=limit_db))
    assert 20 * np.log10(np.abs(left).mean() / np.abs(noisy).mean()) == pytest.approx(-limit_db, abs=1e-3)


def test_a_downmix_is_the_mean_of_the_channels_enhanced(here: str) -> None:
    """One channel goes in and comes out."""
    noisy = noise(16_000, 3)
    with Client(here) as client:
        down = heard(client.enhance(wav(noisy), downmix="true"))
        mono = heard(client.enhance(wav(noisy.mean(axis=1, keepdims=True))))
    np.testing.assert_allclose(down, mono, atol=1e-4)


@pytest.mark.parametrize(
    ("accept", "format", "media_type", "container"),
    [
        ("*/*", "", "audio/wav", "WAV"),
        ("text/html, audio/flac;q=0.9, audio/wav", "", "audio/flac", "FLAC"),
        ("audio/ogg", "", "audio/ogg", "OGG"),
        ("audio/ogg", "flac", "audio/flac", "FLAC"),
    ],
)
def test_an_answer_has_the_format_that_was_asked_for(
    here: str, accept: str, format: str, media_type: str, container: str
) -> None:
    """By extension before `Accept`; always with the length of the question."""
    response = httpx.post(
        f"{here}/v1/enhance", params={"format": format}, content=wav(noise(70_001)), headers={"Accept": accept}
    )
    answer = soundfile.info(io.BytesIO(response.content))
    assert (response.headers["content-type"], answer.format, answer.frames) == (media_type, container, 70_001)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"wet": 2}, "wet"),
        ({"tier": "best"}, "tier"),
        ({"max_suppression_db": "nan"}, "max_suppression_db"),
        ({"steps": 5}, "no diffusion network"),
        ({"tier": "predictive"}, "no diffusion network"),
        ({"format": "exe"}, "format"),
    ],
)
def test_what_cannot_be_done_is_refused(here: str, options: dict, complaint: str) -> None:
    """422 that names the option; nothing is left out in silence."""
    with Client(here) as client, pytest.raises(ServiceRefused, match=complaint) as refused:
        client.enhance(wav(noise(100)), **options)
    assert (refused.value.status, refused.value.code) == (422, "bad_option")


def test_a_tier_asks_the_same_weights_in_another_way() -> None:
    """Steps and mode of a diffusion network's sampling; an engine is made once for each."""
    small = {"channels": 4, "multipliers": (1, 1, 2), "blocks": 1, "attention_bins": (64,)}
    engine = Engine(GpUnified.Config.model_validate(small).build())
    fast = engine_for(engine, Options(tier="fast"))
    assert fast.model.config.sampling.steps == 5 and engine.model.config.sampling.steps == 30
    assert engine_for(engine, Options(tier="predictive")).model.config.sampling.mode == "predictive"
    assert engine_for(engine, Options(steps=5)) is fast and engine_for(engine, Options()) is engine
    assert next(fast.model.parameters()) is next(engine.model.parameters())


@pytest.fixture(scope="module")
def sampled(
    tmp_path_factory: pytest.TempPathFactory, run_here: Callable, config_of: Callable[[Version], ServiceConfig]
) -> Iterator[tuple[str, GpUnified]]:
    """A service over a small GP-Unified whose every layer speaks, and that network."""
    torch.manual_seed(0)
    small = {"channels": 4, "multipliers": (1, 2), "blocks": 1, "attention_bins": (), "hop_size": 256}
    model = GpUnified.Config.model_validate(small | {"sampling": {"steps": 2}}).build().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    address = tmp_path_factory.mktemp("gp").as_uri()
    digest = save_version(model, address, facts={})
    version = Version("denoise-16k", "9", "gp", address, digest, run_id="", tags={})
    with run_here(Service(), config_of(version)) as at:
        yield at, model


def test_a_request_says_how_a_diffusion_network_samples(sampled: tuple[str, GpUnified]) -> None:
    """Each of steps, corrector, both fusions, mode and seed changes the answer, which is the network's own so asked."""
    address, model = sampled
    noisy = noise(16_000)
    plain = {"mode": "unified", "steps": 2, "seed": 7}
    answers = []
    with Client(address) as client:
        for change in (
            {},
            {"steps": 3},
            {"corrector_steps": 0},
            {"first_fusion": 1.0},
            {"last_fusion": 0.5},
            {"mode": "generative"},
            {"seed": 8},
        ):
            answers.append(heard(client.enhance(wav(noisy), **plain | change)))
        same = heard(client.enhance(wav(noisy), **plain))
        tier, mode = (
            heard(client.enhance(wav(noisy), seed=7, **asked))
            for asked in ({"tier": "predictive"}, {"mode": "predictive"})
        )
        chances = [heard(client.enhance(wav(noisy), steps=1)) for _ in range(2)]
    asked = model.config.sampling.model_copy(update={"mode": "unified", "steps": 2, "seed": 8})
    np.testing.assert_allclose(answers[-1], Engine(model).sampled_by(asked).enhance(noisy, 16_000), atol=1e-4)
    assert np.array_equal(same, answers[0]) and np.array_equal(tier, mode)
    assert not np.array_equal(*chances)
    apart = [float(np.abs(one - two).max()) for place, one in enumerate(answers) for two in answers[:place]]
    assert min(apart) > 1e-3


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"seed": 1.5}, "seed"),
        ({"seed": -1}, "seed"),
        ({"seed": "now"}, "seed"),
        ({"last_fusion": 1.1}, "last_fusion"),
        ({"mode": "both"}, "mode"),
        ({"mode": "predictive", "steps": 3}, "makes nothing of steps"),
        ({"mode": "generative", "first_fusion": 0.5}, "makes nothing of first_fusion"),
        ({"mode": "unified", "tier": "predictive"}, "is not mode=unified"),
    ],
)
def test_sampling_that_cannot_be_is_refused(
    sampled: tuple[str, GpUnified], options: dict[str, object], complaint: str
) -> None:
    """422 that names what is wrong: no steps, a seed that is no integer, what the mode makes nothing of."""
    with Client(sampled[0]) as client, pytest.raises(ServiceRefused, match=complaint) as refused:
        client.enhance(wav(noise(100)), **options)
    assert (refused.value.status, refused.value.code) == (422, "bad_option")


def test_many_seeds_leave_no_more_behind_than_a_few(sampled: tuple[str, GpUnified]) -> None:
    """A service that is asked with another seed each time remembers the latest ways of asking alone."""
    engine = Engine(sampled[1])
    asked = [engine_for(engine, Options(seed=seed)) for seed in range(100)]
    assert len(engine._asked_otherwise) == MOST_ASKED_OTHERWISE
    assert engine_for(engine, Options(seed=99)) is asked[99] and engine_for(engine, Options(seed=0)) is not asked[0]


# ---- who may ask ----------------------------------------------------------------------------------------------------


@pytest.fixture
def keyed(
    home: Home, versions: tuple[Version, Version], run_here: Callable, config_of: Callable[[Version], ServiceConfig]
) -> Callable:
    """A service with keys."""
    keys.create("reader", ("read",))
    return lambda: run_here(Service(), config_of(versions[0]))


def test_with_keys_only_a_known_key_of_the_right_scope_is_heard(keyed: Callable) -> None:
    """401 without one, 403 with another scope, for files and for streams; health needs none."""
    reader, writer = keys.create("reader", ("read",)), keys.create("writer", ("enhance", "stream"))
    with keyed() as address:
        for secret, code in (("", "no_key"), ("guess", "no_key"), (reader, "not_allowed")):
            with Client(address, secret) as client:
                with pytest.raises(ServiceRefused) as refused:
                    client.enhance(wav(noise(100)))
                assert refused.value.code == code
                with pytest.raises(ServiceRefused) as refused:
                    list(client.stream([noise(100)], 16_000))
                assert refused.value.code == code
        with Client(address, writer) as client:
            assert client.enhance(wav(noise(100))) and list(client.stream([noise(100)], 16_000))
        assert httpx.get(f"{address}/v1/models", headers={"Authorization": f"Bearer {reader}"}).status_code == 200
        assert httpx.get(f"{address}/v1/models", headers=keys.own_headers()).status_code == 200
        assert httpx.get(f"{address}/healthz").status_code == 200


def test_keys_are_kept_as_digests_and_a_new_one_replaces_its_namesake(keyed: Callable) -> None:
    """The file holds no secret; the old key is heard no more, at once."""
    old = keys.create("writer")
    with keyed() as address:
        assert Client(address, old).models()
        new = keys.create("writer")
        assert old not in keys.keys_path().read_text() and new not in keys.keys_path().read_text()
        with pytest.raises(ServiceRefused):
            Client(address, old).models()
        assert Client(address, new).models()


@pytest.mark.parametrize(
    ("client", "headers", "heard"),
    [
        ("127.0.0.1", {"host": "127.0.0.1:8000"}, True),
        ("::1", {"host": "[::1]:8000"}, True),
        ("127.0.0.1", {"host": "localhost:8000", "origin": "http://localhost:8000"}, True),
        ("192.168.0.7", {"host": "127.0.0.1:8000"}, False),
        ("127.0.0.1", {"host": "rebound.example:8000"}, False),
        ("127.0.0.1", {"host": "127.0.0.1:8000", "origin": "https://evil.example"}, False),
        ("127.0.0.1", {}, False),
    ],
)
def test_without_keys_only_this_machine_is_heard(home: Home, client: str, headers: dict, heard: bool) -> None:
    """Neither others, nor pages of other sites in a browser of this machine."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    connection = HTTPConnection({"type": "http", "headers": raw, "client": (client, 1)})
    if heard:
        assert Doorkeeper().caller(connection, "enhance") == client
    else:
        with pytest.raises(Refused, match="no keys"):
            Doorkeeper().caller(connection, "enhance")


# ---- how much -------------------------------------------------------------------------------------------------------


def test_requests_are_counted_in_all_and_of_each_caller() -> None:
    """One too many is refused with the time to come back; who leaves gives the place back."""
    counts: list[int] = []
    admission, limits = Admission(told=counts.append), Limits(max_requests=3, max_requests_of_a_caller=2)
    with admission.request("a", limits), admission.request("a", limits):
        with pytest.raises(Refused, match="of yours") as refused, admission.request("a", limits):
            pass
        assert (refused.value.status, refused.value.retry_after_s) == (429, 1)
        with (
            admission.request("b", limits),
            pytest.raises(Refused, match="this replica"),
            admission.request("c", limits),
        ):
            pass
    with admission.request("a", limits):
        assert admission.under_way == 1
    assert counts == [1, 2, 3, 2, 1, 0, 1, 0]


def test_requests_a_minute_come_back_steadily() -> None:
    """As many at once as a minute allows, then one at a time."""
    now, limits = 0.0, Limits(max_requests_a_minute=6)
    admission = Admission(clock=lambda: now)

    def ask() -> None:
        with admission.request("a", limits):
            pass

    for _ in range(6):
        ask()
    with pytest.raises(Refused) as refused:
        ask()
    assert refused.value.retry_after_s == 11
    now = 10.0
    ask()
    with pytest.raises(Refused):
        ask()


def test_memory_is_held_while_a_request_is_under_way() -> None:
    """What would not fit beside the others is refused; alone it may be as large as the other limits let it be."""
    admission, limits = Admission(), Limits(max_held_mb=100)
    with (
        admission.memory(90, limits),
        pytest.raises(Refused, match="90 MB"),
        admission.memory(20, limits),
    ):
        pass
    with admission.memory(500, limits):
        pass
    assert admission.held_mb == 0


def test_half_open_uploads_are_given_up_and_hinder_nobody(
    versions: tuple[Version, Version], run_here: Callable, config_of: Callable[[Version], ServiceConfig]
) -> None:
    """Two hundred bodies that never come: other requests are answered meanwhile, and then they are told so."""
    config = config_of(versions[0])
    impatient = config.model_copy(update={"limits": config.limits.model_copy(update={"upload_idle_s": 2.0})})
    head = b"POST /v1/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nRIFF"
    with run_here(Service(), impatient) as address, Client(address) as client:
        uploads = []
        for _ in range(200):
            upload = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=30)
            upload.sendall(head)
            uploads.append(upload)
        for _ in range(3):
            assert client.enhance(wav(noise(1000)))
        answers = [upload.recv(4096) for upload in uploads]
        for upload in uploads:
            upload.close()
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)


# ---- what is told ---------------------------------------------------------------------------------------------------


def test_every_answer_carries_a_trace_id_that_stands_in_the_log(here: str, caplog: pytest.LogCaptureFixture) -> None:
    """The caller's own where it looks like one, also of refusals; the log has a line of JSON for each request."""
    with caplog.at_level("INFO", logger="unmuffle.requests"):
        kept = httpx.post(f"{here}/v1/enhance", content=b"", headers={"X-Trace-Id": "request-0001"})
        made = httpx.get(f"{here}/v1/models", headers={"X-Trace-Id": 'bad "id"'})
    assert kept.headers["x-trace-id"] == "request-0001" and re.fullmatch("[0-9a-f]{32}", made.headers["x-trace-id"])
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "unmuffle.requests"]
    assert [(line["trace"], line["route"], line["status"]) for line in lines] == [
        ("request-0001", "/v1/enhance", 400),
        (made.headers["x-trace-id"], "/v1/models", 200),
    ]


def test_figures_count_audio_and_late_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of audio, time over audio, chunks and the late ones among them, each with the version."""
    told: list[tuple[str, float, dict]] = []
    figures = Figures()
    for name in ("audio", "chunks", "misses"):
        monkeypatch.setattr(getattr(figures, name), "inc", lambda by, tags, n=name: told.append((n, by, tags)))
    monkeypatch.setattr(figures.factor, "observe", lambda value, tags: told.append(("factor", value, tags)))
    figures.answered("denoise-16k/1", 4.0, 0.5)
    figures.chunk("denoise-16k/1", late=False)
    figures.chunk("denoise-16k/1", late=True)
    assert [(name, value) for name, value, _ in told] == [
        ("audio", 4.0),
        ("factor", 0.125),
        ("chunks", 1),
        ("chunks", 1),
        ("misses", 1),
    ]
    assert all(tags == {"version": "denoise-16k/1"} for _, _, tags in told)


def test_the_command_enhances_files_by_a_service(here: str, versions: tuple[Version, Version], tmp_path: Path) -> None:
    """The same output as by the version itself, rounded to 16 bits; a service that is not there is said."""
    (tmp_path / "in.wav").write_bytes(wav(noise(20_000, 2), 22_050))
    runner, output = CliRunner(), ["--out", str(tmp_path / "out")]
    done = runner.invoke(app, ["enhance", str(tmp_path / "in.wav"), *output, "--service", here])
    assert done.exit_code == 0, done.output
    expected = Engine.load(versions[0].address).enhance(noise(20_000, 2), 22_050)
    np.testing.assert_allclose(heard((tmp_path / "out/in.wav").read_bytes()), expected, atol=3 / 2**15)
    gone = runner.invoke(app, ["enhance", str(tmp_path / "in.wav"), *output, "--service", "http://127.0.0.1:1"])
    assert gone.exit_code == 2 and "No answer from" in gone.output
