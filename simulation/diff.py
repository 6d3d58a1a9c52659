"""What changed from one corpus to another: scenario, sources and seed field by field, and what was measured."""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from simulation.card.facts import ORDER, Spread
from simulation.card.page import opened
from simulation.card.table import quantities, table
from simulation.provenance import kept_sources
from simulation.schema import Schema, canonical_json
from simulation.sources import SourceManifest

EXAMPLES = 5


class Change(Schema):
    """A field that differs; JSON text, empty where one of the two has no such field."""

    field: str
    a: str
    b: str


class SourceChange(Schema):
    """What became of the recordings of one kind."""

    kind: str
    a: int
    """Recordings."""
    b: int
    added: int
    removed: int
    changed: int
    """Of the same id, with other bytes, in another split or of another group."""
    examples: tuple[str, ...]
    """The first few ids, with + for added, - for removed and ~ for changed."""


class Amount(Schema):
    """How much there is of a case."""

    rows: int
    hours: float


class CaseChange(Schema):
    """One case of either scenario; None where a corpus does not have it."""

    case: str
    a: Amount | None
    b: Amount | None


class MeasuredChange(Schema):
    """One measured quantity in one case; None where a corpus has no such value."""

    case: str
    name: str
    unit: str
    a: Spread | None
    b: Spread | None


class CorpusDiff(Schema):
    """Everything that differs; equal corpora have an equal digest and empty lists."""

    a: str
    b: str
    same_digest: bool
    scenario: tuple[Change, ...]
    """Of the scenario, the seed, the render version and the libraries."""
    sources: tuple[SourceChange, ...]
    cases: tuple[CaseChange, ...]
    """Those whose rows or hours differ."""
    measured: tuple[MeasuredChange, ...]
    """Those whose quantiles differ."""


def diff(a: str, b: str) -> CorpusDiff:
    """Compare two corpora, or two splits; raises what opening them raises."""
    (splits_a, root_a), (splits_b, root_b) = opened(a), opened(b)
    record_a, record_b = (next(iter(splits.values())).record for splits in (splits_a, splits_b))
    rows_a, rows_b = (
        table((entry for corpus in splits.values() for entry in corpus.entries), record.scenario, record.seed)
        for splits, record in ((splits_a, record_a), (splits_b, record_b))
    )
    told = [
        record.scenario.model_dump(mode="json")
        | {"seed": record.seed, "render_version": record.render_version, "libraries": record.libraries}
        for record in (record_a, record_b)
    ]
    digests = [[corpus.digest for corpus in splits.values()] for splits in (splits_a, splits_b)]
    return CorpusDiff(
        a=a,
        b=b,
        same_digest=digests[0] == digests[1],
        scenario=tuple(changes(*told)),
        sources=tuple(source_changes(kept_sources(root_a), kept_sources(root_b))),
        cases=tuple(_case_changes(rows_a, rows_b)),
        measured=tuple(_measured_changes(rows_a, rows_b)),
    )


def changes(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Change]:
    """The fields that differ, by path; members of lists go by their name, label or kind where they have one."""
    flat_a, flat_b = dict(_flat(a)), dict(_flat(b))
    for field in dict.fromkeys([*flat_a, *flat_b]):
        if flat_a.get(field) != flat_b.get(field):
            yield Change(field=field, a=flat_a.get(field, ""), b=flat_b.get(field, ""))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and JSON of every leaf."""
    if isinstance(value, dict) and value:
        for name, member in value.items():
            yield from _flat(member, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(member, dict) for member in value):
        for place, member in enumerate(value):
            yield from _flat(member, f"{path}.{_called(member, place)}")
    else:
        yield path, canonical_json(value).decode()


def _called(member: Any, place: int) -> str:
    """What a member of a list is called."""
    names = (member.get(key) for key in ("name", "label", "kind")) if isinstance(member, dict) else ()
    return next((str(name) for name in names if name), str(place))


def source_changes(a: SourceManifest, b: SourceManifest) -> Iterator[SourceChange]:
    """The kinds whose recordings differ."""
    for kind in ORDER:
        was, now = (
            {one.id: (one.sha256, one.split, one.group) for one in manifest.recordings if one.kind == kind}
            for manifest in (a, b)
        )
        added, removed = sorted(now.keys() - was.keys()), sorted(was.keys() - now.keys())
        changed = sorted(name for name in was.keys() & now.keys() if was[name] != now[name])
        if added or removed or changed:
            marked = [
                f"{mark}{name}" for mark, names in zip("+-~", (added, removed, changed), strict=True) for name in names
            ]
            yield SourceChange(
                kind=kind,
                a=len(was),
                b=len(now),
                added=len(added),
                removed=len(removed),
                changed=len(changed),
                examples=tuple(marked[:EXAMPLES]),
            )


def _case_changes(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[CaseChange]:
    for case in _cases(a, b):
        was, now = (_amount(rows[rows["case"] == case]) for rows in (a, b))
        if was != now:
            yield CaseChange(case=case, a=was, b=now)


def _amount(rows: pd.DataFrame) -> Amount | None:
    return Amount(rows=len(rows), hours=round(float(rows["hours"].sum()), 4)) if len(rows) else None


def _measured_changes(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[MeasuredChange]:
    for case in _cases(a, b):
        for quantity in quantities():
            was, now = (Spread.of(rows.loc[rows["case"] == case, quantity.name]) for rows in (a, b))
            if _quantiles(was) != _quantiles(now):
                yield MeasuredChange(case=case, name=quantity.name, unit=quantity.unit, a=was, b=now)


def _quantiles(spread: Spread | None) -> tuple[float, ...]:
    return (spread.low, spread.median, spread.high) if spread else ()


def _cases(*tables: pd.DataFrame) -> Iterable[str]:
    return dict.fromkeys(str(case) for rows in tables for case in rows["case"])
