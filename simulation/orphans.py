"""What lost attempts left below an address, and how it is removed once it is old.

A worker that was killed leaves at most one of three things: a tar whose commit object was never written, a temporary
file (or a probe, or a lock) of ours, a multipart upload that was never completed. No reader sees any of them: readers
follow commit objects, listings hide our own names, and an upload is no object before its end.

Removing is safe beside writers and readers at any age:

- A tar that a commit object names is never touched, and readers read no other.
- A writer commits and *then* looks whether its tar is still there (`shards.commit`); we delete a tar and *then* look
  whether it was committed meanwhile, and put it back if so. Whatever the interleaving, the later of the two looks sees
  what the other did, for stores answer a read with the latest write. If we are killed between the two, the corpus has a
  commit without its tar: it counts as unfinished, `verify` names it, the next build renders it.
- A temporary file or an upload that is still being written is as young as its last bytes, so its age protects it: a
  day by default, and never less than `LEAST_AGE_S` on the command line.
"""

import time
from dataclasses import dataclass

from simulation import storage
from simulation.errors import CorpusDamaged, NotThere
from simulation.shards import TAR_NAME, commit_name, parse_commit

LEAST_AGE_S = 3600.0
"""Younger things may belong to somebody who is at work."""


@dataclass(frozen=True)
class Orphan:
    """One thing that nobody needs."""

    address: str
    kind: str
    """tar, temporary or upload."""
    bytes: int
    modified: float
    """Seconds since the epoch."""
    upload: storage.Unfinished | None = None

    def remove(self) -> bool:
        """Whether it could go: a tar that was committed meanwhile is put back."""
        if self.upload is not None:
            storage.abort(self.upload)
        elif self.kind == "tar":
            return _remove_tar(self.address)
        else:
            storage.delete(self.address)
        return True


def orphans(address: str, older_than_s: float, now: float | None = None) -> list[Orphan]:
    """Everything below an address that nobody needs and that was last written so long ago, sorted by address.

    `now` in seconds since the epoch. NotThere if nothing at all lies below the address.
    """
    address = storage.normal(address)
    objects, ours, uploads = storage.listing(address), storage.leftovers(address), storage.unfinished(address)
    if not (objects or ours or uploads):
        raise NotThere(f"Nothing lies below {address}; expected a corpus, one of its splits, or a store.")
    latest = (time.time() if now is None else now) - older_than_s
    tars = [stored for stored in objects if TAR_NAME.search(stored.address) and stored.modified <= latest]
    found = [Orphan(stored.address, "tar", stored.size, stored.modified) for stored in _unnamed(tars)]
    found += [Orphan(each.address, "temporary", each.size, each.modified) for each in ours]
    found += [Orphan(each.address, "upload", each.size, each.modified, each) for each in uploads]
    return sorted((orphan for orphan in found if orphan.modified <= latest), key=lambda orphan: orphan.address)


def _unnamed(tars: list[storage.Stored]) -> list[storage.Stored]:
    """Those that the commit object of their shard does not name, or whose shard has none."""
    named = storage.in_parallel(_is_named, [tar.address for tar in tars])
    return [tar for tar, needed in zip(tars, named, strict=True) if not needed]


def _is_named(tar: str) -> bool:
    """Whether a commit object names this tar; one that cannot be read might."""
    folder, _, name = tar.rpartition("/")
    match = TAR_NAME.search(name)
    assert match, tar
    commit = storage.join(folder, commit_name(int(match[1])))
    try:
        return parse_commit(storage.read(commit), commit).tar == name
    except NotThere:
        return False
    except CorpusDamaged:
        return True


def _remove_tar(tar: str) -> bool:
    try:
        data = storage.read(tar)
    except NotThere:
        return True
    if _is_named(tar):
        return False
    storage.delete(tar)
    if _is_named(tar):
        storage.replace(tar, data)
        return False
    return True
