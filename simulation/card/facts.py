"""The card in numbers: what a corpus holds, what was measured of it, and what it was made from. JSON for machines."""

from collections.abc import Iterable, Sequence

import pandas as pd

from simulation.card.table import quantities
from simulation.corpus import Corpus
from simulation.schema import Schema
from simulation.sources import KINDS, Kind, Recording, SourceManifest

DIGITS = 4

ORDER: tuple[Kind, ...] = (*KINDS, "noisy")
"""Of the sources on the card."""


class Spread(Schema):
    """Quantiles of some numbers."""

    rows: int
    low: float
    """5 %."""
    median: float
    high: float
    """95 %."""

    @classmethod
    def of(cls, values: "pd.Series[float]") -> "Spread | None":
        """Of the numbers that are there; None where there is none."""
        known = values.dropna()
        if known.empty:
            return None
        low, median, high = (round(float(known.quantile(share)), DIGITS) for share in (0.05, 0.5, 0.95))
        return cls(rows=len(known), low=low, median=median, high=high)


class Comparison(Schema):
    """What was asked for, what came out, and how far apart they are."""

    asked: Spread
    measured: Spread
    difference: Spread
    """Measured less asked, row by row."""
    largest: float
    """Largest absolute difference."""


class QuantityFacts(Schema):
    """One measured quantity over the corpus."""

    name: str
    title: str
    unit: str
    cases: dict[str, Spread]
    """By case, where the case has it."""
    comparison: Comparison | None
    """Over the rows that were asked for a value."""


class SliceFacts(Schema):
    """How much of a case there is."""

    case: str
    rows: int
    hours: float
    hours_by_split: dict[str, float]


class SplitFacts(Schema):
    """One split."""

    split: str
    address: str
    corpus_digest: str
    rows: int
    hours: float
    speakers: int
    noises: int
    rooms: int
    quarantined: int


class SourceFacts(Schema):
    """The recordings of one kind."""

    kind: str
    recordings: int
    groups: int
    hours: float
    set_aside: int
    probes: dict[str, Spread]
    """What was measured of them, by name of `simulation.sources.Probe`."""


class Licence(Schema):
    """What stands under one licence."""

    licence: str
    """Empty where none is stated."""
    kind: str
    recordings: int
    hours: float
    sources: tuple[str, ...]
    """Where they were published, as far as it is stated; the repository or the site, not each file."""


class SetAside(Schema):
    """A source file or a row that is not in the corpus, and why."""

    what: str
    reason: str


class CardFacts(Schema):
    """Everything on the card but its sounds."""

    name: str
    address: str
    corpus_digest: str
    scenario: str
    sample_rate: int
    bit_depth: int
    seed: int
    render_version: int
    rows: int
    hours: float
    splits: tuple[SplitFacts, ...]
    slices: tuple[SliceFacts, ...]
    quantities: tuple[QuantityFacts, ...]
    speakers: dict[str, float]
    """Hours of each, most first."""
    sources: tuple[SourceFacts, ...]
    licences: tuple[Licence, ...]
    set_aside_sources: tuple[SetAside, ...]
    set_aside_rows: tuple[SetAside, ...]
    alarms: tuple[str, ...]
    libraries: dict[str, str]


def split_facts(corpora: Sequence[Corpus], frame: pd.DataFrame) -> tuple[SplitFacts, ...]:
    """What each split holds."""
    by_split = {str(name): part for name, part in frame.groupby("split")}
    return tuple(
        SplitFacts(
            split=corpus.split,
            address=corpus.address,
            corpus_digest=corpus.digest,
            rows=len(corpus),
            hours=round(corpus.hours, DIGITS),
            speakers=by_split[corpus.split]["speaker"].nunique(),
            noises=by_split[corpus.split]["noise"].nunique(),
            rooms=by_split[corpus.split]["room"].nunique(),
            quarantined=sum(shard.quarantined for shard in corpus.record.shards),
        )
        for corpus in corpora
        if len(corpus)
    )


def slice_facts(frame: pd.DataFrame, cases: Iterable[str]) -> tuple[SliceFacts, ...]:
    """How much there is of each case, in the scenario's order."""
    found = []
    for case in cases:
        rows = frame[frame["case"] == case]
        by_split = rows.groupby("split")["hours"].sum()
        hours = {str(split): round(float(value), DIGITS) for split, value in by_split.items()}
        total = round(float(rows["hours"].sum()), DIGITS)
        found.append(SliceFacts(case=case, rows=len(rows), hours=total, hours_by_split=hours))
    return tuple(found)


def quantity_facts(frame: pd.DataFrame, cases: Sequence[str]) -> tuple[QuantityFacts, ...]:
    """Every quantity that was measured of any row."""
    found = []
    for quantity in quantities():
        spreads = {case: Spread.of(frame.loc[frame["case"] == case, quantity.name]) for case in cases}
        known = {case: spread for case, spread in spreads.items() if spread is not None}
        if known:
            comparison = compared(frame[f"asked_{quantity.name}"], frame[quantity.name])
            found.append(
                QuantityFacts(
                    name=quantity.name, title=quantity.title, unit=quantity.unit, cases=known, comparison=comparison
                )
            )
    return tuple(found)


def compared(asked: "pd.Series[float]", measured: "pd.Series[float]") -> Comparison | None:
    """Two columns of one table, over the rows that have both."""
    both = asked.notna() & measured.notna()
    difference = (measured - asked)[both]
    spreads = [Spread.of(values) for values in (asked[both], measured[both], difference)]
    if any(spread is None for spread in spreads):
        return None
    told, came, apart = (spread for spread in spreads if spread is not None)
    largest = round(float(difference.abs().max()), DIGITS)
    return Comparison(asked=told, measured=came, difference=apart, largest=largest)


def source_facts(manifest: SourceManifest) -> tuple[SourceFacts, ...]:
    """What the corpus was made from, kind by kind."""
    return tuple(
        SourceFacts(
            kind=kind,
            recordings=len(recordings),
            groups=len({one.group for one in recordings}),
            hours=round(sum(one.seconds for one in recordings) / 3600, DIGITS),
            set_aside=sum(one.kind == kind or (one.kind, kind) == ("pairs", "speech") for one in manifest.quarantined),
            probes=_probe_spreads(recordings),
        )
        for kind in ORDER
        if (recordings := [one for one in manifest.recordings if one.kind == kind])
    )


def _probe_spreads(recordings: Iterable[Recording]) -> dict[str, Spread]:
    probes = pd.DataFrame([one.probe.model_dump() for one in recordings if one.probe is not None])
    spreads = {str(name): Spread.of(pd.to_numeric(probes[name])) for name in probes}
    return {name: spread for name, spread in spreads.items() if spread is not None}


def licences(manifest: SourceManifest) -> tuple[Licence, ...]:
    """The ledger: recordings and hours under each licence, most hours first within a kind."""
    found: dict[tuple[str, str], list[Recording]] = {}
    for recording in manifest.recordings:
        found.setdefault((recording.kind, recording.licence), []).append(recording)
    lines = [
        Licence(
            licence=licence,
            kind=kind,
            recordings=len(recordings),
            hours=round(sum(one.seconds for one in recordings) / 3600, DIGITS),
            sources=tuple(sorted({one.source.partition(": ")[0] for one in recordings if one.source})),
        )
        for (kind, licence), recordings in found.items()
    ]
    return tuple(sorted(lines, key=lambda line: (ORDER.index(line.kind), -line.hours, line.licence)))
