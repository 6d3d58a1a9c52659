"""Neighbouring rows are fetched together, and are the rows that the corpus gives."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from simulation import storage
from simulation.corpus import Corpus
from simulation.degradations.base import Mixture
from simulation.errors import BadAudio, CorpusDamaged
from simulation.manifest import Measured, QuarantinedRow, Row
from simulation.shards import MOST_TOGETHER, commit, pack, stretch

ROWS_PER_SHARD, SHARDS = 6, 4
SET_ASIDE = {3, 12}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Four shards of six short rows of noise, two of them in quarantine."""
    address, records = storage.normal(str(tmp_path)), []
    for shard in range(SHARDS):
        numbers = range(shard * ROWS_PER_SHARD, (shard + 1) * ROWS_PER_SHARD)
        good = [rendered(number) for number in numbers if number not in SET_ASIDE]
        bad = [QuarantinedRow(id=f"train-{number:08d}", reason="silent") for number in numbers if number in SET_ASIDE]
        tar, record = pack(shard, good, bad, 16)
        commit(address, tar, record)
        records.append(record)
    scenario = SimpleNamespace(rows_per_shard=ROWS_PER_SHARD, sample_rate=16_000)
    return Corpus(address, SimpleNamespace(scenario=scenario), tuple(records))  # type: ignore[arg-type]


def rendered(number: int) -> tuple[Row, Mixture, Measured]:
    """A row of noise."""
    noise = np.random.default_rng(number).uniform(-0.5, 0.5, (2, 300 + number)).astype(np.float32)
    row = Row(
        index=number,
        id=f"train-{number:08d}",
        split="train",
        case="all",
        speech="one",
        speaker="one",
        noise=None,
        room=None,
        operations=(),
    )
    return row, Mixture(noise[0], noise[1], 16_000), Measured(samples=300 + number, gain=1.0, peak=0.5)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Every ranged read, in order."""
    calls: list[tuple[str, int, int]] = []
    read_range = storage.read_range

    def counted(address: str, start: int, size: int) -> bytes:
        calls.append((address, start, size))
        return read_range(address, start, size)

    monkeypatch.setattr(storage, "read_range", counted)
    return calls


def test_rows_are_those_of_the_corpus(corpus: Corpus) -> None:
    """In any order, by several threads, those in quarantine refused alike."""
    nearby = corpus.nearby(2)
    assert (nearby.rows, nearby.stretch, nearby.most_quarantined) == (24, 6, 2)
    numbers = [int(each) for each in np.random.default_rng(0).permutation(24) if each not in SET_ASIDE]
    with ThreadPoolExecutor(4) as pool:
        for number, (name, mixture) in zip(numbers, pool.map(nearby.row, numbers), strict=True):
            there, wanted = corpus.row(number)
            assert name == there and np.array_equal(mixture.noisy, wanted.noisy)
            assert np.array_equal(mixture.clean, wanted.clean)
    for number in SET_ASIDE:
        with pytest.raises(BadAudio, match="silent"):
            nearby.row(number)


def test_a_stretch_is_one_request(corpus: Corpus, fetched: list) -> None:
    """However many threads ask for its rows; only what holds rows is fetched."""
    nearby = corpus.nearby(SHARDS)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(nearby.row, [each for each in range(24) if each not in SET_ASIDE] * 3))
    assert len(fetched) == SHARDS
    spans = [entry for shard in corpus.shards for entry in shard.entries]
    assert sum(size for *_, size in fetched) < sum(s.clean.size + s.noisy.size + 2048 for s in spans)


def test_what_was_used_longest_ago_is_dropped(corpus: Corpus, fetched: list) -> None:
    """Two are kept: the third pushes out the first, not the one that was asked for since."""
    nearby = corpus.nearby(2)
    for number in (0, 6, 1, 13, 2):
        nearby.row(number)
    assert len(fetched) == 3
    nearby.row(7)
    assert len(fetched) == 4


def test_a_row_that_came_broken_is_read_again_by_itself(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of an object comes without a checksum: the row is right in the store, and right at last."""
    read_range, calls = storage.read_range, []

    def broken_once(address: str, start: int, size: int) -> bytes:
        calls.append(size)
        data = read_range(address, start, size)
        return bytes(len(data)) if len(calls) == 1 else data

    monkeypatch.setattr(storage, "read_range", broken_once)
    _, mixture = corpus.nearby(2).row(8)
    assert np.array_equal(mixture.noisy, corpus.row(8)[1].noisy)
    assert calls[1] < calls[0]


def test_a_missing_shard_is_an_answer(corpus: Corpus) -> None:
    """As where rows are read one by one."""
    storage.delete(storage.join(corpus.address, corpus.shards[1].tar))
    with pytest.raises(CorpusDamaged, match="Simulate again"):
        corpus.nearby(2).row(8)


def test_the_length_of_a_row_in_quarantine_is_that_of_the_next(corpus: Corpus) -> None:
    """As that stands in for it."""
    numbers = [number + (number in SET_ASIDE) for number in range(24)]
    assert corpus.lengths.tolist() == corpus.nearby(2).lengths.tolist() == [300 + number for number in numbers]


def test_large_shards_are_fetched_in_even_parts() -> None:
    """None above the most that is fetched at once, and small shards whole."""
    assert [stretch(rows) for rows in (1, 32, 64, 100, 128, 10_000)] == [1, 32, 64, 50, 64, 64]
    assert MOST_TOGETHER == 64


def test_a_stretch_may_lie_in_two_shards(corpus: Corpus) -> None:
    """Where a shard's rows are no multiple of it: one request for each shard."""
    (_, first, end), (_, second, other_end) = corpus.places(range(4, 8))
    assert 0 < first < end and 0 < second < other_end
    assert corpus.places(range(3, 4)) == []
