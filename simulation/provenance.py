"""What a corpus was made from: the source manifest as it was when the corpus was built, an object at its root.

`sources-<sha256>.json` holds every recording with its speaker, licence, checksum and what was measured of it, and every
file that was set aside with its reason. What the recordings are is part of the plan, hence equal in every build at one
root; where they lay and what was set aside is not, so a later build may leave another account. The latest counts.
"""

import hashlib

from simulation import storage
from simulation.errors import CorpusDamaged, NotThere
from simulation.sources import SourceManifest

PREFIX = "sources-"


def keep_sources(root: str, manifest: SourceManifest) -> None:
    """Write the source manifest below a corpus's root, where it is not there yet."""
    data = manifest.canonical()
    storage.create(storage.join(root, f"{PREFIX}{hashlib.sha256(data).hexdigest()}.json"), data)


def kept_sources(root: str) -> SourceManifest:
    """The source manifest of the corpus at this root.

    Raises `NotThere` for a corpus built before manifests were kept, `CorpusDamaged` where its bytes are not the ones
    that were written.
    """
    there = [stored for stored in storage.listing(root) if stored.address.startswith(f"{root}/{PREFIX}")]
    if not there:
        raise NotThere(
            f"There is no source manifest at {root}: this corpus was built before they were kept. Simulate"
            " it again, into another --store."
        )
    address = max(there, key=lambda stored: (stored.modified, stored.address)).address
    data = storage.read(address)
    if address != storage.join(root, f"{PREFIX}{hashlib.sha256(data).hexdigest()}.json"):
        raise CorpusDamaged(f"{address} is damaged: its bytes do not have the digest in its name. Delete it.")
    return SourceManifest.parse(data, address)
