"""What a recording is, and the source manifest: every usable recording, and those set aside."""

import hashlib
from functools import cached_property
from typing import Literal

from simulation.errors import BadSetting
from simulation.schema import Schema, canonical_json

Kind = Literal["speech", "noise", "rir", "noisy"]
"""`noisy`: the noisy side of a recorded pair, whose clean side is speech (`pairing.py`)."""
Split = Literal["train", "valid", "test"]
KINDS: tuple[Kind, ...] = ("speech", "noise", "rir")
"""What a scenario draws from."""
SPLITS: dict[str, Split] = {"train": "train", "valid": "valid", "test": "test"}


class Probe(Schema):
    """What was measured of a recording's first channel, at its own sample rate (`simulation/measures.py`)."""

    level_db: float
    """Active speech level in dBFS; of noise and RIRs the mean power."""
    clipped_share: float
    """Of the samples: those on flat tops."""
    silent_share: float
    """Of 20 ms frames: those with nothing in them."""
    bandwidth_hz: float
    """Effective bandwidth."""
    noise_floor_db: float | None = None
    """Of speech: level of what sounds in its pauses, in dBFS."""
    snr_db: float | None = None
    """Of speech: estimated from the recording alone, level over noise floor."""


class Recording(Schema):
    """One source file: an utterance, a stretch of noise or a measured RIR."""

    id: str
    """`<kind>/<name>`, unique in its manifest; does not change when the files move."""
    kind: Kind
    address: str
    """Where it lies now; no part of its identity."""
    group: str
    """Speaker, noise recording or room: what no two splits share."""
    split: Split
    samples: int
    """A channel, at its own sample rate."""
    sample_rate: int
    """Of the file, in Hz."""
    sha256: str
    """Of the file's bytes."""
    licence: str = ""
    source: str = ""
    """Where it was published, for the corpus card."""
    probe: Probe | None = None
    """No part of its identity: it follows from the bytes."""
    onset: int | None = None
    """Of an RIR: the sample at which the direct sound peaks, where it is known; else it is found."""

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.sample_rate


class Quarantined(Schema):
    """A source file set aside, and why."""

    address: str
    reason: str
    kind: str = ""
    """What it was to be: speech, noise or rir."""


class SourceManifest(Schema):
    """All usable recordings, ordered by id, and those set aside."""

    recordings: tuple[Recording, ...]
    quarantined: tuple[Quarantined, ...] = ()

    def groups(self, kind: Kind, split: Split) -> dict[str, list[Recording]]:
        """Recordings of a kind in a split by group, groups and members in order; empty where there are none."""
        return self.grouped.get((kind, split), {})

    def find(self, recording_id: str) -> Recording:
        """The recording of this id. Raises `BadSetting` where there is none."""
        if recording_id not in self.by_id:
            raise BadSetting(
                f"There is no recording {recording_id!r} among the {len(self.recordings)} sources. "
                "Expected the sources that the row was drawn from; give the same speech, noise and rirs addresses."
            )
        return self.by_id[recording_id]

    def digest(self) -> str:
        """sha256 of what the recordings are. Where they lie, their notes and what was set aside do not count."""
        fields = ("id", "kind", "group", "split", "samples", "sample_rate", "sha256")
        identity = [
            [getattr(recording, field) for field in fields] + ([] if recording.onset is None else [recording.onset])
            for recording in self.recordings
        ]
        return hashlib.sha256(canonical_json(identity)).hexdigest()

    @cached_property
    def grouped(self) -> dict[tuple[Kind, Split], dict[str, list[Recording]]]:
        """Recordings by kind and split, then by group."""
        grouped: dict[tuple[Kind, Split], dict[str, list[Recording]]] = {}
        for recording in sorted(self.recordings, key=lambda one: (one.kind, one.group, one.id)):
            groups = grouped.setdefault((recording.kind, recording.split), {})
            groups.setdefault(recording.group, []).append(recording)
        return grouped

    @cached_property
    def by_id(self) -> dict[str, Recording]:
        """Recordings by id."""
        return {recording.id: recording for recording in self.recordings}
