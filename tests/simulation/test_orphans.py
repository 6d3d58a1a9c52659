"""Orphans: what counts as one, and that removing them takes nothing from a writer or a reader, however they race."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from simulation import orphans as orphans_module
from simulation import shards, storage
from simulation.bucket import client
from simulation.build import Built, render_shard
from simulation.corpus import Corpus, verify
from simulation.errors import NotThere
from simulation.manifest import ShardRecord
from simulation.orphans import orphans

DAY_S = 86400.0
LATER = time.time() + 2 * DAY_S
"""A time at which everything these tests write is two days old."""


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    if request.param == "folder":
        return storage.normal(str(tmp_path / "store"))
    return storage.join(request.getfixturevalue("s3_store"), "store")


@pytest.fixture
def shard(tiny_scenario: Callable[..., Any], synthetic: Callable[..., Any]) -> tuple[bytes, ShardRecord]:
    """Tar and record of a shard of four rows."""
    plan, library = synthetic(tiny_scenario())
    return render_shard(plan, "train", 0, library)


# ---- what is one -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_ray")
def test_a_finished_corpus_has_none(store: str, build_tiny: Callable[..., Built]) -> None:
    """However old it is; and what is not there is said."""
    built = build_tiny(store)
    assert orphans(built.address, 0.0, LATER) == []
    with pytest.raises(NotThere, match="Nothing lies below"):
        orphans(storage.join(store, "nowhere"), 0.0, LATER)


def test_whatever_a_lost_attempt_leaves_is_one_once_it_is_old(store: str, shard: tuple[bytes, ShardRecord]) -> None:
    """A tar without a commit, a tar that its shard's commit does not name, a temporary file; with their sizes."""
    tar, record = shard
    shards.commit(storage.join(store, "a"), tar, record)
    other = f"shard-000000-{'0' * 64}.tar"
    left = {f"a/{other}": b"other", f"b/{record.tar}": tar, "a/.unmuffle-partial-1": b"half"}
    for name, data in left.items():
        storage.replace(storage.join(store, name), data)
    found = orphans(store, DAY_S, LATER)
    assert {one.address.removeprefix(f"{store}/"): one.bytes for one in found} == {n: len(d) for n, d in left.items()}
    assert [one.kind for one in found] == ["temporary", "tar", "tar"]
    assert orphans(store, DAY_S) == []
    assert all(one.remove() for one in found)
    assert orphans(store, 0.0, LATER) == []
    assert storage.read(storage.join(store, "a", record.tar)) == tar


def test_the_tars_of_a_commit_that_cannot_be_read_are_kept(store: str, shard: tuple[bytes, ShardRecord]) -> None:
    """It might name them."""
    tar, record = shard
    shards.commit(store, tar, record)
    storage.replace(storage.join(store, "shard-000000.json"), b"{")
    assert orphans(store, 0.0, LATER) == []


def test_uploads_in_parts_are_as_old_as_their_last_part(s3_store: str) -> None:
    """What never ended is found with its bytes and given up; what a part came for just now is somebody's work."""
    bucket = s3_store.removeprefix("s3://")
    for key in ("a/begun", "a/half", "b/half"):
        upload = client().create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        if key != "a/begun":
            client().upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 1000)
    found = orphans(f"{s3_store}/a", DAY_S, LATER)
    assert [(one.address, one.kind, one.bytes) for one in found] == [
        (f"{s3_store}/a/begun", "upload", 0),
        (f"{s3_store}/a/half", "upload", 1000),
    ]
    assert [one.address for one in orphans(f"{s3_store}/b", DAY_S, LATER)] == [f"{s3_store}/b/half"]
    assert orphans(f"{s3_store}/b", DAY_S) == []
    assert all(one.remove() for one in found) and all(one.remove() for one in found)
    assert [one.address for one in storage.unfinished(s3_store)] == [f"{s3_store}/b/half"]


# ---- beside writers --------------------------------------------------------------------------------------------------


def _lost_tar(store: str, shard: tuple[bytes, ShardRecord]) -> orphans_module.Orphan:
    """The tar of an attempt that was killed before its commit, as an orphan."""
    storage.replace(storage.join(store, shard[1].tar), shard[0])
    (orphan,) = orphans(store, 0.0, LATER)
    return orphan


def _whole(store: str, shard: tuple[bytes, ShardRecord]) -> bool:
    return shards.committed(store).keys() == {0} and storage.read(storage.join(store, shard[1].tar)) == shard[0]


def test_a_tar_that_was_committed_since_is_not_touched(
    store: str, shard: tuple[bytes, ShardRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the removal a writer finished the shard: readers may be at it."""
    orphan = _lost_tar(store, shard)
    shards.commit(store, *shard)
    monkeypatch.delattr(storage, "delete")
    assert not orphan.remove()
    assert _whole(store, shard)


def test_a_tar_that_is_committed_while_it_goes_is_put_back(
    store: str, shard: tuple[bytes, ShardRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer had done everything, its last look included, when the removal came through."""
    orphan, delete = _lost_tar(store, shard), storage.delete

    def overtaken(address: str) -> None:
        shards.commit(store, *shard)
        delete(address)

    monkeypatch.setattr(storage, "delete", overtaken)
    assert not orphan.remove()
    assert _whole(store, shard)


def test_a_writer_whose_tar_went_before_its_commit_writes_it_again(
    store: str, shard: tuple[bytes, ShardRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had found the tar there and relied on it."""
    orphan, create, removed = _lost_tar(store, shard), storage.create, []

    def overtaken(address: str, data: bytes) -> bool:
        removed.append(orphan.remove())
        return create(address, data)

    monkeypatch.setattr(storage, "create", overtaken)
    shards.commit(store, *shard)
    assert removed == [True]
    assert _whole(store, shard)


def test_no_race_of_writers_and_collectors_loses_a_tar(
    tmp_path: Path, shard: tuple[bytes, ShardRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of each, forty times, with pauses of chance before every access to the store: each shard ends whole."""
    chance = random.Random(0)
    for name in ("stored", "exists", "read", "create", "replace", "delete"):
        plain = getattr(storage, name)

        def paused(*arguments: Any, plain: Callable[..., Any] = plain) -> Any:
            time.sleep(chance.choice((0, 0, 0.001, 0.004)))
            return plain(*arguments)

        monkeypatch.setattr(storage, name, paused)
    for turn in range(40):
        store = f"file://{tmp_path}/{turn}"
        orphan, start = _lost_tar(store, shard), threading.Barrier(4)

        def race(work: Callable[[], object], start: threading.Barrier = start) -> None:
            start.wait()
            work()

        works = [orphan.remove, orphan.remove] + [lambda store=store: shards.commit(store, *shard)] * 2
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(race, works))
        assert _whole(store, shard), turn


@pytest.mark.usefixtures("without_ray")
def test_collecting_all_the_time_does_not_disturb_a_build(tmp_path: Path, build_tiny: Callable[..., Built]) -> None:
    """A corpus is built over the tars of a lost attempt while a collector, told that all is old, runs in a circle."""
    store, done = str(tmp_path / "store"), threading.Event()
    first = build_tiny(store)
    for commit in Path(first.address.removeprefix("file://")).rglob("*.json"):
        commit.unlink()  # all its tars are orphans now

    def collect() -> int:
        count = 0
        while not done.is_set():
            with suppress(NotThere):  # at first it takes everything
                tars = [orphan for orphan in orphans(first.address, 0.0, LATER) if orphan.kind == "tar"]
                count += sum(orphan.remove() for orphan in tars)
        return count

    with ThreadPoolExecutor(1) as pool:
        removed = pool.submit(collect)
        time.sleep(0.05)
        second = build_tiny(store)
        done.set()
        assert removed.result() > 0
    assert second.digest == first.digest
    assert verify(second.address) == []
    assert Corpus.open(second.splits["train"].address).read(0).clean.any()
