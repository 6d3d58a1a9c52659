"""The card as one HTML page: nothing is loaded from anywhere; sounds and pictures are inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd

from simulation import embedded, storage
from simulation.card import figures
from simulation.card.alarms import CLEAN_SNR_DB, FULL_BAND_SHARE, Quality, alarms
from simulation.card.facts import (
    DIGITS,
    CardFacts,
    SetAside,
    licences,
    quantity_facts,
    slice_facts,
    source_facts,
    split_facts,
)
from simulation.card.samples import EXCERPT_S, Sample, chosen, heard
from simulation.card.table import table
from simulation.corpus import Corpus, open_splits
from simulation.errors import BadSetting, CorpusIncomplete
from simulation.provenance import kept_sources
from simulation.shards import RECORD
from simulation.sources import SourceManifest
from simulation.virtual import plan_below

LISTED = 200
"""Lines of a list on the page; the JSON has all."""


@dataclass(frozen=True)
class Card:
    """A corpus's card."""

    facts: CardFacts
    page: bytes
    """HTML, UTF-8."""


def card(address: str, digest: str | None = None, quality: Sequence[Quality] = ()) -> Card:
    """The card of the corpus at a root, or of one split; with `digest`, as it was when it had that.

    `quality` are scores of source recordings by metrics that this layer does not know. Raises what opening a corpus
    raises, and `NotThere` where no source manifest was kept.
    """
    address = storage.normal(address)
    corpora, root = opened(address, digest)
    first = next(iter(corpora.values())).record
    manifest = kept_sources(root)
    frame = table((entry for one in corpora.values() for entry in one.entries), first.scenario, first.seed)
    if frame.empty:
        raise CorpusIncomplete(f"{address} has no rows: there is nothing to measure.")
    facts = _facts(address, corpora, manifest, frame, quality, digest)
    samples = [heard(corpora, row) for row in chosen(frame)]
    return Card(facts, _page(facts, frame, manifest, samples))


def opened(address: str, digest: str | None = None) -> tuple[dict[str, Corpus], str]:
    """The splits to look at, by name, and the root that they belong to; `address` is that of a root or of a split."""
    address = storage.normal(address)
    if storage.exists(storage.join(address, RECORD)):
        corpus = Corpus.open(address, digest)
        return {corpus.split: corpus}, address.rpartition("/")[0]
    if plan_below(address, digest) is not None:
        raise BadSetting(
            f"{address} is a plan: its rows are rendered when they are read, so nothing has been measured yet. Run"
            " `unmuffle simulate` without --virtual; what is there keeps its meaning."
        )
    return open_splits(address, digest), address


def _facts(
    address: str,
    corpora: Mapping[str, Corpus],
    manifest: SourceManifest,
    frame: pd.DataFrame,
    quality: Sequence[Quality],
    digest: str | None,
) -> CardFacts:
    """Every number of the card."""
    some = next(iter(corpora.values()))
    record, scenario = some.record, some.record.scenario
    cases = [case.name for case in scenario.cases]
    measured = quantity_facts(frame, cases)
    by_speaker = frame.groupby("speaker")["hours"].sum().sort_values(ascending=False, kind="stable")
    rows_aside = [row for one in corpora.values() for shard in one.shards for row in shard.quarantined]
    return CardFacts(
        name=f"{scenario.name}@{record.plan_digest[:8]}",
        address=address,
        corpus_digest=digest or (some.digest if len(corpora) == 1 else _digest_of_all(corpora)),
        scenario=scenario.name,
        sample_rate=scenario.sample_rate,
        bit_depth=scenario.bit_depth,
        seed=record.seed,
        render_version=record.render_version,
        rows=len(frame),
        hours=round(float(frame["hours"].sum()), DIGITS),
        splits=split_facts(list(corpora.values()), frame),
        slices=slice_facts(frame, cases),
        quantities=measured,
        speakers={str(name): round(float(value), DIGITS) for name, value in by_speaker.items()},
        sources=source_facts(manifest),
        licences=licences(manifest),
        set_aside_sources=tuple(SetAside(what=one.address, reason=one.reason) for one in manifest.quarantined),
        set_aside_rows=tuple(SetAside(what=row.id, reason=row.reason) for row in rows_aside),
        alarms=alarms(manifest, frame, scenario, measured, quality),
        libraries=record.libraries,
    )


def _digest_of_all(corpora: Mapping[str, Corpus]) -> str:
    from simulation.manifest import Splits

    return Splits.model_validate({split: one.digest for split, one in corpora.items()}).digest()


def _page(facts: CardFacts, frame: pd.DataFrame, manifest: SourceManifest, samples: Sequence[Sample]) -> bytes:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: files("simulation.card").joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    compared = [quantity for quantity in facts.quantities if quantity.comparison]
    page = environment.get_template("card.html.j2").render(
        card=facts,
        compared=compared,
        hours=figures.hours(facts),
        scatters=[figures.asked_against_measured(facts, quantity, frame) for quantity in compared],
        spreads=[figures.spreads(facts, quantity) for quantity in facts.quantities],
        speakers=figures.speakers(facts),
        histograms=_histograms(facts, manifest),
        samples=samples,
        excerpt_s=EXCERPT_S,
        range_db=embedded.RANGE_DB,
        listed=LISTED,
    )
    return page.encode()


def _histograms(facts: CardFacts, manifest: SourceManifest) -> list[str]:
    """The clean sources by what could make them unclean."""
    probes: list[Any] = [one.probe for one in manifest.recordings if one.kind == "speech" and one.probe is not None]
    snr_db = [probe.snr_db for probe in probes if probe.snr_db is not None]
    bandwidth_hz = [probe.bandwidth_hz for probe in probes]
    wanted = (
        (snr_db, "Clean sources: estimated SNR, dB", CLEAN_SNR_DB),
        (bandwidth_hz, "Clean sources: bandwidth, Hz", FULL_BAND_SHARE * facts.sample_rate / 2),
    )
    return [figures.histogram(values, title, limit) for values, title, limit in wanted if values]
