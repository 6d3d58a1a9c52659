"""What the commands `unmuffle corpus card` and `unmuffle corpus diff` tell."""

from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import RenderableType

from pipelines.answer import Answer, line, stacked, table
from simulation import storage
from simulation.errors import BadSetting, UnknownName

if TYPE_CHECKING:
    from simulation.card import Quality
    from simulation.card.facts import Spread
    from simulation.diff import CorpusDiff


JUDGED = 30
"""Clean sources that a quality metric listens to: as many, spread evenly over all of them."""


def card_of(address: str, out: str, page: bool = True, quality: str = "") -> Answer:
    """The card's facts, and the page at `out`, by default `<corpus>-card.html` in this folder.

    `quality`, such as `dnsmos_ovrl:3`, is a metric that needs no clean, and the least that clean speech scores by it.
    """
    from simulation.card import card

    at, digest = _address_and_digest(address)
    drawn = card(at, digest, [_judged(at, quality)] if quality else ())
    facts = drawn.facts
    place = storage.normal(out or f"{facts.name}-card.html")
    if page:
        storage.replace(place, drawn.page)
    rows = [
        (
            one.title,
            one.unit,
            _spread(one.comparison.asked),
            _spread(one.comparison.measured),
            f"{one.comparison.largest:g}",
        )
        for one in facts.quantities
        if one.comparison
    ]
    title = f"{facts.name}: {facts.rows} rows, {facts.hours:.2f} h, {len(facts.speakers)} speakers"
    columns = ("", "unit", "asked: median (5 … 95 %)", "measured", "largest difference")
    if not rows:  # recorded pairs: nothing was asked
        columns = ("", "unit", "case", "measured: median (5 … 95 %)", "rows")
        rows = [
            (one.title, one.unit, case, _spread(spread), str(spread.rows))
            for one in facts.quantities
            for case, spread in one.cases.items()
        ]
    compared = table(title, columns, rows)
    notes = [f"Alarm: {alarm}" for alarm in facts.alarms] or ["No alarm."]
    notes.append(f"Set aside: {len(facts.set_aside_sources)} source files, {len(facts.set_aside_rows)} rows")
    links = [line(f"Card: {place.removeprefix('file://')}")] if page else []
    data = facts.model_dump(mode="json") | ({"page": place} if page else {})
    return Answer(data, stacked(compared, *notes, *links))


def _judged(address: str, quality: str) -> "Quality":
    """Scores of some of a corpus's clean sources by a metric that needs no clean."""
    from simulation.card import Quality
    from simulation.card.page import opened
    from simulation.provenance import kept_sources
    from simulation.sources import load
    from training.metrics import METRICS
    from training.metrics.base import MetricFailed

    name, _, least = quality.partition(":")
    known = {each.name for each in METRICS.values() if not each.needs_clean and each.higher_is_better}
    if name not in known:
        raise UnknownName("metric that needs no clean", name, known)
    if not least.replace(".", "", 1).isdigit():
        raise BadSetting(f"--quality is {quality!r}; expected a metric and the least of it, such as {name}:3.")
    metric = METRICS[name]
    speech = [one for one in kept_sources(opened(address)[1]).recordings if one.kind == "speech"]
    scores = {}
    for recording in speech[:: -(-len(speech) // JUDGED)]:
        rate = recording.sample_rate
        samples = load(recording, rate).astype("float64")
        with suppress(MetricFailed):  # too short, say: it was not judged
            scores[recording.id] = metric.score(samples, samples, rate)
    return Quality(metric.title, float(least), scores)


def difference(a: str, b: str) -> Answer:
    """What differs between two corpora, as tables; as JSON, everything that does."""
    from simulation.diff import diff

    found = diff(storage.normal(a), storage.normal(b))
    return Answer(found.model_dump(mode="json"), stacked(*_shown(found)))


def _shown(found: "CorpusDiff") -> "list[RenderableType]":
    if found.same_digest:
        return ["Equal: the same rows, the same samples."]
    parts: list[RenderableType] = []
    if found.scenario:
        rows = [(one.field, one.a, one.b) for one in found.scenario]
        parts.append(table("scenario", ("field", "a", "b"), rows))
    if found.sources:
        parts.append(
            table(
                "sources",
                ("kind", "a", "b", "added", "removed", "changed", "such as"),
                [
                    (one.kind, *map(str, (one.a, one.b, one.added, one.removed, one.changed)), ", ".join(one.examples))
                    for one in found.sources
                ],
            )
        )
    amounts = [
        (case.case, *(f"{one.rows} rows, {one.hours:.3f} h" if one else "none" for one in (case.a, case.b)))
        for case in found.cases
    ]
    parts.append(table("how much there is", ("case", "a", "b"), amounts) if amounts else "As much of every case.")
    measured = [(one.case, f"{one.name} {one.unit}".strip(), _spread(one.a), _spread(one.b)) for one in found.measured]
    parts.append(
        table("measured, median (5 … 95 %)", ("case", "", "a", "b"), measured)
        if measured
        else "Nothing measures otherwise."
    )
    return parts


def _spread(spread: "Spread | None") -> str:
    return f"{spread.median:.4g} ({spread.low:.4g} … {spread.high:.4g})" if spread else "none"


def _address_and_digest(corpus: str) -> tuple[str, str | None]:
    """<address>#<digest>, or an address alone."""
    address, mark, digest = corpus.rpartition("#")
    return (address, digest) if mark else (corpus, None)
