"""Slices: rows that are counted together, because they were degraded alike or are alike.

Averages hide where a system harms. Rows are sliced by the case of the scenario, by what was done (degradations, codec),
by what was measured while they were rendered (SNR, RT60, bandwidth), by what can be measured of any input (level,
length), by who speaks, and by the source corpus.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from simulation.schema import Schema

OVERALL = "overall"
HARMLESS = "harmless_"
"""What the names of cases start with that no system should change; they count in no other slice than their own."""

Kind = Literal[
    "overall", "case", "harmless", "degradation", "codec",
    "snr", "rt60", "bandwidth", "level", "length", "speaker", "source",
]  # fmt: skip
MAIN_KINDS: tuple[Kind, ...] = ("overall", "case", "harmless")
"""Slices that are always shown; the others are for a closer look."""


class Slice(Schema):
    """Rows that are counted together."""

    name: str
    kind: Kind
    rows: int


@dataclass(frozen=True)
class Buckets:
    """One number of a row, cut into ranges [low, high); a row without the number is in none."""

    kind: Kind
    column: str
    """Of the table of scores."""
    title: str
    edges: tuple[float, ...]
    """In `unit`."""
    unit: str

    def cut(self, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Name and mask of each bucket, lowest first."""
        for low, high in pairwise((-np.inf, *self.edges, np.inf)):
            yield self._name(low, high), (values >= low) & (values < high)

    def _name(self, low: float, high: float) -> str:
        if low == -np.inf:
            return f"{self.title} below {high:g} {self.unit}"
        if high == np.inf:
            return f"{self.title} from {low:g} {self.unit}"
        return f"{self.title} {low:g} to {high:g} {self.unit}"


BUCKETS = (
    Buckets("snr", "snr_db", "SNR", (0.0, 5.0, 10.0), "dB"),
    Buckets("rt60", "rt60_s", "RT60", (0.25, 0.5, 1.0), "s"),
    Buckets("bandwidth", "cutoff_hz", "bandwidth", (2000.0, 3000.0, 4000.0), "Hz"),
    Buckets("level", "level_db", "input level", (-40.0, -30.0, -20.0), "dBFS"),
    Buckets("length", "seconds", "length", (2.0, 3.0, 5.0, 15.0), "s"),
)
"""Edges follow what people tell apart (SNR, RT60, telephone bandwidth) and what the shipped corpus spreads over."""


TEXTS: tuple[tuple[Kind, str], ...] = (("codec", "codec"), ("speaker", "speaker_group"), ("source", "source"))
"""Kinds of slices that are a word of a row: kind, which is also their title, and column of the table of scores."""


def is_harmless(cases: pd.Series) -> pd.Series:
    """Which rows were added to do no harm on, by their case."""
    return cases.astype(str).str.startswith(HARMLESS).astype(bool)


def slices_of(labels: pd.DataFrame) -> dict[Slice, np.ndarray]:
    """Every slice that has rows, with its mask over the rows [rows, bool].

    Overall first, then the cases, then what was done (where that says more than the cases do), each column of
    `BUCKETS` and of `TEXTS` that is there.
    """
    harmless = is_harmless(labels["case"]).to_numpy(bool)
    found: list[tuple[str, Kind, np.ndarray]] = [(OVERALL, "overall", ~harmless)]
    for case in dict.fromkeys(labels["case"]):
        kind: Kind = "harmless" if str(case).startswith(HARMLESS) else "case"
        found.append((f"{case} (case)" if case == OVERALL else case, kind, (labels["case"] == case).to_numpy()))
    found += _degradations(labels, [mask for _, _, mask in found])
    for buckets in BUCKETS:
        if buckets.column in labels:
            values = labels[buckets.column].to_numpy(float, na_value=np.nan)
            found += [(name, buckets.kind, inside & ~harmless) for name, inside in buckets.cut(values)]
    for kind, column in TEXTS:
        words = labels[column] if column in labels else pd.Series(dtype=object)
        for word in sorted(words.dropna().unique()):
            found.append((f"{kind}: {word}", kind, (words == word).to_numpy(bool, na_value=False) & ~harmless))
    return {Slice(name=name, kind=kind, rows=int(mask.sum())): mask for name, kind, mask in found if mask.any()}


def _degradations(labels: pd.DataFrame, known: list[np.ndarray]) -> list[tuple[str, Kind, np.ndarray]]:
    """Rows that a kind of degradation was done to, alone or with others; none that are a slice already."""
    if "degradations" not in labels:
        return []
    done = [set(str(text).split("+")) if not pd.isna(text) else set() for text in labels["degradations"]]
    masks = {kind: np.array([kind in each for each in done]) for kind in sorted(set().union(*done))}
    new = {kind: mask for kind, mask in masks.items() if not any(np.array_equal(mask, other) for other in known)}
    return [(f"with {kind}", "degradation", mask) for kind, mask in new.items()]
