import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest

from serving import wire
from serving.audit import Event
from serving.canary import CHECKS, Rules
from serving.deployer import LocalServe
from serving.messages import ServedVersion
from serving.steps import RolledBack, walk
from serving.traffic import BESIDE
from serving.verification import PROBE_RATE, probe
from training.registry import Version

QUICK = Rules(
    steps=(50, 100),
    mirrored_percent=50,
    checks=tuple(check for check in CHECKS if check.name != "quality"),
    patience_s=90,
)


def faulty(fault: str, sound: Callable) -> Any:
    """A Serve deployment that answers as a candidate does, but for its fault; classes of tests travel by value."""
    from ray import serve

    class Faulty:
        async def ask(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
            if fault == "crashing":
                os._exit(1)
            return 2 * sound(samples, sample_rate)

    return serve.deployment(Faulty, ray_actor_options={"num_cpus": 0})


@contextmanager
def callers(url: str, keys: int = 8) -> Iterator[Counter]:
    """Constant load by a few callers, each with one request after the other; counts answers by version and status."""
    seen: Counter = Counter()
    done = threading.Event()
    body, kind = wire.encode(probe(), PROBE_RATE, flac=False)

    def call(number: int) -> None:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            while not done.is_set():
                headers = {"Content-Type": kind, "X-Unmuffle-Key": f"{number}-{len(seen)}-{time.monotonic_ns()}"}
                answer = client.post("/v1/enhance", content=body, headers=headers)
                seen[answer.headers.get("X-Unmuffle-Version", "nobody"), answer.status_code] += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(keys)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        done.set()
        for thread in threads:
            thread.join()


@pytest.mark.long
@pytest.mark.parametrize(("fault", "check"), [("+6 dB", "level"), ("crashing", "answers")])
def test_a_faulty_candidate_is_rolled_back_by_live_requests_and_no_caller_is_failed(
    service, versions: tuple[Version, Version], fault: str, check: str
) -> None:
    """Within 200 mirrored requests; every caller gets an answer, and afterwards the champion gives all of them."""
    from ray import serve

    from serving.engine import Engine

    deployer, log = LocalServe(service.home), []
    champion = deployer.serving()
    candidate = next(each for each in versions if ServedVersion.of(each) != champion)
    sound = Engine.load(champion.address).enhance
    serve.run(faulty(fault, sound).bind(), name=BESIDE, route_prefix=None)
    try:
        with callers(service.url, 2) as seen, pytest.raises(RolledBack, match=f"{check}: failed on"):
            walk(candidate, QUICK, deployer, log.append)
    finally:
        serve.delete(BESIDE)
    assert {status for _, status in seen} == {200}
    assert {version for version, _ in seen} <= {champion.name, ServedVersion.of(candidate).name}
    last: Event = log[-1]
    assert last.what == "rolled back by the canary" and last.evidence.mirrored <= 200
    with callers(service.url, 2) as after:
        time.sleep(1)
    assert {version for version, _ in after} == {champion.name} and deployer.split() is None
