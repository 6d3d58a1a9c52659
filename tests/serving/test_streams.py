import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.client import ClientConnection, connect

from serving.client import Client, ServiceRefused, _Line
from serving.engine import Engine
from serving.messages import Limits, ServedVersion, ServiceConfig, StreamResume, StreamStart
from serving.replica import THREADS, Service
from serving.stream_places import Place, Streams
from serving.stream_session import Session, encoded
from serving.streaming import Stream
from serving.wire import Refused
from simulation.audio import Waveform
from simulation.errors import BadSetting
from training.models import MpSenet
from training.registry import Version

Versions = tuple[Version, Version]


@pytest.fixture(scope="module")
def engine(versions: Versions) -> Engine:
    """What the service answers with, called directly."""
    return Engine.load(versions[0].address)


def noise(samples: int, channels: int = 1) -> Waveform:
    """Noise at -20 dB."""
    return np.random.default_rng(0).normal(0, 0.1, (samples, channels)).astype(np.float32)


def cut(samples: Waveform, places: list[int]) -> Iterator[Waveform]:
    """Into chunks, some of them empty."""
    edges = sorted({0, len(samples), *(place % (len(samples) + 1) for place in places)})
    yield from (samples[start:stop] for start, stop in pairwise(edges))


def opened(address: str, **start: object) -> ClientConnection:
    """A connection that has asked for a stream of 16 kHz, and its answer is still to be read."""
    socket = connect("ws" + address.removeprefix("http") + "/v1/stream", proxy=None)
    socket.send(json.dumps({"type": "start", "sample_rate": 16_000, "encoding": "f32le"} | start))
    return socket


def said(socket: ClientConnection, kind: str) -> dict:
    """The next text message, which must be of this type."""
    while isinstance(message := socket.recv(10), bytes):
        pass
    found: dict = json.loads(message)
    assert found["type"] == kind, found
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rate=st.sampled_from([8_000, 16_000, 44_100]),
    channels=st.integers(1, 3),
    samples=st.integers(1, 30_000),
    places=st.lists(st.integers(0, 10**6), max_size=9),
)
def test_a_stream_equals_the_whole_file(
    here: str, engine: Engine, rate: int, channels: int, samples: int, places: list[int]
) -> None:
    """Through the WebSocket, at any sample rate, for any cutting into chunks: the samples of the enhanced file."""
    noisy = noise(samples, channels)
    with Client(here) as client:
        enhanced = np.concatenate(list(client.stream(cut(noisy, places), rate, channels)))
    np.testing.assert_allclose(enhanced, engine.enhance(noisy, rate), atol=1e-5)


def spoken(noisy: Waveform) -> Iterator[Waveform]:
    """A quarter of a second at a time, with time for an answer between two."""
    for start in range(0, len(noisy), 4_000):
        time.sleep(0.02)
        yield noisy[start : start + 4_000]


@pytest.mark.parametrize("lost_at", [1, 3, 6])
def test_a_client_that_was_cut_off_goes_on_where_it_was(
    here: str, engine: Engine, monkeypatch: pytest.MonkeyPatch, lost_at: int
) -> None:
    """The connection breaks in the middle, messages under way are lost, and the output is the same."""
    noisy, count = noise(80_000), 0
    heard = _Line._heard

    def losing(line: _Line, samples: Waveform) -> Waveform:
        nonlocal count
        count += 1
        if count % 7 == lost_at:
            assert line._socket is not None
            line._socket.socket.close()  # without a farewell, and what was just received is lost as well
            raise OSError("cut off")
        return heard(line, samples)

    monkeypatch.setattr(_Line, "_heard", losing)
    with Client(here) as client:
        enhanced = np.concatenate(list(client.stream(spoken(noisy), 16_000)))
    assert count > lost_at
    np.testing.assert_allclose(enhanced, engine.enhance(noisy, 16_000), atol=1e-5)


def test_16_bit_samples_go_in_and_out(here: str, engine: Engine) -> None:
    """The default encoding is rounded to its steps, and nothing else."""
    noisy = noise(16_000)
    with Client(here) as client:
        enhanced = np.concatenate(list(client.stream([noisy], 16_000, encoding="s16le")))
    np.testing.assert_allclose(enhanced, engine.enhance(noisy, 16_000), atol=3 / 2**15)


def test_output_that_is_not_acknowledged_holds_the_stream_up(
    versions: Versions, run_here: Callable, config_of: Callable[[Version], ServiceConfig]
) -> None:
    """Beyond the window nothing is processed; an acknowledgement lets it go on; input that runs ahead is refused."""
    config = config_of(versions[0])
    narrow = config.model_copy(update={"limits": config.limits.model_copy(update={"window_s": 1.0})})
    second = encoded(noise(16_000), "f32le")
    with run_here(Service(), narrow) as address, opened(address) as socket:
        assert said(socket, "started")["window"] == 16_000
        socket.send(second)
        heard = len(socket.recv(10)) // 4
        socket.send(second[: len(second) // 2])
        heard += len(socket.recv(10)) // 4
        socket.send(second[: len(second) // 2])
        with pytest.raises(TimeoutError):
            socket.recv(0.3)
        socket.send(json.dumps({"type": "ack", "received": heard}))
        assert len(socket.recv(10)) // 4 == 8_000
        socket.send(second)
        socket.recv(10)
        socket.send(second + second[:400])
        assert said(socket, "error")["code"] == "overrun"


def slow(stream: Stream, pause_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stream take its time over each chunk."""
    feed = stream.feed

    def fed(samples: Waveform) -> Waveform:
        time.sleep(pause_s)
        return feed(samples)

    monkeypatch.setattr(stream, "feed", fed)


def test_chunks_that_go_out_late_are_counted(
    versions: Versions, run_here: Callable, config_of: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later after their arrival than they last: of a slow network all, of a fast one none."""
    service = Service()
    with run_here(service, config_of(versions[0])) as address:
        for pause, misses in ((0.0, 0), (0.15, 4)):
            with opened(address) as socket:
                said(socket, "started")
                (place,) = [place for place in service.streams._places.values() if place.talk is not None]
                slow(place.session._stream, pause, monkeypatch)
                for _ in range(4):
                    socket.send(encoded(noise(1600 if misses else 160_000 // 8), "f32le"))
                    socket.recv(10)
                socket.send('{"type": "end"}')
                summary = said(socket, "ended")
                assert (summary["chunks"], summary["deadline_misses"]) == (4, misses)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["{}"], "bad_message"),
        (["null, {"], "bad_message"),
        ([b"\0\0"], "bad_message"),
        (['{"type": "end"}'], "bad_message"),
        (['{"type": "start", "sample_rate": 16000, "channels": 9}'], "bad_message"),
        (['{"type": "start", "sample_rate": 16000, "surprise": 1}'], "bad_message"),
        (['{"type": "start", "sample_rate": 10}'], "bad_audio"),
        (['{"type": "resume", "session": "guessed", "received": 0}'], "unknown_session"),
        (['{"type": "start", "sample_rate": 16000}', b"\0"], "bad_audio"),
        (['{"type": "start", "sample_rate": 16000}', '{"type": "ack", "received": 1}'], "bad_audio"),
        (['{"type": "start", "sample_rate": 16000}', '{"type": "start", "sample_rate": 16000}'], "bad_message"),
        (['{"type": "start", "sample_rate": 16000, "encoding": "f32le"}', b"\0\0\xc0\x7f"], "bad_audio"),
        (['{"type": "start", "sample_rate": 16000, "encoding": "f32le"}', b"\xff\xff\x7f\x7f"], "bad_audio"),
    ],
)
def test_a_bad_message_is_answered_with_its_reason(here: str, messages: list[str | bytes], code: str) -> None:
    """A text message with one paragraph and a code, then the connection is closed."""
    with connect("ws" + here.removeprefix("http") + "/v1/stream", proxy=None) as socket:
        for message in messages:
            socket.send(message)
        if len(messages) > 1:
            said(socket, "started")
        error = said(socket, "error")
        assert error["code"] == code and "\n" not in error["error"]
        with pytest.raises(Exception, match="1008"):
            socket.recv(10)


def test_a_stream_that_failed_gives_its_place_back(here: str) -> None:
    """The other streams go on."""
    with Client(here) as client:
        with pytest.raises(ServiceRefused):
            list(client.stream([noise(99)], 10))
        assert len(list(client.stream([noise(99)], 16_000))) > 0


def test_a_network_that_is_not_causal_does_not_stream() -> None:
    """The message says where to send the recording instead."""
    with pytest.raises(BadSetting, match="/v1/enhance"):
        Engine(MpSenet.Config(channels=4, blocks=1).build()).stream(16_000)


def test_places_are_few_and_lost_ones_are_given_away(engine: Engine, versions: Versions) -> None:
    """Beyond `max_streams` a stream is refused with the time to come back; what nobody resumes is forgotten."""
    now, limits = 0.0, Limits(max_streams=1, resume_s=30.0)
    streams = Streams(clock=lambda: now)

    def session() -> Session:
        return Session(engine.stream(16_000), StreamStart(sample_rate=16_000), ServedVersion.of(versions[0]), 10.0)

    place = streams.open(session(), limits)
    streams.leave(place)
    now = 29.0
    with pytest.raises(Refused, match="up to 1") as refused:
        streams.open(session(), limits)
    assert refused.value.status == 429 and refused.value.retry_after_s
    now = 31.0
    streams.open(session(), limits)
    assert len(streams) == 1


def test_a_chunk_does_not_wait_behind_files(
    versions: Versions, run_here: Callable, config_of: Callable[[Version], ServiceConfig]
) -> None:
    """Every thread that files have waits; a stream goes on."""
    service, go = Service(), threading.Event()
    with run_here(service, config_of(versions[0])) as address, opened(address) as socket:
        said(socket, "started")
        for _ in range(THREADS):
            service._threads.submit(go.wait, 60)
        try:
            socket.send(encoded(noise(16_000), "f32le"))
            assert len(socket.recv(30)) > 0
        finally:
            go.set()


def test_nothing_comes_behind_the_end_of_a_stream(
    versions: Versions, run_here: Callable, config_of: Callable[[Version], ServiceConfig], monkeypatch
) -> None:
    """A second end is refused; messages without a sample count for nothing."""
    service = Service()
    with run_here(service, config_of(versions[0])) as address, opened(address) as socket:
        said(socket, "started")
        (place,) = service.streams._places.values()
        slow(place.session._stream, 0.5, monkeypatch)
        for message in (b"", b"", encoded(noise(1600), "f32le"), '{"type": "end"}', '{"type": "end"}'):
            socket.send(message)
        assert said(socket, "error")["code"] == "bad_message" and place.session.chunks <= 1


def test_of_two_clients_that_resume_a_stream_one_goes_on(engine: Engine, versions: Versions) -> None:
    """At the same moment, while the conversation that they take over is still ending."""
    streams, limits = Streams(), Limits()
    start, version = StreamStart(sample_rate=16_000), ServedVersion.of(versions[0])
    place = streams.open(Session(engine.stream(16_000), start, version, 10.0), limits)
    talking, most = 0, 0

    async def talk(place: Place) -> None:
        nonlocal talking, most
        me = place.talk = asyncio.current_task()
        talking += 1
        most = max(most, talking)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)  # a chunk that is under way is waited for
            talking -= 1
            if place.talk is me:
                streams.leave(place)

    async def resumed() -> None:
        await talk(await streams.take_over(StreamResume(session=place.session.id, received=0), limits))

    async def scenario() -> list[bool]:
        old = asyncio.create_task(talk(place))
        await asyncio.sleep(0)
        clients = [asyncio.create_task(resumed()) for _ in range(2)]
        await asyncio.sleep(0.5)
        found = [task.done() for task in (old, *clients)]
        for client in clients:
            client.cancel()
        await asyncio.gather(old, *clients, return_exceptions=True)
        return found

    assert asyncio.run(scenario()) in ([True, True, False], [True, False, True]) and most == 1


def test_chunks_that_wait_pass_together(
    versions: Versions, engine: Engine, run_here: Callable, config_of: Callable[[Version], ServiceConfig], monkeypatch
) -> None:
    """A stream that fell behind catches up: fewer calls of the network than chunks, and the same samples."""
    service, noisy, calls = Service(), noise(16_000), []
    with run_here(service, config_of(versions[0])) as address, opened(address) as socket:
        said(socket, "started")
        (place,) = service.streams._places.values()
        slow(place.session._stream, 0.2, monkeypatch)
        feed = place.session._stream.feed
        monkeypatch.setattr(place.session._stream, "feed", lambda samples: calls.append(len(samples)) or feed(samples))
        for start in range(0, len(noisy), 800):
            socket.send(encoded(noisy[start : start + 800], "f32le"))
        socket.send('{"type": "end"}')
        heard = b""
        while isinstance(message := socket.recv(30), bytes):
            heard += message
    assert json.loads(message)["chunks"] == 20 and len(calls) < 20 and sum(calls) == 16_000
    np.testing.assert_allclose(np.frombuffer(heard, "<f4")[:, None], engine.enhance(noisy, 16_000), atol=1e-5)
