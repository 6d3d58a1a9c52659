"""What a corpus records of itself: every number drawn, every value measured, every byte accounted for.

Row            what row i is, before anything sounds: the draw
Measured       what came out when it was rendered
Rendered       a row and its measured values
Entry          the same, and where its two waveforms lie in the shard's tar
ShardRecord    one shard's commit object, `shard-<n>.json`: the shard exists once this does
CorpusRecord   one split's `corpus.json`: the split is finished once this exists
Splits         the corpus digests of the three splits that were built together
"""

import hashlib
from collections.abc import Iterable

from pydantic import Field

from simulation.degradations import AnyDegradation
from simulation.scenario import Scenario
from simulation.schema import Schema
from simulation.sources import Split

DIGEST = "^[0-9a-f]{64}$"

MOST_QUARANTINED = 0.05
"""Share of a split's rows that may fail to render; beyond it, the sources are at fault."""


class Row(Schema):
    """One mixture, drawn. Holds identities only, never addresses."""

    index: int = Field(ge=0)
    id: str
    """Split and index, `train-00000012`."""
    split: Split
    case: str
    """The slice of the scenario that this row belongs to."""
    speech: str
    """Id of the utterance."""
    speaker: str
    noise: str | None
    """Group of the noise recording."""
    room: str | None
    """Group of the impulse response: the room."""
    interferer: str | None = None
    """Who else talks."""
    noisy: str | None = None
    """Id of the noisy side, where the row is a recorded pair; operations then happen to that."""
    operations: tuple[AnyDegradation, ...]
    """What happens to the speech, in order; every range is a number here."""


class Measured(Schema):
    """What came out of a rendered row. None where the row has no such operation, or it cannot be measured."""

    samples: int
    """Length of both waveforms."""
    gain: float
    """Applied to both waveforms, so that neither exceeds 0.99."""
    peak: float
    """The larger of the two peaks, after the gain."""
    level_db: float | None = None
    """Mean power of the noisy side, in dBFS; None for silence."""
    clean_level_db: float | None = None
    """The same of the clean side."""
    bandwidth_hz: float | None = None
    """Effective bandwidth of the noisy side."""
    flat_share: float | None = None
    """Share of the noisy side's samples that lie on flat tops, whatever made them."""
    snr_db: float | None = None
    """Active speech level over mean noise power, realised; of a recorded pair, over all that is not the clean side."""
    lag_samples: float | None = None
    """Of a recorded pair: by how much the noisy side comes later, as far as it can be told."""
    rt60_s: float | None = None
    """Of the impulse response: T30, else T20."""
    drr_db: float | None = None
    """Of the impulse response: direct to reverberant energy."""
    sir_db: float | None = None
    """Active speech level over that of the interfering talker, realised."""
    hiss_snr_db: float | None = None
    """Active speech level over mean hiss power, realised."""
    ducking_db: float | None = None
    """Mean gain of the speech beneath the wind; at most 0."""
    cutoff_hz: float | None = None
    """Of the band limit."""
    clipped_share: float | None = None
    """Samples of the noisy waveform that clipping changed."""
    codec_kbps: float | None = None
    """Of the coded file, its headers included."""
    codec_delay_samples: float | None = None
    """By how much the codec came late; taken out."""
    loss_rate: float | None = None
    """Share of packets that were lost."""
    quantisation_snr_db: float | None = None
    """Power before rounding over that of the error."""
    equaliser_db: float | None = None
    """Change of the noisy level by the equaliser."""
    adc_filter_db: float | None = None
    """Change of the noisy level by the converter's filters."""
    gain_step_share: float | None = None
    """Share of samples whose gain was changed."""
    expander_db: float | None = None
    """Mean gain of the expander; at most 0."""
    agc_range_db: float | None = None
    """Highest less lowest gain of the automatic gain control."""
    level_gain_db: float | None = None
    """What brought the waveform to its level."""
    alias_rate_hz: float | None = None
    """Sample rate in between, of resampling without a filter."""


class Span(Schema):
    """Where a member's bytes lie in a tar."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """The byte after its last one."""
        return self.offset + self.size


class Rendered(Schema):
    """One row, and what was measured on it."""

    row: Row
    measured: Measured


class Entry(Rendered):
    """One row of a shard, with its two FLAC files."""

    clean: Span
    noisy: Span


class QuarantinedRow(Schema):
    """A row that could not be rendered, and why. The reason names no address: it is part of the shard's digest."""

    id: str
    reason: str


class ShardRecord(Schema):
    """The commit object of one shard. Its own bytes are what the corpus digest is made of."""

    shard: int
    tar: str
    """File name, which holds the sha256."""
    sha256: str = Field(pattern=DIGEST)
    """Of the tar."""
    bytes: int
    """Of the tar."""
    entries: tuple[Entry, ...]
    quarantined: tuple[QuarantinedRow, ...]


class CommittedShard(Schema):
    """One line of a corpus: the sha256 of a shard's commit object, and what adds up to the corpus's size."""

    sha256: str = Field(pattern=DIGEST)
    rows: int
    samples: int
    quarantined: int


class CorpusRecord(Schema):
    """`corpus.json`: one finished split of a corpus."""

    scenario: Scenario
    plan_digest: str = Field(pattern=DIGEST)
    sources_digest: str = Field(pattern=DIGEST)
    seed: int
    render_version: int
    split: Split
    shards: tuple[CommittedShard, ...] = Field(min_length=1)
    corpus_digest: str = Field(pattern=DIGEST)
    """Of this split: over the ordered shard digests."""
    libraries: dict[str, str]
    """Versions of what rendered it."""

    @property
    def rows(self) -> int:
        """Rendered rows; those in quarantine do not count."""
        return sum(shard.rows for shard in self.shards)

    @property
    def hours(self) -> float:
        """Hours of clean audio."""
        return sum(shard.samples for shard in self.shards) / self.scenario.sample_rate / 3600

    def prefix(self, shards: int) -> "CorpusRecord":
        """The record of the first so many shards."""
        kept = self.shards[:shards]
        return self.model_copy(update={"shards": kept, "corpus_digest": prefix_digests(kept)[-1]})


class Splits(Schema):
    """The corpus digests of a whole corpus; its own `digest()` is the digest that `unmuffle simulate` prints."""

    train: str = Field(pattern=DIGEST)
    valid: str = Field(pattern=DIGEST)
    test: str = Field(pattern=DIGEST)


def prefix_digests(shards: Iterable[CommittedShard]) -> list[str]:
    """The corpus digest of every prefix, from the empty one (first) to the whole (last): sha256 over shard digests."""
    running = hashlib.sha256()
    digests = [running.hexdigest()]
    for shard in shards:
        running.update(f"{shard.sha256}\n".encode())
        digests.append(running.hexdigest())
    return digests
