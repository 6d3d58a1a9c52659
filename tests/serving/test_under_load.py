import asyncio
import io
import threading
import time
from collections import Counter
from collections.abc import Callable

import httpx
import numpy as np
import pytest
import soundfile

from serving import wire
from serving.engine import Engine
from serving.messages import ServedVersion, ServiceConfig
from serving.replica import Service
from serving.verification import PROBE_RATE, probe
from training.registry import Version

CALLERS = 3
ROUNDING = 2.0 / 32768
"""Of 16-bit answers to equal requests; two versions differ by far more."""


class Load:
    """A few callers with one request after the other, as long as it lasts; every answer is compared with its version's.

    A caller whose connection broke or who was told 5xx asks again, as a client of an idempotent route may; what fails
    `ATTEMPTS` times has failed.
    """

    ATTEMPTS = 20

    def __init__(self, url: str, expected: dict[str, np.ndarray]) -> None:
        self.url, self.expected = url, expected
        self.answers: Counter[str] = Counter()
        self.failed: list[str] = []
        self.wrong: list[str] = []
        self.again: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._done, self._body = threading.Event(), wire.encode(probe(), PROBE_RATE, flac=False)[0]

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def until(self, answers: int, of: str, limit_s: float = 60.0) -> None:
        """So many more answers of a version."""
        wanted, end = self.answers[of] + answers, time.monotonic() + limit_s
        while self.answers[of] < wanted:
            assert time.monotonic() < end, (self.answers, self.again, self.failed)
            time.sleep(0.05)

    def _call(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as client:
            while not self._done.is_set():
                began = time.monotonic()
                self._one(client)
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def _one(self, client: httpx.Client) -> None:
        for _ in range(self.ATTEMPTS):
            try:
                answer = client.post("/v1/enhance", content=self._body, headers={"Content-Type": "audio/wav"})
            except httpx.HTTPError as error:
                self.again[type(error).__name__] += 1
                time.sleep(0.5)
                continue
            if answer.status_code < 500:
                break
            self.again[f"{answer.status_code}"] += 1
            time.sleep(0.5)
        else:
            self.failed.append("no answer")
            return
        if answer.status_code != 200:
            self.failed.append(f"{answer.status_code}: {answer.text[:200]}")
            return
        name = answer.headers["X-Unmuffle-Version"]
        samples, _ = soundfile.read(io.BytesIO(answer.content), dtype="float32", always_2d=True)
        self.answers[name] += 1
        if np.abs(samples - self.expected[name]).max() > ROUNDING:
            self.wrong.append(name)


@pytest.mark.long
def test_versions_are_exchanged_under_load_and_nobody_is_failed(
    versions: tuple[Version, Version], config_of: Callable[[Version], ServiceConfig], run_here: Callable
) -> None:
    """There and back again, in place: every answer is that of the version its header names, the old ones as before."""
    service = Service()
    expected = {
        ServedVersion.of(each).name: Engine.load(each.address).enhance(probe(), PROBE_RATE) for each in versions
    }
    old, new = expected
    assert np.abs(expected[old] - expected[new]).max() > 100 * ROUNDING
    with run_here(service, config_of(versions[0])) as address, Load(address, expected) as load:
        for version, name in ((versions[0], old), (versions[1], new), (versions[0], old)):
            asyncio.run(service.reconfigure(config_of(version).model_dump(mode="json")))
            others = load.answers.total() - load.answers[name]
            load.until(350, name)
            assert load.answers.total() - load.answers[name] <= others + CALLERS  # those that were on their way
    assert load.answers.total() > 1000 and not load.failed and not load.wrong and not load.again
