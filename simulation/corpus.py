"""Finished corpora: open one, read its mixtures, check every byte, render a row again.

`<store>/corpora/<scenario>@<plan digest, 8>/<split>/` holds a split's shards and its `corpus.json`, which is written
last: a split without it does not exist yet. Smaller corpora are prefixes of larger ones, so one address holds them all,
and a corpus digest says which is meant.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import count, groupby
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from simulation import audio, sources, storage
from simulation.degradations.base import Mixture
from simulation.draw import Plan, draw, plan_digest
from simulation.errors import (
    BadAudio,
    CorpusDamaged,
    CorpusIncomplete,
    ManifestMismatch,
    NotAllowed,
    NotReproducible,
    NotThere,
    StorageError,
    StoreUnreachable,
    UnknownName,
)
from simulation.manifest import (
    CommittedShard,
    CorpusRecord,
    Entry,
    QuarantinedRow,
    ShardRecord,
    Splits,
    prefix_digests,
)
from simulation.nearby import Nearby
from simulation.render import RENDER_VERSION, Library, render
from simulation.shards import (
    RECORD,
    commit_name,
    committed_shard,
    largest,
    parse_commit,
    parse_record,
    size_name,
    splits_name,
    stretch,
)
from simulation.sources import SPLITS

BUILD = "unmuffle simulate SCENARIO --store URI"

ReadRange = Callable[[str, int, int], bytes]
"""`storage.read_range`, or what stands in for it."""


@dataclass(frozen=True)
class Corpus:
    """One split of a finished corpus, or a prefix of it. Picklable; holds no audio."""

    address: str
    record: CorpusRecord
    shards: tuple[ShardRecord, ...]

    @classmethod
    def open(cls, address: str, digest: str | None = None) -> "Corpus":
        """The split at this address; with `digest`, the prefix that has this corpus digest.

        Raises NotThere, CorpusIncomplete, CorpusDamaged, or ManifestMismatch where no prefix has the digest.
        """
        address = storage.normal(address)
        record = read_record(address)
        if digest is not None:
            record = _record_with(record, digest, address)
        return cls(address, record, tuple(_read_commits(address, record)))

    @property
    def digest(self) -> str:
        """The corpus digest, 64 hex characters."""
        return self.record.corpus_digest

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.record.scenario.sample_rate

    @property
    def split(self) -> str:
        """train, valid or test."""
        return self.record.split

    @property
    def name(self) -> str:
        """`<scenario>@<plan digest, 8>/<split>`."""
        return f"{self.record.scenario.name}@{self.record.plan_digest[:8]}/{self.split}"

    @property
    def hours(self) -> float:
        """Hours of clean audio."""
        return self.record.hours

    @cached_property
    def entries(self) -> list[Entry]:
        """Every rendered row, in order."""
        return [entry for shard in self.shards for entry in shard.entries]

    @cached_property
    def _tars(self) -> list[str]:
        return [storage.join(self.address, shard.tar) for shard in self.shards for _ in shard.entries]

    def __len__(self) -> int:
        return len(self.entries)

    # What training asks of it, as of a virtual corpus: rows by number, those in quarantine among them.

    renders: ClassVar[bool] = False
    """Reading is reading, and needs no processes of its own."""

    @property
    def rows(self) -> int:
        """Rows drawn: those rendered and those in quarantine."""
        return len(self._drawn)

    @property
    def most_quarantined(self) -> int:
        """As many as there are: they were counted when the corpus was built."""
        return self.rows - len(self.entries)

    def row(self, number: int, read_range: ReadRange | None = None) -> tuple[str, Mixture]:
        """Id and mixture of a row, read by `storage.read_range` or what is given; `BadAudio` if it is in quarantine."""
        drawn = self._drawn[number]
        if isinstance(drawn, QuarantinedRow):
            raise BadAudio(f"{drawn.id} is in quarantine: {drawn.reason}")
        return self.entries[drawn].row.id, self.read(drawn, read_range)

    @property
    def stretch(self) -> int:
        """Rows that lie together, and are worth fetching together."""
        return stretch(self.record.scenario.rows_per_shard)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Samples of each row; of one in quarantine, those of the next that is not, counting round."""
        drawn, found = self._drawn, [-1] * self.rows
        for number in reversed(range(2 * self.rows)):
            row = drawn[number % self.rows]
            after = found[(number + 1) % self.rows]
            found[number % self.rows] = self.entries[row].measured.samples if isinstance(row, int) else after
        return np.array(found)

    def places(self, rows: range) -> list[tuple[str, int, int]]:
        """The tars that neighbouring rows lie in, with the first byte of the first row and the end of the last one."""
        there = [place for place in (self._drawn[number] for number in rows) if isinstance(place, int)]
        return [
            (tar, self.entries[places[0]].clean.offset, self.entries[places[-1]].noisy.end)
            for tar, places in ((tar, list(group)) for tar, group in groupby(there, self._tars.__getitem__))
        ]

    def nearby(self, kept: int) -> Nearby:
        """The same rows for somebody who asks for neighbours; see `simulation.nearby`."""
        return Nearby(self, kept)

    @cached_property
    def _drawn(self) -> list[int | QuarantinedRow]:
        """For each row drawn, in order, its place in `entries` or why it has none."""
        drawn: list[int | QuarantinedRow] = []
        place = count()
        for shard in self.shards:
            found: dict[str, int | QuarantinedRow] = {entry.row.id: next(place) for entry in shard.entries}
            found |= {row.id: row for row in shard.quarantined}
            drawn += [found[row_id] for row_id in sorted(found)]
        return drawn

    def read(self, index: int, read_range: ReadRange | None = None) -> Mixture:
        """The mixture of entry `index` (rows in quarantine do not count), by one ranged read."""
        entry, tar = self.entries[index], self._tars[index]
        try:
            try:
                clean, noisy = _pair(entry, tar, read_range or storage.read_range)
            except BadAudio:  # perhaps it was right in the store: a part of an object comes without a checksum
                clean, noisy = _pair(entry, tar, storage.read_range)
        except NotThere:
            raise CorpusDamaged(f"{tar} is missing. Simulate again: what is missing is rendered again.") from None
        except (NotAllowed, StoreUnreachable):
            raise
        except (BadAudio, StorageError) as error:  # it does not decode, or ends too early
            raise CorpusDamaged(f"Row {entry.row.id} in {tar} cannot be read: {error} {_mend(self.address)}") from None
        return Mixture(clean, noisy, self.sample_rate)

    def position(self, row_id: str) -> int:
        """Where a row stands in `entries`; `UnknownName` if it is not there."""
        positions = {entry.row.id: position for position, entry in enumerate(self.entries)}
        if row_id not in positions:
            first, last = self.entries[0].row.id, self.entries[-1].row.id
            raise UnknownName(f"row of {self.name}", row_id, [f"{first} to {last}"])
        return positions[row_id]


def _pair(entry: Entry, tar: str, read_range: ReadRange) -> list[np.ndarray]:
    """The clean and the noisy waveform of an entry; `BadAudio` if a FLAC file does not decode to its last frame."""
    start, end = entry.clean.offset, entry.noisy.end
    data = read_range(tar, start, end - start)
    return [
        audio.mono(audio.read(data[span.offset - start :][: span.size], entry.row.id)[0])
        for span in (entry.clean, entry.noisy)
    ]


# ---- opening --------------------------------------------------------------------------------------------------------


def split_addresses(root: str) -> dict[str, str]:
    """The address of each split below a corpus's root."""
    return {split: storage.join(root, split) for split in SPLITS}


def root_splits(root: str, digest: str | None = None) -> Splits:
    """The corpus digests of the splits below a root: those that make up `digest`, else those that stand there now."""
    root = storage.normal(root)
    if digest is not None and storage.exists(built := storage.join(root, splits_name(digest))):
        return Splits.parse(storage.read(built), built)
    records = {split: read_record(address) for split, address in split_addresses(root).items()}
    now = Splits.model_validate({split: record.corpus_digest for split, record in records.items()})
    if digest not in (None, now.digest()):
        raise ManifestMismatch(
            f"No corpus of the digest {digest:.12}… was finished at {root}; what stands there now has"
            f" {now.digest():.12}…. Build the one that was asked for, or ask for this one."
        )
    return now


def root_digest(root: str) -> str:
    """The digest over the splits that stand below a root now."""
    return root_splits(root).digest()


def open_splits(root: str, digest: str | None = None) -> dict[str, Corpus]:
    """The three splits below a root; with `digest`, as they were when a corpus of this digest was finished."""
    splits = root_splits(root, digest).model_dump()
    return {split: Corpus.open(storage.join(root, split), corpus_digest) for split, corpus_digest in splits.items()}


def read_record(address: str) -> CorpusRecord:
    """`corpus.json` of a split; answers what to type where there is none."""
    try:
        return parse_record(storage.read(storage.join(address, RECORD)), storage.join(address, RECORD))
    except NotThere:
        raise _absent(address) from None


def _absent(address: str) -> NotThere | CorpusIncomplete:
    """Why a split has no corpus.json."""
    below = {stored.address for stored in storage.listing(address)}
    splits = [split for split, at in split_addresses(address).items() if f"{at}/{RECORD}" in below]
    if splits:
        return NotThere(
            f"{address} holds the splits {', '.join(splits)}; expected one of them, as {address}/{splits[-1]}."
        )
    if below and all(at.startswith(f"{address}/plans/") for at in below):
        return NotThere(
            f"{address} holds a plan alone: train and evaluate render its rows, and `unmuffle corpus show` and `verify`"
            f" know it. For all else, render it: `{BUILD}` without --virtual."
        )
    if below:
        return CorpusIncomplete(
            f"The corpus at {address} was never finished. Run the same `{BUILD}` again: it resumes."
        )
    return NotThere(f"There is no corpus at {address}. Build one with `{BUILD}`, which prints its address.")


def _record_with(record: CorpusRecord, digest: str, address: str) -> CorpusRecord:
    """The prefix of a corpus that has this digest.

    A writer of a smaller size that was killed at the wrong moment leaves its own corpus.json over that of a larger one,
    so the largest size that was finished is looked at too.
    """
    if digest not in prefix_digests(record.shards) and (finished := largest(address)):
        record = parse_record(storage.read(finished), finished)
    digests = prefix_digests(record.shards)
    if digest not in digests[1:]:
        raise ManifestMismatch(
            f"No prefix of the corpus at {address} has the digest {digest[:12]}…; all {len(record.shards)} shards have"
            f" {record.corpus_digest[:12]}…. Build the corpus that was asked for, or ask for this one."
        )
    return record.prefix(digests.index(digest))


def _read_commits(address: str, record: CorpusRecord) -> list[ShardRecord]:
    """The commit objects that a record lists, each checked against its digest."""
    places = [storage.join(address, commit_name(shard)) for shard in range(len(record.shards))]
    try:
        found = storage.read_many(places)
    except NotThere as error:
        raise CorpusIncomplete(f"{error} A shard of {address} is missing. {_mend(address)}") from None
    for place, data, shard in zip(places, found, record.shards, strict=True):
        if hashlib.sha256(data).hexdigest() != shard.sha256:
            raise CorpusDamaged(f"{place} differs from what corpus.json lists. {_mend(address)}")
    return [parse_commit(data, place) for place, data in zip(places, found, strict=True)]


def _mend(address: str) -> str:
    return f"`unmuffle corpus verify {address}` names every damaged object; delete those and simulate again."


# ---- checking -------------------------------------------------------------------------------------------------------


def verify(address: str) -> list[str]:
    """Check every byte of a split, or of all splits below a root: one line for each problem, none if all is well."""
    address = storage.normal(address)
    if storage.exists(storage.join(address, RECORD)):
        return _verify_split(address)
    splits = [at for at in split_addresses(address).values() if storage.listing(at)]
    if not splits:
        raise _absent(address)
    return [problem for split in splits for problem in _verify_split(split)] + _named_problems(address)


def _verify_split(address: str) -> list[str]:
    try:
        record = read_record(address)
    except (CorpusDamaged, CorpusIncomplete, NotThere) as error:
        return [str(error)]
    problems = _record_problems(record, address)
    for shard, line in enumerate(record.shards):
        problems += _shard_problems(address, shard, line)
    return problems


def _named_problems(root: str) -> list[str]:
    """Whether the objects that say which splits and sources belong here are what their names say."""
    kinds = tuple(f"{root}/{kind}-" for kind in ("splits", "sources"))
    objects = [at.address for at in storage.listing(root) if at.address.startswith(kinds)]
    return [
        f"{at} is damaged: its bytes do not have the digest in its name."
        for at, data in zip(objects, storage.read_many(objects), strict=True)
        if not at.endswith(f"-{hashlib.sha256(data).hexdigest()}.json")
    ]


def _record_problems(record: CorpusRecord, split: str) -> list[str]:
    """Whether corpus.json agrees with itself, and with the record of its size that it is a copy of."""
    problems, address = [], storage.join(split, RECORD)
    size = storage.join(split, size_name(len(record.shards)))
    if not storage.exists(size) or storage.read(size) != storage.read(address):
        problems.append(f"{address} and {size} are not equal: one of them is damaged or missing.")
    if prefix_digests(record.shards)[-1] != record.corpus_digest:
        problems.append(f"{address}: its corpus digest is not that of the shards it lists.")
    plan = plan_digest(record.scenario, record.sources_digest, record.seed, record.render_version)
    if plan != record.plan_digest:
        problems.append(f"{address}: its plan digest is not that of its scenario, sources and seed.")
    return problems


def _shard_problems(address: str, shard: int, line: CommittedShard) -> list[str]:
    """Whether a shard's commit object and its tar are there, whole and unchanged."""
    place = storage.join(address, commit_name(shard))
    try:
        data = storage.read(place)
    except NotThere:
        return [f"{place} is missing."]
    if hashlib.sha256(data).hexdigest() != line.sha256:
        return [f"{place} is damaged: its {len(data)} bytes do not have the sha256 that corpus.json lists."]
    record = parse_commit(data, place)
    if committed_shard(data, record) != line:
        return [f"{place} holds other rows than corpus.json says."]
    return _tar_problems(storage.join(address, record.tar), record)


def _tar_problems(tar: str, record: ShardRecord) -> list[str]:
    try:
        data = storage.read(tar)
    except NotThere:
        return [f"{tar} is missing."]
    if len(data) != record.bytes:
        return [f"{tar} is damaged: {len(data)} bytes instead of {record.bytes}."]
    if hashlib.sha256(data).hexdigest() != record.sha256:
        return [f"{tar} is damaged: its bytes do not have the sha256 in its name."]
    return []


# ---- rendering again ------------------------------------------------------------------------------------------------


def replay(
    address: str, row_id: str, *, speech: str | None = None, noise: str | None = None, rirs: str | None = None
) -> Mixture:
    """Draw and render one row alone, from the scenario and the sources, and compare it with the stored FLAC.

    `address` is that of the row's split or of the corpus; sources are scanned where corpus.json says, or where told.
    Raises ManifestMismatch where they are not the same sources, NotReproducible where row or samples differ.
    """
    corpus = Corpus.open(_split_address(storage.normal(address), row_id))
    position = corpus.position(row_id)
    stored_row = corpus.entries[position].row
    plan = _plan_again(corpus, {"speech": speech, "noise": noise, "rirs": rirs})
    row = draw(plan, stored_row.split, stored_row.index)
    if row != stored_row:
        raise NotReproducible(f"Drawing {row_id} again gave other numbers than {corpus.address} holds.")
    mixture, _ = render(row, plan.scenario, Library(plan.sources, plan.scenario, plan.seed))
    stored = corpus.read(position)
    if not (np.array_equal(mixture.clean, stored.clean) and np.array_equal(mixture.noisy, stored.noisy)):
        raise NotReproducible(
            f"Rendering {row_id} again gave other samples than {corpus.address} holds; compare the library versions in"
            " corpus.json with those installed here."
        )
    return mixture


def _split_address(address: str, row_id: str) -> str:
    """Where the row's split lies, given its address or the corpus's."""
    if storage.exists(storage.join(address, RECORD)):
        return address
    split = row_id.rpartition("-")[0]
    if split not in SPLITS:
        raise UnknownName("row", row_id, [f"{split}-00000000" for split in SPLITS])
    return storage.join(address, split)


def _plan_again(corpus: Corpus, moved: dict[str, str | None]) -> Plan:
    """The plan that a corpus was rendered from, over sources scanned now."""
    record = corpus.record
    if record.render_version != RENDER_VERSION:
        raise ManifestMismatch(
            f"{corpus.address} was rendered by render version {record.render_version}; this is {RENDER_VERSION}."
            " Install the release of unmuffle that rendered it."
        )
    at = record.scenario.model_copy(update={name: place for name, place in moved.items() if place is not None})
    found = sources.scan_for(at)
    if found.digest() != record.sources_digest:
        raise ManifestMismatch(
            f"The sources at {at.speech}, {at.noise} and {at.rirs} have the digest {found.digest()[:12]}…;"
            f" {corpus.address} was made from {record.sources_digest[:12]}…. Put the same recordings there, or say"
            " where they are now."
        )
    return Plan(record.scenario, found, record.seed)
