"""Which rows are heard on the card: the same for the same corpus, every case among them, easy rows and hard ones."""

from dataclasses import dataclass
from itertools import cycle, islice

import pandas as pd

from simulation import embedded
from simulation.corpus import Corpus
from simulation.manifest import Entry

SAMPLES = 10
EXCERPT_S = 5.0
"""Longer rows are heard from the start up to here."""

HARDNESS = ("snr_db", "sir_db", "drr_db", "cutoff_hz", "level_db")
"""What the rows of a case are ordered by: the first of these that the case has."""


@dataclass(frozen=True)
class Side:
    """One waveform of a row: sound and picture as data: addresses."""

    title: str
    sound: str
    picture: str


@dataclass(frozen=True)
class Sample:
    """One row to hear."""

    entry: Entry
    operations: str
    """What happened to the speech, in order."""
    seconds: float
    """Heard."""
    top_khz: float
    sides: tuple[Side, Side]
    """Noisy, then clean."""


def chosen(frame: pd.DataFrame, count: int = SAMPLES) -> list[str]:
    """Ids of the rows to hear, case by case and from hard to easy.

    Each case has as many as its turn comes up; of its rows, ordered, those at equal distances are taken.
    """
    cases = list(dict.fromkeys(frame["case"]))
    turns = list(islice(cycle(cases), count))
    picked: list[str] = []
    for case in cases:
        rows = frame[frame["case"] == case]
        by = next((name for name in HARDNESS if rows[name].notna().any()), "id")
        ordered = rows.sort_values([by, "id"], kind="stable")["id"].tolist()
        wanted = min(turns.count(case), len(ordered))
        picked += [ordered[int((place + 0.5) / wanted * len(ordered))] for place in range(wanted)]
    return picked


def heard(corpora: dict[str, Corpus], row_id: str) -> Sample:
    """A row as sound and picture; noisy and clean share the colour scale."""
    corpus = corpora[row_id.rpartition("-")[0]]
    place = corpus.position(row_id)
    mixture, entry = corpus.read(place), corpus.entries[place]
    rate = corpus.sample_rate
    excerpts = [side[: int(EXCERPT_S * rate)] for side in (mixture.noisy, mixture.clean)]
    top_db = max(embedded.loudest_db(side, rate) for side in excerpts)
    sides = tuple(
        Side(title, embedded.sound(side, rate), embedded.picture(side, rate, top_db))
        for title, side in zip(("noisy", "clean"), excerpts, strict=True)
    )
    operations = " → ".join(operation.name for operation in entry.row.operations) or "as it was recorded"
    return Sample(entry, operations, len(excerpts[0]) / rate, rate / 2000, (sides[0], sides[1]))
