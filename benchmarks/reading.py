"""What training's order costs a store, beside a wholly random order with a read for each row: requests, bytes, time.

Over a corpus of thousands of short rows, in a folder and in a bucket of moto's server; every request is counted at the
door to storage. Shards are of 32 rows; what is read of them is told as a multiple of the rows' own bytes.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from simulation import storage

ROWS, ROWS_PER_SHARD = 3072, 32
BATCH = 16
STEPS = ROWS // BATCH
"""An epoch."""


class Rows:
    """Neighbouring rows of a corpus, one read for each."""

    def __init__(self, corpus: Any) -> None:
        self.corpus = corpus

    def __getattr__(self, name: str) -> Any:
        """As the corpus's."""
        return getattr(self.corpus, name)

    def nearby(self, kept: int) -> "Rows":
        """Nothing is kept."""
        return self


def written(address: str) -> Any:
    """A corpus of noise at this address, as `simulation.shards` packs and commits it."""
    from types import SimpleNamespace

    from simulation.corpus import Corpus
    from simulation.degradations.base import Mixture
    from simulation.manifest import Measured, Row
    from simulation.shards import commit, pack

    nothing: dict[str, Any] = {"speaker": "x", "noise": None, "room": None, "operations": ()}
    records = []
    for shard in range(ROWS // ROWS_PER_SHARD):
        rendered = []
        for number in range(shard * ROWS_PER_SHARD, (shard + 1) * ROWS_PER_SHARD):
            side = np.random.default_rng(number).uniform(-0.5, 0.5, 4000).astype(np.float32)
            row = Row(index=number, id=f"train-{number:08d}", split="train", case="x", speech="x", **nothing)
            rendered.append((row, Mixture(side, side, 16_000), Measured(samples=len(side), gain=1.0, peak=0.5)))
        tar, record = pack(shard, rendered, (), 16)
        commit(address, tar, record)
        records.append(record)
    scenario = SimpleNamespace(rows_per_shard=ROWS_PER_SHARD, sample_rate=16_000)
    return Corpus(address, SimpleNamespace(scenario=scenario), tuple(records))  # type: ignore[arg-type]


@contextmanager
def counted() -> Iterator[list[int]]:
    """The size of every ranged read while the body runs."""
    sizes, read_range = [], storage.read_range

    def counting(address: str, start: int, size: int) -> bytes:
        sizes.append(size)
        return read_range(address, start, size)

    with patch.object(storage, "read_range", counting):
        yield sizes


def cost(corpus: Any, world: int) -> dict[str, float]:
    """Of a batch of all workers together, over an epoch."""
    from benchmarks.training import timed
    from training.batches import Batches

    recipe = timed("smoke", steps=STEPS, batch_size=BATCH, segment_s=0.25)
    own = sum(entry.noisy.end - entry.clean.offset for entry in corpus.entries) / corpus.rows * BATCH
    began = time.perf_counter()
    with counted() as sizes:
        for rank in range(world):
            with closing(Batches(corpus, recipe).stream(0, rank, world)) as stream:
                for _ in stream:
                    pass
    return {
        "requests": len(sizes) / STEPS,
        "bytes": sum(sizes) / STEPS / own,
        "ms": (time.perf_counter() - began) / STEPS * 1000,
    }


def compare(folder: str) -> dict[str, Any]:
    """Both orders, in a folder and in a bucket, for one worker and for four."""
    from moto.server import ThreadedMotoServer

    from simulation.bucket import client
    from training import batches

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    client().create_bucket(Bucket="bench")
    found: dict[str, Any] = {}
    for where, address in (("folder", storage.normal(folder)), ("bucket", "s3://bench/corpus")):
        corpus = written(address)
        for world in (1, 4):
            found[f"{where}, {world}"] = cost(corpus, world)
        with patch.object(
            batches, "order", lambda seed, epoch, rows, _: np.random.default_rng(epoch).permutation(rows)
        ):
            found[f"{where}, random"] = cost(Rows(corpus), 1)
    server.stop()
    return found
