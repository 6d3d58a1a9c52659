import hashlib
import io
import json
import logging
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simulation import audio, shards, storage
from simulation.build import render_shard
from simulation.draw import Plan, draw
from simulation.errors import CorpusDamaged, NotReproducible
from simulation.manifest import CorpusRecord, Entry, ShardRecord, prefix_digests
from simulation.render import Library, render
from simulation.scenario import Scenario

Tiny = Callable[..., Scenario]
Synthetic = Callable[[Scenario], tuple[Plan, Library]]


@pytest.fixture
def shard(tiny_scenario: Tiny, synthetic: Synthetic) -> tuple[bytes, ShardRecord]:
    """Tar and record of a shard of four rows."""
    plan, library = synthetic(tiny_scenario())
    return render_shard(plan, "train", 0, library)


def _record(plan_shards: list[tuple[bytes, ShardRecord]], scenario: Scenario) -> CorpusRecord:
    """A corpus of these shards, as `build` would write it."""
    lines = tuple(shards.committed_shard(record.canonical(), record) for _, record in plan_shards)
    return CorpusRecord(
        scenario=scenario,
        plan_digest="0" * 64,
        sources_digest="0" * 64,
        seed=0,
        render_version=1,
        split="train",
        shards=lines,
        corpus_digest=prefix_digests(lines)[-1],
        libraries={},
    )


# ---- the tar ---------------------------------------------------------------------------------------------------------


def test_equal_rows_make_equal_tars_in_any_order(tiny_scenario: Tiny, synthetic: Synthetic) -> None:
    """Packed forwards or backwards, by this library or another, a shard has the same bytes and the same record."""
    plan, library = synthetic(tiny_scenario())
    rows = [draw(plan, "train", index) for index in range(4)]
    rendered = [(row, *render(row, plan.scenario, library)) for row in rows]
    packed = shards.pack(0, rendered, [], 16)
    assert packed == shards.pack(0, rendered[::-1], [], 16)
    assert packed == render_shard(plan, "train", 0, synthetic(plan.scenario)[1])


def test_members_carry_no_circumstance(shard: tuple[bytes, ShardRecord]) -> None:
    """Sorted ustar members without owner, time or local mode."""
    data, record = shard
    assert data[257:263] == b"ustar\0"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names) and len(names) == 8
    facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members}
    assert facts == {(0, 0, 0, "", "", 0o644)}
    assert record.tar == f"shard-000000-{hashlib.sha256(data).hexdigest()}.tar"


def test_spans_say_where_the_flac_files_lie(shard: tuple[bytes, ShardRecord]) -> None:
    """Offset and size cut out exactly what tarfile would read, and it decodes to as many samples as measured."""
    data, record = shard
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for entry in record.entries:
            for side in ("clean", "noisy"):
                span = getattr(entry, side)
                file = tar.extractfile(f"{entry.row.id}.{side}.flac")
                cut = data[span.offset : span.offset + span.size]
                assert file is not None and file.read() == cut
                assert len(audio.read(cut, "x")[0]) == entry.measured.samples


def test_a_commit_object_holds_no_address_and_no_version(shard: tuple[bytes, ShardRecord]) -> None:
    """Only identity: the record survives JSON, and names neither places nor libraries."""
    _, record = shard
    text = record.canonical().decode()
    assert ShardRecord.parse(text, "x") == record
    assert "file://" not in text and "s3://" not in text and "version" not in text
    assert set(json.loads(text)) == {"shard", "tar", "sha256", "bytes", "entries", "quarantined"}
    assert all(isinstance(entry, Entry) for entry in record.entries)


# ---- the commit ------------------------------------------------------------------------------------------------------


def test_committing_the_same_shard_again_is_done_already(tmp_path: Path, shard: tuple[bytes, ShardRecord]) -> None:
    """The second writer finds equal bytes, gets the same digest and touches nothing."""
    address = f"file://{tmp_path}/c"
    first = shards.commit(address, *shard)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").iterdir()}
    assert shards.commit(address, *shard) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "c").iterdir()} == before
    assert shards.committed(address) == {0: first}


def test_other_values_for_the_same_shard_are_not_reproducible(tmp_path: Path, shard: tuple[bytes, ShardRecord]) -> None:
    """A commit that differs is an error, and what lay there first stays."""
    address, (tar, record) = f"file://{tmp_path}", shard
    shards.commit(address, tar, record)
    other_tar, other = shards.pack(0, [], [], 16)
    with pytest.raises(NotReproducible, match="Nothing was overwritten"):
        shards.commit(address, other_tar, other)
    assert (tmp_path / "shard-000000.json").read_bytes() == record.canonical()


def test_the_tar_is_written_before_its_commit(
    tmp_path: Path, shard: tuple[bytes, ShardRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker killed between the two leaves a tar that nobody trusts; the next one finishes the shard."""
    address, create = f"file://{tmp_path}", storage.create

    def killed(at: str, data: bytes) -> bool:
        if at.endswith(".json"):
            raise KeyboardInterrupt
        return create(at, data)

    monkeypatch.setattr(storage, "create", killed)
    with pytest.raises(KeyboardInterrupt):
        shards.commit(address, *shard)
    assert [path.suffix for path in tmp_path.iterdir()] == [".tar"]
    assert shards.committed(address) == {}
    monkeypatch.setattr(storage, "create", create)
    shards.commit(address, *shard)
    assert list(shards.committed(address)) == [0]


def test_a_commit_without_its_tar_is_unfinished(tmp_path: Path, shard: tuple[bytes, ShardRecord]) -> None:
    """It will be rendered again, which puts the tar back under its name."""
    address = f"file://{tmp_path}"
    line = shards.commit(address, *shard)
    (tmp_path / shard[1].tar).unlink()
    assert shards.committed(address) == {}
    assert shards.commit(address, *shard) == line
    assert shards.committed(address) == {0: line}


def test_a_damaged_tar_is_found_when_its_shard_is_rendered_again(
    tmp_path: Path, shard: tuple[bytes, ShardRecord]
) -> None:
    """A tar whose bytes are not what its name says is named, not built upon."""
    (tmp_path / shard[1].tar).write_bytes(shard[0][:-1])
    with pytest.raises(CorpusDamaged, match=r"shard-000000-.*Delete it"):
        shards.commit(f"file://{tmp_path}", *shard)


def test_a_damaged_commit_object_stops_a_resume(tmp_path: Path, shard: tuple[bytes, ShardRecord]) -> None:
    """It is named with what to do."""
    shards.commit(f"file://{tmp_path}", *shard)
    (tmp_path / "shard-000000.json").write_bytes(b"{")
    with pytest.raises(CorpusDamaged, match=r"shard-000000\.json.*Delete this object"):
        shards.committed(f"file://{tmp_path}")


# ---- corpus.json -----------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tiny_scenario: Tiny, synthetic: Synthetic) -> tuple[list[tuple[bytes, ShardRecord]], Scenario]:
    """Three shards of one split."""
    plan, library = synthetic(tiny_scenario())
    return [render_shard(plan, "train", number, library) for number in range(3)], plan.scenario


@pytest.mark.parametrize("order", [(1, 3, 2), (3, 1, 2), (2, 2, 3), (3, 3, 3)])
def test_of_several_sizes_the_largest_stands(
    tmp_path: Path, three: tuple[list[tuple[bytes, ShardRecord]], Scenario], order: tuple[int, ...]
) -> None:
    """Whoever publishes last: a smaller corpus never hides a larger one."""
    packed, scenario = three
    for size in order:
        shards.publish(f"file://{tmp_path}", _record(packed[:size], scenario))
    published = CorpusRecord.parse((tmp_path / "corpus.json").read_bytes(), "x")
    assert len(published.shards) == 3


def test_a_slow_writer_of_a_small_corpus_cannot_undo_a_large_one(
    tmp_path: Path, three: tuple[list[tuple[bytes, ShardRecord]], Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The medium one reads, the large one publishes completely, the medium one then writes: the large one stands."""
    (packed, scenario), address, replace = three, f"file://{tmp_path}", storage.replace
    shards.publish(address, _record(packed[:1], scenario))

    def overtaken(at: str, data: bytes) -> None:
        monkeypatch.setattr(storage, "replace", replace)
        shards.publish(address, _record(packed[:3], scenario))
        replace(at, data)

    monkeypatch.setattr(storage, "replace", overtaken)
    shards.publish(address, _record(packed[:2], scenario))
    assert storage.replace is replace
    assert len(CorpusRecord.parse((tmp_path / "corpus.json").read_bytes(), "x").shards) == 3


def test_a_corpus_of_other_shards_is_refused(
    tmp_path: Path, three: tuple[list[tuple[bytes, ShardRecord]], Scenario]
) -> None:
    """Two corpora at one address must be prefixes of each other."""
    packed, scenario = three
    shards.publish(f"file://{tmp_path}", _record(packed[:2], scenario))
    with pytest.raises(NotReproducible, match="other shards"):
        shards.publish(f"file://{tmp_path}", _record([packed[1], packed[0], packed[2]], scenario))


def test_prefix_digests_depend_on_every_shard_and_their_order(
    three: tuple[list[tuple[bytes, ShardRecord]], Scenario],
) -> None:
    """The digest of a prefix is that of the smaller corpus; swapping two shards is another corpus."""
    packed, scenario = three
    whole, smaller = _record(packed, scenario), _record(packed[:2], scenario)
    assert whole.prefix(2) == smaller
    assert prefix_digests(whole.shards)[1:3] == prefix_digests(smaller.shards)[1:]
    assert (
        len({digest for order in (packed, packed[::-1]) for digest in prefix_digests(_record(order, scenario).shards)})
        == 7
    )
    assert np.isclose(whole.hours, 3 * smaller.prefix(1).hours, rtol=0.5)


def test_a_store_without_conditional_writes_takes_one_writer_and_says_so(
    tmp_path: Path,
    shard: tuple[bytes, ShardRecord],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Under the lock commits work as ever, and the log has the warning."""
    monkeypatch.setattr(storage, "honours_conditional_writes", lambda address: False)
    address = f"file://{tmp_path}"
    with caplog.at_level(logging.WARNING), storage.writer_lock(address):
        line = shards.commit(address, *shard)
        assert shards.commit(address, *shard) == line
    assert "single writer" in caplog.text
