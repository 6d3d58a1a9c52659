"""build(scenario, store): the corpus of a scenario, by Ray Data over the shards that are not there yet.

A shard needs nothing but the plan and its number, so the plan is put into Ray's object store once and the data set is a
list of shard numbers. Workers commit their shards themselves and answer with digests and counts, never with audio.
Whatever was committed before, by a run that was killed or by a smaller corpus of the same plan, is not rendered again.
The number of workers, their order and their deaths leave no trace: Ray starts a dead worker anew and repeats its shard.
"""

import logging
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain, islice
from typing import Any

import numpy as np
import ray
import ray.data
import soundfile

from simulation import errors, storage
from simulation.cluster import fraction
from simulation.corpus import split_addresses
from simulation.degradations.base import Mixture
from simulation.draw import Plan, draw, shard_count, shard_rows
from simulation.errors import BadAudio, TooManyQuarantined, UnmuffleError
from simulation.manifest import (
    MOST_QUARANTINED,
    CommittedShard,
    CorpusRecord,
    Measured,
    QuarantinedRow,
    Row,
    ShardRecord,
    Splits,
    prefix_digests,
)
from simulation.planned import planned
from simulation.provenance import keep_sources
from simulation.render import RENDER_VERSION, Library, render
from simulation.scenario import Scenario
from simulation.shards import Look, commit, look, pack, publish, reading, splits_name
from simulation.sources import SPLITS, Split, located

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (shards done, shards in all)."""

Shards = dict[int, CommittedShard]
"""Finished shards of a split, by number."""

RENDERERS = ("unmuffle", "numpy", "scipy", "soxr", "soundfile", "audiomentations", "pyroomacoustics")
"""Distributions whose versions decide the samples."""


@dataclass(frozen=True)
class BuiltSplit:
    """One finished split."""

    address: str
    digest: str
    """Corpus digest of the shards asked for; more may lie at the address."""
    rows: int
    hours: float


@dataclass(frozen=True)
class Built:
    """A finished corpus."""

    address: str
    """`<store>/corpora/<scenario>@<plan digest, 8>`; its splits lie below."""
    digest: str
    """Over the corpus digests of the three splits."""
    splits: dict[Split, BuiltSplit]
    quarantined: int
    """Source recordings and rows that were set aside."""
    rendered: int
    """Shards rendered now."""
    reused: int
    """Shards that were there before."""


def build(
    scenario: Scenario,
    store: str,
    *,
    seed: int | None = None,
    hours: float | None = None,
    workers: int = 2,
    speech: str | None = None,
    noise: str | None = None,
    rirs: str | None = None,
    sources_digest: str | None = None,
    progress: Progress | None = None,
) -> Built:
    """Build all three splits of a scenario, or what is missing of them. Needs `simulation.cluster.cluster()`.

    `hours` of training audio, `seed` and the source addresses override the scenario's. Raises BadSetting for sources
    that cannot fill the splits, ManifestMismatch where they do not have the `sources_digest` that was promised,
    NotReproducible where other bytes were committed for the same plan, StorageError.
    """
    scenario = _overridden(scenario, seed, hours, {"speech": speech, "noise": noise, "rirs": rirs})
    plan = planned(scenario, sources_digest)
    root = storage.join(storage.normal(store), "corpora", plan.name)
    with storage.writer_lock(root):
        done, rendered = _complete(plan, root, workers, progress)
        records = {split: _record(plan, split, shards) for split, shards in done.items()}
        return replace(
            _finish(root, plan, records),
            quarantined=len(plan.sources.quarantined) + _quarantined_rows(records),
            reused=sum(map(len, done.values())) - rendered,
            rendered=rendered,
        )


def _overridden(scenario: Scenario, seed: int | None, hours: float | None, places: dict[str, str | None]) -> Scenario:
    """The scenario as it will be recorded: complete, with full addresses."""
    size = scenario.size.model_dump() | ({} if hours is None else {"train_hours": hours})
    changes: dict[str, Any] = {"size": size, "seed": scenario.seed if seed is None else seed}
    for name, place in places.items():
        place = place or getattr(scenario, name)
        changes[name] = located(place)
    return Scenario.parse(scenario.model_dump(mode="json") | changes, f"scenario {scenario.name}")


def _addresses(root: str) -> dict[Split, str]:
    return {SPLITS[split]: address for split, address in split_addresses(root).items()}


# ---- rendering ------------------------------------------------------------------------------------------------------


def _complete(plan: Plan, root: str, workers: int, progress: Progress | None) -> tuple[dict[Split, Shards], int]:
    """All shards, and how many of them were rendered now.

    One listing tells what is missing, so that rendering begins at once; from the first answer on, what is there is read
    beside it. A commit that turns out to name another tar than the one beside it is a shard to render too, at the end.
    """
    there = _there(plan, root)
    missing = _missing(plan, {split: seen.finished for split, seen in there.items()})
    total = sum(shard_count(plan, split) for split in there)
    log.info("%s: %d of %d shards are there already.", root, total - len(missing), total)
    report = progress or (lambda done, total: None)
    report(total - len(missing), total)
    done: dict[Split, Shards] = {split: {} for split in there}
    answers = _rendered(plan, root, missing, workers)
    first = list(islice(answers, 1))  # threads that parse would slow down Ray's start
    with ExitStack() as stack:
        found = {split: stack.enter_context(reading(seen)) for split, seen in there.items()}
        for count, (split, number, shard) in enumerate(chain(first, answers), start=1):
            done[split][number] = shard
            report(total - len(missing) + count, total)
        done = {split: lines() | done[split] for split, lines in found.items()}
    late = _missing(plan, done)
    for split, number, shard in _rendered(plan, root, late, workers):
        done[split][number] = shard
    return done, len(missing) + len(late)


def _there(plan: Plan, root: str) -> dict[Split, Look]:
    """What lies at each split's address, up to the size asked for."""
    addresses = _addresses(root)
    looks = zip(addresses, storage.in_parallel(look, addresses.values()), strict=True)
    return {split: seen.first(shard_count(plan, split)) for split, seen in looks}


def _missing(plan: Plan, found: Mapping[Split, Container[int]]) -> list[tuple[Split, int]]:
    """Split and number of the shards to render."""
    return [
        (split, number)
        for split, shards in found.items()
        for number in range(shard_count(plan, split))
        if number not in shards
    ]


def _rendered(
    plan: Plan, root: str, missing: list[tuple[Split, int]], workers: int
) -> Iterator[tuple[Split, int, CommittedShard]]:
    """Render and commit on Ray; yields each shard when it is committed, in any order.

    A single shard is rendered here: it would be done before a worker has started.
    """
    items = [{"split": split, "shard": number} for split, number in missing]
    answers = _answers(plan, root, items, workers) if len(items) > 1 else _answers_here(plan, root, items)
    for answer in answers:
        if answer["error"]:
            raise _as_raised(answer["error"], answer["message"])
        shard = {name: answer[name] for name in CommittedShard.model_fields}
        yield SPLITS[answer["split"]], int(answer["shard"]), CommittedShard.model_validate(shard)


def _answers_here(plan: Plan, root: str, items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What the renderer says of each shard, in this process."""
    for item in items:
        answer = _Renderer(plan, root)({name: np.array([value]) for name, value in item.items()})
        yield {name: values[0] for name, values in answer.items()}


def _answers(plan: Plan, root: str, items: list[dict[str, Any]], workers: int) -> Iterator[dict[str, Any]]:
    """What the renderers of a pool say of each shard, in any order."""
    workers = min(workers, len(items))
    answers = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Renderer,
        fn_constructor_args=(ray.put(plan), root),
        batch_size=1,
        num_cpus=fraction(workers),
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    _silence(answers)
    yield from answers.iter_rows()


def _as_raised(name: str, message: str) -> UnmuffleError:
    """An error of a worker, of the type that it had there; of the base where that type is private or says more."""
    kind = getattr(errors, name, UnmuffleError)
    return UnmuffleError(message) if kind is errors.UnknownName else kind(message)


def _silence(answers: ray.data.Dataset) -> None:
    """No bars and no report of each execution on the terminal: progress is the caller's, Ray's log has the rest."""
    answers.context.enable_progress_bars = False
    answers.context.print_on_execution_start = False
    for handler in logging.getLogger("ray.data").handlers:
        if handler.level == logging.INFO:
            handler.setLevel(logging.ERROR)


class _Renderer:
    """An actor of the pool, or this process: one library of recordings, one shard at a time.

    Nothing it calls uses several threads: image sources are pinned to one, and no BLAS is involved.
    """

    def __init__(self, plan: "Plan | ray.ObjectRef[Plan]", root: str) -> None:
        self.plan: Plan = plan if isinstance(plan, Plan) else ray.get(plan)
        self.library = Library(self.plan.sources, self.plan.scenario, self.plan.seed)
        self.addresses = _addresses(root)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        split, number = SPLITS[str(batch["split"][0])], int(batch["shard"][0])
        answer: dict[str, Any] = {"split": split, "shard": number, "error": "", "message": ""}
        nothing = {"sha256": "", "rows": 0, "samples": 0, "quarantined": 0}
        try:
            tar, record = render_shard(self.plan, split, number, self.library)
            answer |= commit(self.addresses[split], tar, record).model_dump()
        except UnmuffleError as error:  # handed over as it is: Ray would bury it in its own
            answer |= nothing | {"error": type(error).__name__, "message": str(error)}
        return {name: [value] for name, value in answer.items()}


def render_shard(plan: Plan, split: Split, number: int, library: Library) -> tuple[bytes, ShardRecord]:
    """Draw, render and pack the rows of a shard; pure. Rows that cannot be rendered are recorded with their reason."""
    quarantined: list[QuarantinedRow] = []

    def rendered() -> Iterator[tuple[Row, Mixture, Measured]]:
        for index in shard_rows(plan, number, split):
            row = draw(plan, split, index)
            try:
                yield row, *render(row, plan.scenario, library)
            except BadAudio as error:
                quarantined.append(QuarantinedRow(id=row.id, reason=str(error)))

    return pack(number, rendered(), quarantined, plan.scenario.bit_depth)


# ---- finishing ------------------------------------------------------------------------------------------------------


def _record(plan: Plan, split: Split, shards: Shards) -> CorpusRecord:
    ordered = tuple(shards[number] for number in range(len(shards)))
    return CorpusRecord(
        scenario=plan.scenario,
        plan_digest=plan.digest,
        sources_digest=plan.sources.digest(),
        seed=plan.seed,
        render_version=RENDER_VERSION,
        split=split,
        shards=ordered,
        corpus_digest=prefix_digests(ordered)[-1],
        libraries={name: version(name) for name in RENDERERS} | {"libsndfile": soundfile.__libsndfile_version__},
    )


def _quarantined_rows(records: dict[Split, CorpusRecord]) -> int:
    return sum(shard.quarantined for record in records.values() for shard in record.shards)


def _refuse_too_many(root: str, records: dict[Split, CorpusRecord]) -> None:
    """Split by split: in the sum, a large split would hide that a small one is all but empty."""
    for split, record in records.items():
        bad = sum(shard.quarantined for shard in record.shards)
        rows = record.rows + bad
        if bad > MOST_QUARANTINED * rows:
            raise TooManyQuarantined(
                f"{bad} of {rows} rows of {root}/{split} could not be rendered; at most {MOST_QUARANTINED:.0%} may"
                " fail. The shards' commit objects state why: mend the sources they name."
            )


def _finish(root: str, plan: Plan, records: dict[Split, CorpusRecord]) -> Built:
    """Every corpus.json, last of all; then which digests were built together."""
    _refuse_too_many(root, records)
    keep_sources(root, plan.sources)
    for split, address in _addresses(root).items():
        publish(address, records[split])
    splits = Splits.model_validate({split: record.corpus_digest for split, record in records.items()})
    storage.create(storage.join(root, splits_name(splits.digest())), splits.canonical())
    built = {
        split: BuiltSplit(storage.join(root, split), record.corpus_digest, record.rows, record.hours)
        for split, record in records.items()
    }
    return Built(root, splits.digest(), built, quarantined=0, rendered=0, reused=0)
