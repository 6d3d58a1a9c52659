"""Derived corpora: what a network makes of every row of a corpus, kept as tensors, so that it is computed once.

Embeddings of a frozen SSL model are such, and outputs of a teacher. This file knows neither: it takes a function from a
mixture to named tensors, and gives the tensors of a row back.

    derivation = Derivation(kind="embeddings", corpus=corpus.digest, made_by={...})   which tensors: the identity
    count = derive(corpus, derivation, store, make)        make: Mixture -> {name: tensor}; rows that were computed now
    derived = Derived.open(derivation, store)              reads; computes nothing
    derived.row(12)                                        {name: tensor}, by one ranged read

It lies at `<store>/derived/<kind>-<digest, 12>/` by the rules of corpora: tars of safetensors members, each made to
exist by a commit object, and `derived.json` last. What is there is not computed again, so a run that was killed goes
on. Rows in quarantine have no tensors; asking for them is the corpus's own `BadAudio`. Two writers of a shard may
differ in the last bits, as networks do between machines: the first one counts, and whoever comes later must agree with
it to 1 %.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from pydantic import Field
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from simulation import storage
from simulation.errors import BadAudio, CorpusDamaged, CorpusIncomplete, NotReproducible, NotThere
from simulation.manifest import DIGEST, QuarantinedRow, Span
from simulation.schema import Schema
from simulation.shards import add_member, commit_name, look
from training.derivation import Derivation, Tensors
from training.pieces import Mixtures

RECORD = "derived.json"
AGREEMENT = 0.01
"""Length of the difference of two writers' tensors over the length of the tensors; half precision rounds to 0.4 %."""

Make: TypeAlias = Callable[[Any], Mapping[str, Tensor]]
"""What is made of a `Mixture`."""


class Member(Schema):
    """The tensors of one row, and where their bytes lie."""

    number: int
    """Of the row, those in quarantine counted."""
    id: str
    span: Span


class DerivedShard(Schema):
    """The commit object of a shard."""

    shard: int
    tar: str
    sha256: str = Field(pattern=DIGEST)
    """Of the tar."""
    bytes: int
    members: tuple[Member, ...]
    quarantined: tuple[QuarantinedRow, ...]


class DerivedRecord(Schema):
    """`derived.json`: all shards are there."""

    derivation: Derivation
    rows: int
    shards: tuple[str, ...]
    """sha256 of each commit object, in order."""


# ---- computing ------------------------------------------------------------------------------------------------------


def derive(
    corpus: Mixtures,
    derivation: Derivation,
    store: str,
    make: Make,
    *,
    rank: int = 0,
    world: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Compute and commit the shards that are not there; gives the number of rows that `make` was called for now.

    Of `world` workers each takes every so many-th shard; after that, and a barrier among them, one call without these
    completes what is left, and writes `derived.json`. `progress` is told of (shards done, in all).
    Raises NotReproducible where another writer committed tensors that are other than in the last bits.
    """
    address = derivation.address(store)
    total = -(-corpus.rows // derivation.rows_per_shard)
    with storage.writer_lock(address):
        there = look(address).finished
        computed = 0
        for done, number in enumerate(each for each in range(rank, total, world) if each not in there):
            progress(len(there) + done, total)
            tar, shard = _shard(corpus, derivation, number, make)
            _commit(address, tar, shard)
            computed += len(shard.members)
        if world == 1:
            progress(total, total)
            _publish(address, derivation, corpus.rows, total)
    return computed


def _shard(corpus: Mixtures, derivation: Derivation, number: int, make: Make) -> tuple[bytes, DerivedShard]:
    """Tar and commit object of the rows of a shard."""
    members, quarantined, buffer = list[Member](), list[QuarantinedRow](), io.BytesIO()
    first = number * derivation.rows_per_shard
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row in range(first, min(first + derivation.rows_per_shard, corpus.rows)):
            try:
                name, mixture = corpus.row(row)
            except BadAudio as error:
                quarantined.append(QuarantinedRow(id=str(row), reason=str(error)))
                continue
            with torch.inference_mode():
                tensors = {key: value.detach().cpu().contiguous() for key, value in make(mixture).items()}
            span = add_member(tar, f"{name}.safetensors", tensors_to_bytes(tensors))
            members.append(Member(number=row, id=name, span=span))
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    return data, DerivedShard(
        shard=number,
        tar=f"shard-{number:06d}-{sha256}.tar",
        sha256=sha256,
        bytes=len(data),
        members=tuple(members),
        quarantined=tuple(quarantined),
    )


def _commit(address: str, tar: bytes, shard: DerivedShard) -> None:
    """The tar, then the commit object; where somebody was faster, theirs stays, and must agree with ours."""
    storage.write_once(storage.join(address, shard.tar), tar)
    at = storage.join(address, commit_name(shard.shard))
    if storage.create(at, shard.canonical()):
        storage.write_once(storage.join(address, shard.tar), tar)  # it may have been collected as an orphan
        return
    theirs = DerivedShard.parse(storage.read(at), at)
    if theirs.sha256 == shard.sha256:
        storage.write_once(storage.join(address, shard.tar), tar)
        return
    other = storage.read(storage.join(address, theirs.tar))
    storage.delete(storage.join(address, shard.tar))
    if [each.id for each in theirs.members] != [each.id for each in shard.members] or not all(
        _agree(_tensors(other, one.span), _tensors(tar, two.span))
        for one, two in zip(theirs.members, shard.members, strict=True)
    ):
        raise NotReproducible(
            f"{at} was committed with other tensors than were computed now for the same rows and weights. Nothing was "
            "overwritten. Something drew by lot (a network in training mode), or the two machines calculate too "
            "differently to share one address: remove that folder, and let one of them compute it."
        )


def _agree(theirs: Tensors, ours: Tensors) -> bool:
    return theirs.keys() == ours.keys() and all(
        theirs[name].shape == ours[name].shape
        and (theirs[name].double() - ours[name].double()).norm() <= AGREEMENT * ours[name].double().norm()
        for name in ours
    )


def _publish(address: str, derivation: Derivation, rows: int, total: int) -> None:
    commits = storage.read_many(storage.join(address, commit_name(number)) for number in range(total))
    shards = tuple(hashlib.sha256(data).hexdigest() for data in commits)
    record = DerivedRecord(derivation=derivation, rows=rows, shards=shards)
    storage.create(storage.join(address, RECORD), record.canonical())


# ---- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Derived:
    """A finished derived corpus. Picklable; holds no tensors."""

    address: str
    record: DerivedRecord
    shards: tuple[DerivedShard, ...]

    @classmethod
    def open(cls, derivation: Derivation, store: str) -> "Derived":
        """That of a derivation. Raises CorpusIncomplete where it is not finished, CorpusDamaged."""
        address = derivation.address(store)
        try:
            record = DerivedRecord.parse(storage.read(storage.join(address, RECORD)), storage.join(address, RECORD))
        except NotThere:
            raise CorpusIncomplete(
                f"There are no finished {derivation.kind} at {address}. A training run that uses them computes what is "
                "missing; start it again."
            ) from None
        places = [storage.join(address, commit_name(number)) for number in range(len(record.shards))]
        commits = storage.read_many(places)
        for place, data, sha256 in zip(places, commits, record.shards, strict=True):
            if hashlib.sha256(data).hexdigest() != sha256:
                raise CorpusDamaged(f"{place} differs from what {RECORD} lists. Remove {address}: it is made again.")
        return cls(address, record, tuple(DerivedShard.parse(*each) for each in zip(commits, places, strict=True)))

    @property
    def digest(self) -> str:
        """Of identity and content, 64 hex characters."""
        return self.record.digest()

    @property
    def bytes(self) -> int:
        """Of all tars."""
        return sum(shard.bytes for shard in self.shards)

    def row(self, number: int) -> Tensors:
        """The tensors of a row of the corpus, on the CPU; `BadAudio` where it is in quarantine."""
        if number not in self._members:
            raise BadAudio(f"Row {number} is in quarantine; {self.address} has no tensors of it.")
        tar, member = self._members[number]
        at = storage.join(self.address, tar)
        try:
            return tensors_from_bytes(storage.read_range(at, member.span.offset, member.span.size))
        except NotThere:
            raise CorpusDamaged(f"{at} is missing. Remove {self.address}: it is made again.") from None

    def problems(self) -> list[str]:
        """Check every byte: one line for each tar that is not what its name says, none if all is well."""
        found = []
        for shard in self.shards:
            at = storage.join(self.address, shard.tar)
            if storage.stored(at) is None:
                found.append(f"{at} is missing.")
            elif hashlib.sha256(storage.read(at)).hexdigest() != shard.sha256:
                found.append(f"{at} is damaged: its bytes do not have the digest in its name.")
        return found

    @cached_property
    def _members(self) -> dict[int, tuple[str, Member]]:
        return {member.number: (shard.tar, member) for shard in self.shards for member in shard.members}


def _tensors(tar: bytes, span: Span) -> Tensors:
    return tensors_from_bytes(tar[span.offset : span.end])
