"""Ten thousand requests that mean no good, and the service afterwards. The same seeds each time."""

import io
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import psutil
import pytest
import soundfile

from serving.messages import ServiceConfig
from serving.replica import Service
from training.registry import Version

FORMATS = (
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("MP3", None),
    ("AIFF", "PCM_24"),
)
PATHS = (
    "/v1/enhance",
    "/v1/jobs",
    "/v1/jobs/x",
    "/v1/jobs/{}/result",
    "/v1/models",
    "/../etc/passwd",
    "/%00",
    "/v1//x",
)
WORDS = ("", "\0", "../" * 9, "file:///etc/passwd", "1e999", "nan", "-1", "٣", "{}", "[" * 999, "a" * 9000, "%s%n")


def sounds() -> list[bytes]:
    """A tenth of a second in each format."""
    samples = np.random.default_rng(0).normal(0, 0.1, (1600, 1))
    files = []
    for format, subtype in FORMATS:
        file = io.BytesIO()
        soundfile.write(file, samples, 16_000, format=format, subtype=subtype)
        files.append(file.getvalue())
    return files


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, cut off, repeated, set to extremes; most often near the header."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(min(len(changed), chance.choice((64, 64, 4096)))) if changed else 0
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                changed[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
            case 2:
                del changed[chance.randrange(len(changed) + 1) :]
            case 3:
                changed[at:at] = changed[: chance.randrange(200)]
            case 4:
                del changed[at : at + chance.randrange(1, 40)]
    return bytes(changed)


def hostile(chance: random.Random) -> Iterator[dict]:
    """Requests without end."""
    files = sounds()
    while True:
        word = chance.choice(WORDS)
        match chance.randrange(8):
            case 0:
                yield {"method": chance.choice(("GET", "POST", "DELETE", "PUT")), "url": chance.choice(PATHS)}
            case 1:
                name = chance.choice(("wet", "tier", "steps", "format", "max_suppression_db", "downmix"))
                yield {"method": "POST", "url": "/v1/enhance", "params": {name: word}, "content": files[0]}
            case 2:
                asked = {"address": word, "options": chance.choice(({}, {"wet": word}, word))}
                yield {"method": "POST", "url": "/v1/jobs", "json": asked}
            case 3:
                body = mutated(
                    b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + files[0] + b"\r\n--x--", chance
                )
                headers = {"Content-Type": "multipart/form-data; boundary=" + chance.choice(("x", "", '"'))}
                yield {"method": "POST", "url": "/v1/enhance", "content": body, "headers": headers}
            case _:
                yield {"method": "POST", "url": "/v1/enhance", "content": mutated(chance.choice(files), chance)}


def storm(
    requests: int, run_here: Callable, config: ServiceConfig, measured_after: int
) -> tuple[Counter[int], float, list[str]]:
    """Statuses, growth of the process in MB after the first ones, and what was answered with 5xx."""
    statuses: Counter[int] = Counter()
    broken: list[str] = []
    me, before = psutil.Process(os.getpid()), 0.0
    with run_here(Service(), config) as address, httpx.Client(base_url=address, timeout=20) as client:
        for number, request in zip(range(requests), hostile(random.Random(0)), strict=False):
            if number == measured_after:
                before = me.memory_info().rss / 1e6
            response = client.request(**request)
            statuses[response.status_code] += 1
            if response.status_code >= 500:
                broken.append(f"{number}: {request!r:.300} {response.text:.300}")
        grown = me.memory_info().rss / 1e6 - before
        good = client.post("/v1/enhance", content=sounds()[0])
        assert good.status_code == 200 and client.get("/healthz").status_code == 200
    return statuses, grown, broken


def test_a_few_hundred_hostile_requests_are_all_answered(
    versions: tuple[Version, Version], run_here: Callable, config_of: Callable[[Version], ServiceConfig]
) -> None:
    """Never with 5xx, never with silence; and the service goes on."""
    statuses, _, broken = storm(300, run_here, config_of(versions[0]), 0)
    assert not broken
    assert statuses[200] and statuses[422] and statuses[413] and statuses[404]


@pytest.mark.long
def test_ten_thousand_hostile_requests_leave_no_trace(
    versions: tuple[Version, Version], run_here: Callable, config_of: Callable[[Version], ServiceConfig]
) -> None:
    """No 5xx, no hang, and memory stays where it was after the first thousands."""
    statuses, grown, broken = storm(10_000, run_here, config_of(versions[0]), 3_000)
    print(dict(statuses), f"grew by {grown:.0f} MB")
    assert not broken
    assert grown < 100
