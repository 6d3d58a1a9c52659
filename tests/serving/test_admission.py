"""What one caller does must not cost the others their answers: slow bodies, large ones, questions after health."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from serving import replica
from serving.client import Client, ServiceUnreachable
from serving.messages import Limits, ServiceConfig
from serving.replica import THREADS, Service
from simulation.errors import VerificationFailed
from training.registry import Version

Versions = tuple[Version, Version]
ConfigOf = Callable[[Version], ServiceConfig]


def limited(config: ServiceConfig, **limits: float) -> ServiceConfig:
    """The same within other limits."""
    return config.model_copy(update={"limits": config.limits.model_copy(update=limits)})


def begun(address: str, declared: int, sent: bytes) -> socket.socket:
    """A body that has begun to come."""
    upload = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=30)
    head = f"POST /v1/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {declared}\r\n\r\n"
    upload.sendall(head.encode() + sent)
    return upload


def test_a_body_that_drips_is_given_up(versions: Versions, run_here: Callable, config_of: ConfigOf) -> None:
    """A byte now and then is no pause, and yet it does not hold a place for ever."""
    with run_here(Service(), limited(config_of(versions[0]), upload_idle_s=1.0)) as address:
        began, upload = time.monotonic(), begun(address, 1000, b"RIFF")
        upload.settimeout(0.2)
        answer = b""
        while not answer and time.monotonic() < began + 20:
            upload.sendall(b"x")
            try:
                answer = upload.recv(4096)
            except TimeoutError:
                continue
        upload.close()
    assert answer.startswith(b"HTTP/1.1 408")


def test_bodies_under_way_count_before_they_are_complete(
    versions: Versions, run_here: Callable, config_of: ConfigOf
) -> None:
    """Memory is bounded while bodies come in; what was held is free again when their clients have left."""
    service = Service()
    with run_here(service, limited(config_of(versions[0]), max_held_mb=1.0)) as address:
        upload = begun(address, 900_000, bytes(600_000))
        wait(lambda: service.admission.held_mb > 0.59)
        refused = httpx.post(f"{address}/v1/enhance", content=bytes(600_000))
        assert refused.status_code == 429 and refused.headers["Retry-After"]
        upload.close()
        wait(lambda: round(service.admission.held_mb, 6) == 0)
        assert httpx.post(f"{address}/v1/enhance", content=bytes(600_000)).status_code == 422


def wait(until: Callable[[], bool]) -> None:
    """A few seconds at most."""
    end = time.monotonic() + 20
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_health_is_tested_once_for_all_who_ask(
    versions: Versions, run_here: Callable, config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a few seconds, of one version; one that fails is tested again each time, and is never called sane."""
    tested: list[str] = []
    monkeypatch.setattr(replica, "self_test", lambda engine, who: tested.append(who))
    service = Service()
    with run_here(service, config_of(versions[0])) as address:
        assert [httpx.get(f"{address}/healthz").status_code for _ in range(5)] == [200] * 5
        assert len(tested) == 2  # when it was loaded, and when somebody asked
        asyncio.run(service.reconfigure(config_of(versions[1]).model_dump(mode="json")))
        assert httpx.get(f"{address}/healthz").json()["version"] == "denoise-16k/2" and len(tested) == 4

        def failing(engine: object, who: str) -> None:
            raise VerificationFailed("silence")

        monkeypatch.setattr(replica, "self_test", failing)
        monkeypatch.setattr(replica, "TESTED_S", 0.0)
        assert [httpx.get(f"{address}/healthz").status_code for _ in range(2)] == [503] * 2


def test_health_is_told_while_every_thread_waits_for_the_network(
    versions: Versions, run_here: Callable, config_of: ConfigOf
) -> None:
    """A replica that is only busy is not taken for one that is ill."""
    service, go = Service(), threading.Event()
    with run_here(service, config_of(versions[0])) as address:
        for _ in range(THREADS):
            service._threads.submit(go.wait, 60)
        try:
            assert httpx.get(f"{address}/healthz", timeout=30).status_code == 200
        finally:
            go.set()


def test_limits_say_how_many_replicas_serve_keeps() -> None:
    """One says nothing, so that a config file may; several are a number; a range is Serve's autoscaling."""
    from serving.app import application, scale

    assert scale(Limits()) == {} and scale(Limits(replicas=3)) == {"num_replicas": 3}
    elastic = Limits(replicas=2, most_replicas=5, requests_of_a_replica=3)
    version = {"use": "u", "version": "1", "network": "n", "address": "file:///x", "weights_sha256": "0"}
    config = ServiceConfig.parse({"version": version, "limits": elastic.model_dump()}, "a test's")
    told = application(config)._bound_deployment._deployment_config.autoscaling_config
    assert (told.min_replicas, told.max_replicas, told.target_ongoing_requests) == (2, 5, 3)


def test_a_request_whose_connection_broke_is_asked_again() -> None:
    """By our client, of whoever answers there by then; where nobody does, it says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            for says in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"):
                connection, _ = server.accept()
                connection.recv(4096)
                connection.sendall(says)
                connection.close()

        answering = threading.Thread(target=answer)
        answering.start()
        with Client(address) as client:
            assert client.models() == {}
        answering.join()
    with Client(address) as client, pytest.raises(ServiceUnreachable, match="unmuffle serve"):
        client.models()
