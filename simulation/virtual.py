"""Virtual corpora: a plan is committed, and whoever reads a row draws and renders it.

`<store>/corpora/<scenario>@<plan digest, 8>/plans/plan-<digest>.json` holds all that a worker needs for any row of any
split: scenario, source manifest (addresses and checksums), seed and size. Rendering is pure and ends in the quantiser
of the shards, so a virtual corpus feeds the very numbers that the rendered one would, and both may stand at one
address: a digest says which is meant.

The digest covers the plan digest and the number of rows of each split. Where the sources lie is circumstance: a plan
that is committed again with other addresses replaces them. The shipped recordings are named without their folder, so a
plan over them is good on any machine.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field

from simulation import storage
from simulation.corpora.sample import SAMPLE
from simulation.corpus import Corpus, open_splits, root_splits, split_addresses
from simulation.degradations.base import Mixture
from simulation.draw import Plan, draw, row_count, row_id
from simulation.errors import BadAudio, BadSetting, CorpusDamaged, ManifestMismatch, NotThere, TooManyQuarantined
from simulation.manifest import DIGEST, MOST_QUARANTINED, QuarantinedRow, Rendered
from simulation.planned import planned
from simulation.render import RENDER_VERSION, Library, render
from simulation.scenario import Scenario
from simulation.schema import Schema, canonical_json
from simulation.shards import RECORD, stretch
from simulation.sources import SPLITS, Recording, SourceManifest, Split

log = logging.getLogger(__name__)

SHIPPED = "sample:"
"""Stands for the folder of the shipped recordings in the addresses of a stored plan."""


class VirtualRecord(Schema):
    """`plan-<digest>.json`: what every row of a corpus is drawn and rendered from."""

    scenario: Scenario
    """With its size."""
    sources: SourceManifest
    seed: int
    render_version: int
    plan_digest: str = Field(pattern=DIGEST)
    rows: dict[Split, int]
    """Of each split; those that cannot be rendered are among them."""

    @classmethod
    def of(cls, plan: Plan) -> "VirtualRecord":
        """The record of a plan, in the size that its scenario asks for."""
        return cls(
            scenario=plan.scenario,
            sources=_moved(plan.sources, _shipped_here(), SHIPPED),
            seed=plan.seed,
            render_version=RENDER_VERSION,
            plan_digest=plan.digest,
            rows={split: row_count(plan, split) for split in SPLITS.values()},
        )

    @cached_property
    def corpus_digest(self) -> str:
        """Which corpus this is, 64 hex characters: plan and size."""
        return hashlib.sha256(canonical_json({"plan": self.plan_digest, "rows": self.rows})).hexdigest()

    def split_digest(self, split: Split) -> str:
        """Which split this is: plan, split and number of rows."""
        return hashlib.sha256(canonical_json([self.plan_digest, split, self.rows[split]])).hexdigest()


@dataclass(frozen=True)
class VirtualCorpus:
    """One split of a plan; reads as a rendered `Corpus` does. Picklable; what it has rendered is not carried along."""

    address: str
    record: VirtualRecord
    split: Split

    renders: ClassVar[bool] = True
    """Reading costs as much as rendering: it is done in processes of its own."""

    @property
    def digest(self) -> str:
        """64 hex characters."""
        return self.record.split_digest(self.split)

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.record.scenario.sample_rate

    @property
    def name(self) -> str:
        """`<scenario>@<plan digest, 8>/<split>`."""
        return f"{self.record.scenario.name}@{self.record.plan_digest[:8]}/{self.split}"

    @property
    def rows(self) -> int:
        """Rows drawn; those that cannot be rendered are among them."""
        return self.record.rows[self.split]

    @property
    def most_quarantined(self) -> int:
        """How many of them may fail to render."""
        return int(MOST_QUARANTINED * self.rows)

    @property
    def stretch(self) -> int:
        """As of the rendered corpus: rows come in the same order."""
        return stretch(self.record.scenario.rows_per_shard)

    lengths: ClassVar[None] = None
    """Of the rows: unknown until they are rendered."""

    def nearby(self, kept: int) -> "VirtualCorpus":
        """Itself: nothing is fetched."""
        return self

    def row(self, number: int) -> tuple[str, Mixture]:
        """Id and mixture of a row, drawn and rendered now; `BadAudio` where it belongs in quarantine."""
        rendered, mixture = self._render(number)
        return rendered.row.id, mixture

    @property
    def entries(self) -> list[Rendered]:
        """Every row that can be rendered, in order; the whole split is rendered to know."""
        return self._all[0]

    @property
    def quarantined(self) -> list[QuarantinedRow]:
        """The others, and why; the whole split is rendered to know."""
        return self._all[1]

    def read(self, index: int) -> Mixture:
        """The mixture of entry `index` (rows in quarantine do not count)."""
        return self._render(self.entries[index].row.index)[1]

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def plan(self) -> Plan:
        """The plan over the sources where they lie now; `CorpusDamaged` where it is not the one that was committed."""
        _check_version(self.record, self.address)
        plan = Plan(self.record.scenario, _moved(self.record.sources, SHIPPED, _shipped_here()), self.record.seed)
        if plan.digest != self.record.plan_digest:
            raise CorpusDamaged(
                f"The plan of {self.address} has the digest {plan.digest[:12]}…, and {self.record.plan_digest[:12]}… is"
                " written there. Delete the object below plans/ and run `unmuffle simulate SCENARIO --virtual` again."
            )
        return plan

    @cached_property
    def _library(self) -> Library:
        return Library(self.plan.sources, self.plan.scenario, self.plan.seed)

    @cached_property
    def _all(self) -> tuple[list[Rendered], list[QuarantinedRow]]:
        entries, quarantined = [], []
        for number in range(self.rows):
            try:
                entries.append(self._render(number)[0])
            except BadAudio as error:
                quarantined.append(QuarantinedRow(id=row_id(self.split, number), reason=str(error)))
                refuse_too_many(self, len(quarantined), str(error))
        return entries, quarantined

    def _render(self, number: int) -> tuple[Rendered, Mixture]:
        row = draw(self.plan, self.split, number)
        mixture, measured = render(row, self.plan.scenario, self._library)
        return Rendered(row=row, measured=measured), mixture

    def __getstate__(self) -> dict[str, Any]:
        """Without recordings and the plan's tables, which every process makes for itself."""
        return {name: value for name, value in vars(self).items() if name not in ("_library", "plan")}


def refuse_too_many(corpus: VirtualCorpus, bad: int, reason: str) -> None:
    """`TooManyQuarantined` beyond the share that a rendered corpus may have."""
    if bad > corpus.most_quarantined:
        raise TooManyQuarantined(
            f"More than {MOST_QUARANTINED:.0%} of the {corpus.rows} rows of {corpus.name} cannot be rendered; the last"
            f" of them: {reason.rstrip('.')}. Mend the sources they name."
        )


# ---- committing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """A plan that was committed."""

    address: str
    """`<store>/corpora/<scenario>@<plan digest, 8>`, as of the rendered corpus."""
    digest: str
    plan_digest: str
    rows: dict[Split, int]


def commit_plan(scenario: Scenario, store: str, *, sources_digest: str | None = None) -> Planned:
    """Commit the plan of a scenario over its sources; nothing is rendered. The same again changes nothing.

    Raises what `planned` raises, and StorageError.
    """
    plan = planned(scenario, sources_digest)
    record = VirtualRecord.of(plan)
    root = storage.join(storage.normal(store), "corpora", plan.name)
    address, data = _plan_address(root, record.corpus_digest), record.canonical()
    with storage.writer_lock(root):
        if not storage.create(address, data) and storage.read(address) != data:
            log.info("%s: the sources lie elsewhere now.", address)
            storage.replace(address, data)
    return Planned(root, record.corpus_digest, record.plan_digest, record.rows)


def _plan_address(root: str, digest: str) -> str:
    return storage.join(root, "plans", f"plan-{digest}.json")


def _shipped_here() -> str:
    return storage.normal(str(SAMPLE)) + "/"


def _moved(sources: SourceManifest, start: str, new: str) -> SourceManifest:
    """The sources with another beginning of their addresses, where it is this one."""
    moved = tuple(
        recording.model_copy(update={"address": new + recording.address.removeprefix(start)})
        if recording.address.startswith(start)
        else recording
        for recording in sources.recordings
    )
    return sources.model_copy(update={"recordings": moved})


# ---- opening --------------------------------------------------------------------------------------------------------


def open_corpora(root: str, digest: str | None = None) -> dict[str, Corpus | VirtualCorpus]:
    """The three splits below a root, rendered or virtual: those of `digest`; without it the rendered ones, if there.

    Raises what `simulation.corpus.open_splits` raises.
    """
    root = storage.normal(root)
    record = plan_below(root, digest)
    if record is None:
        return dict(open_splits(root, digest))
    return {split: VirtualCorpus(storage.join(root, split), record, split) for split in SPLITS.values()}


def open_corpus(address: str, digest: str | None = None) -> Corpus | VirtualCorpus:
    """The split at this address, likewise."""
    address = storage.normal(address)
    root, _, name = address.rpartition("/")
    split = SPLITS.get(name)
    if split is not None:
        for record in _virtual_here(root) if digest or not _rendered(address) else ():
            if digest in (None, record.split_digest(split)):
                return VirtualCorpus(address, record, split)
    return Corpus.open(address, digest)


def corpus_digest(root: str, digest: str | None = None) -> str:
    """The digest of what `open_corpora` would open."""
    record = plan_below(root, digest)
    return record.corpus_digest if record else root_splits(root, digest).digest()


def plan_below(root: str, digest: str | None = None) -> VirtualRecord | None:
    """The plan that is meant by an address; None where a rendered corpus is, or nothing is there."""
    root = storage.normal(root)
    if digest is not None:
        address = _plan_address(root, digest)
        return _parsed(address) if storage.exists(address) else None
    if all(map(_rendered, split_addresses(root).values())):
        return None
    return next(_virtual_here(root), None)


def _rendered(split_address: str) -> bool:
    return storage.exists(storage.join(split_address, RECORD))


def _virtual_here(root: str) -> Iterator[VirtualRecord]:
    """The plans below a root, the largest first."""
    records = [_parsed(stored.address) for stored in storage.listing(storage.join(root, "plans"))]
    return iter(sorted(records, key=lambda one: (*(one.rows[split] for split in SPLITS.values()),), reverse=True))


def _parsed(address: str) -> VirtualRecord:
    try:
        record = VirtualRecord.parse(storage.read(address), address)
    except BadSetting as error:
        raise CorpusDamaged(f"{error} Delete this object and simulate again.") from None
    if _plan_address("", record.corpus_digest).rpartition("/")[2] != address.rpartition("/")[2]:
        raise CorpusDamaged(f"{address} does not have the digest in its name. Delete it and simulate again.")
    return record


def _check_version(record: VirtualRecord, address: str) -> None:
    if record.render_version != RENDER_VERSION:
        raise ManifestMismatch(
            f"{address} was planned for render version {record.render_version}; this is {RENDER_VERSION}. Install the"
            " release of unmuffle that planned it, or plan it again with this one."
        )


def verify_plan(record: VirtualRecord) -> list[str]:
    """Read every source of a plan: one line for each that is missing, or is not the one that was planned."""
    recordings = _moved(record.sources, SHIPPED, _shipped_here()).recordings
    return [problem for problem in storage.in_parallel(_problem, recordings) if problem]


def _problem(recording: Recording) -> str:
    try:
        found = hashlib.sha256(storage.read(recording.address)).hexdigest()
    except NotThere:
        return f"{recording.address} is missing."
    return "" if found == recording.sha256 else f"{recording.address} is not the file that was planned."
