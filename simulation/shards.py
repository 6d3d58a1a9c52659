"""Mixtures <-> shards: byte-reproducible tars of FLAC pairs, and the commit that makes them exist.

A shard is two objects. `shard-<n>-<sha256>.tar` is written first; its name is its content, so writing it twice is
harmless. `shard-<n>.json`, the commit object, is created next, by a conditional write that never overwrites. Readers
trust commit objects only; a tar without one is what a lost worker left behind.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from simulation import audio, storage
from simulation.degradations.base import Mixture
from simulation.errors import BadSetting, CorpusDamaged, NotReproducible, NotThere
from simulation.manifest import CommittedShard, CorpusRecord, Entry, Measured, QuarantinedRow, Row, ShardRecord, Span

TAR_HEADER_BYTES = 512

READERS = 8
"""Threads that read commit objects."""

MOST_TOGETHER = 64
"""Rows that are fetched at once, at most."""

RECORD = "corpus.json"

SIZE_NAME = re.compile(r"corpus-(\d{6,})\.json$")
"""Of `size_name`."""

COMMIT_NAME = re.compile(r"shard-(\d{6,})\.json$")
TAR_NAME = re.compile(r"shard-(\d{6,})-[0-9a-f]{64}\.tar$")


def stretch(rows_per_shard: int) -> int:
    """How many neighbouring rows are worth fetching together: a shard's, or an even part of a large one's."""
    return -(-rows_per_shard // -(-rows_per_shard // MOST_TOGETHER))


def commit_name(shard: int) -> str:
    """`shard-000003.json`."""
    return f"shard-{shard:06d}.json"


def size_name(shards: int) -> str:
    """`corpus-000023.json`: the record of one size of a corpus."""
    return f"corpus-{shards:06d}.json"


def splits_name(digest: str) -> str:
    """The object below a corpus's root that says which split digests add up to this one."""
    return f"splits-{digest}.json"


def pack(
    shard: int,
    rendered: Iterable[tuple[Row, Mixture, Measured]],
    quarantined: Sequence[QuarantinedRow],
    bit_depth: int,
) -> tuple[bytes, ShardRecord]:
    """The tar of these rows and the record that goes with it; equal rows give equal bytes.

    Rows are encoded as they come, so `rendered` may render them one by one, and `quarantined` may grow meanwhile.
    """
    encoded = [(row, measured, *_encoded(mixture, bit_depth)) for row, mixture, measured in rendered]
    buffer = io.BytesIO()
    entries = []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row, measured, clean, noisy in sorted(encoded, key=lambda one: one[0].id):
            sides = (("clean", clean), ("noisy", noisy))
            spans = [add_member(tar, f"{row.id}.{side}.flac", data) for side, data in sides]
            entries.append(Entry(row=row, measured=measured, clean=spans[0], noisy=spans[1]))
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    record = ShardRecord(
        shard=shard,
        tar=f"shard-{shard:06d}-{sha256}.tar",
        sha256=sha256,
        bytes=len(data),
        entries=tuple(entries),
        quarantined=tuple(quarantined),
    )
    return data, record


def _encoded(mixture: Mixture, bit_depth: int) -> tuple[bytes, bytes]:
    clean, noisy = (audio.encode_flac(side, mixture.sample_rate, bit_depth) for side in (mixture.clean, mixture.noisy))
    return clean, noisy


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> Span:
    """Append a member without owner, time or other circumstance; where its bytes lie."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mtime = 0
    member.uid = member.gid = 0
    member.mode = 0o644
    span = Span(offset=tar.offset + TAR_HEADER_BYTES, size=len(data))
    tar.addfile(member, io.BytesIO(data))
    return span


def commit(address: str, tar: bytes, record: ShardRecord) -> CommittedShard:
    """Write the tar, then the commit object. If somebody was faster, what lies there must be equal.

    `NotReproducible` if another tar or other values were committed; nothing is ever overwritten by anything else.
    """
    tar_address = storage.join(address, record.tar)
    if not storage.write_once(tar_address, tar):
        _check_tar(tar_address, record)
    data = record.canonical()
    commit_address = storage.join(address, commit_name(record.shard))
    if not storage.create(commit_address, data) and (found := storage.read(commit_address)) != data:
        raise NotReproducible(
            f"{commit_address} was committed with sha256 {_sha256(found)[:12]}…, and rendering it again gave"
            f" {_sha256(data)[:12]}…. Nothing was overwritten. One plan must give one result: look at the library"
            " versions in corpus.json, and raise RENDER_VERSION if rendering was changed on purpose."
        )
    storage.write_once(tar_address, tar)  # an older one may have been collected as an orphan: `simulation.orphans`
    return committed_shard(data, record)


def _check_tar(address: str, record: ShardRecord) -> None:
    """What lies under the name of a tar must be that tar."""
    try:
        found = storage.read(address)
    except NotThere:  # collected since it was seen, and put back after the commit
        return
    if _sha256(found) != record.sha256:
        raise CorpusDamaged(f"{address} differs from the digest in its name. Delete it and simulate again.")


@dataclass(frozen=True)
class Look:
    """What one listing of a split's address tells of its shards; no object was read."""

    commits: dict[int, str]
    """Address of each shard's commit object."""
    tars: frozenset[str]
    """Addresses of the tars."""

    @property
    def finished(self) -> set[int]:
        """Shards that look finished: a commit and a tar. That the commit names just this tar, only reading it tells."""
        return self.commits.keys() & {int(match[1]) for tar in self.tars if (match := TAR_NAME.search(tar))}

    def first(self, count: int) -> "Look":
        """The same for the first so many shards: a larger corpus may lie at the address."""
        return Look({number: at for number, at in self.commits.items() if number < count}, self.tars)


def look(address: str) -> Look:
    """One listing of a split."""
    below = [stored.address for stored in storage.listing(address)]
    commits = {int(match[1]): name for name in below if (match := COMMIT_NAME.search(name))}
    return Look(commits, frozenset(name for name in below if TAR_NAME.search(name)))


def committed(address: str) -> dict[int, CommittedShard]:
    """The finished shards below a split's address, by number: one listing, then parallel reads of commit objects.

    A shard whose tar is missing counts as unfinished: rendering it again puts the tar back.
    """
    with reading(look(address)) as lines:
        return lines()


@contextmanager
def reading(seen: Look) -> Iterator[Callable[[], dict[int, CommittedShard]]]:
    """Read the commit objects of a listing while something else is done; call what is yielded to wait for the shards.

    Raises `CorpusDamaged` where one is none. What was not read when the block ends is not read any more.
    """
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="commits")
    lines = {number: pool.submit(_finished, seen, number) for number in sorted(seen.commits)}
    try:
        yield lambda: {number: shard for number, line in lines.items() if (shard := line.result())}
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(seen: Look, number: int) -> CommittedShard | None:
    """A shard by its commit object, if the tar that this names was listed too."""
    data = storage.read(address := seen.commits[number])
    record = parse_commit(data, address)
    tar = storage.join(address.rpartition("/")[0], record.tar)
    return committed_shard(data, record) if tar in seen.tars else None


def parse_commit(data: bytes, address: str) -> ShardRecord:
    """The record in a commit object; `CorpusDamaged` if it is none."""
    try:
        return ShardRecord.parse(data, address)
    except BadSetting as error:
        raise CorpusDamaged(f"{error} Delete this object and simulate again.") from None


def committed_shard(data: bytes, record: ShardRecord) -> CommittedShard:
    """The line of a corpus that stands for a commit object with these bytes."""
    return CommittedShard(
        sha256=_sha256(data),
        rows=len(record.entries),
        samples=sum(entry.measured.samples for entry in record.entries),
        quarantined=len(record.quarantined),
    )


def publish(address: str, record: CorpusRecord) -> None:
    """Write corpus.json, last of all. Of corpora of several sizes at one address the largest stands there.

    Each size first leaves a record of its own, which is never overwritten; corpus.json is then made a copy of the
    largest, and looked at again. So a slow writer of a small corpus cannot undo a larger one: it sees its record.
    """
    _check_same_plan(record, address)
    storage.create(storage.join(address, size_name(len(record.shards))), record.canonical())
    pointer, published = storage.join(address, RECORD), ""
    while published != (found := largest(address)):
        data = storage.read(found)
        if not storage.create(pointer, data) and storage.read(pointer) != data:
            storage.replace(pointer, data)
        published = found


def largest(address: str) -> str:
    """The record of the largest size that was finished here; empty if none was."""
    found = [stored.address for stored in storage.listing(address) if SIZE_NAME.search(stored.address)]
    return max(found, key=lambda at: (len(at), at), default="")


def _check_same_plan(record: CorpusRecord, address: str) -> None:
    """What stands at the address must begin with what we rendered, or the other way round."""
    if not (found := largest(address)):
        return
    there = parse_record(storage.read(found), found)
    if any(theirs.sha256 != ours.sha256 for theirs, ours in zip(there.shards, record.shards, strict=False)):
        raise NotReproducible(
            f"{found} lists other shards than were rendered now for the same plan. Run `unmuffle corpus verify`."
        )


def parse_record(data: bytes, address: str) -> CorpusRecord:
    """The record in a corpus.json; `CorpusDamaged` if it is none."""
    try:
        return CorpusRecord.parse(data, address)
    except BadSetting as error:
        raise CorpusDamaged(f"{error} Delete this object and simulate again.") from None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
