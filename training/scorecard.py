"""The scorecard: how every system does in every slice, with intervals, and against the unprocessed input.

Scores stand in a table with one line for each system and row (see `COLUMNS`); `summarise` turns it into means and
paired differences. A failed metric is an empty cell with its reason in `failed`: it is counted, and never in a mean.
"""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from simulation.errors import UnknownName
from simulation.schema import Schema
from simulation.sources import Quarantined
from training.acquaintance import Acquaintance
from training.intervals import Bootstrap, Interval, clusters_of
from training.metrics import METRICS
from training.metrics.weights import weights_sha256
from training.sampling import SEED, averaged
from training.slices import OVERALL, Slice, slices_of

LABEL_NUMBERS = ("snr_db", "rt60_s", "cutoff_hz", "seconds", "level_db")
"""What is measured of a row; `level_db` is that of the noisy input, in dBFS."""
LABELS = (
    *("row", "system", SEED, "case", "speaker", "speaker_group", "noise", "room", "source", "degradations", "codec"),
    *LABEL_NUMBERS,
)
"""Columns of a table of scores; one for each metric follows, then `failed`, JSON text: metric to reason."""

REFERENCE = "unprocessed"
"""The system that every other one is compared with."""


class System(Schema):
    """What was scored."""

    name: str
    address: str
    """A version's folder, or the name of a baseline."""
    weights_sha256: str | None
    """None for a baseline, which has none."""
    kind: str | None = None
    """Of its network."""
    seeds: tuple[int, ...] = (0,)
    """Sampling seeds; more than one for a stochastic system, whose scores are averaged over them, row by row."""
    corpus: Acquaintance | None = None
    """What it has to do with the corpus of this scorecard; None for a baseline, and where its record does not say."""
    remarks: tuple[str, ...] = ()
    """What a reader of its scores should know, a sentence each (`Enhancer.remarks`)."""


class MetricNote(Schema):
    """What a metric was when this scorecard was made."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    version: int
    definition: str
    weights_sha256: str | None = None
    """Of the file that `needs_weights` names; None where it needs none, or none was there."""


class Score(Schema):
    """One system in one slice by one metric."""

    system: str
    slice: str
    metric: str
    mean: Interval | None
    """Over the rows that could be scored; None where none could."""
    failed: int
    """Rows that could not be scored; they are in no mean."""
    gain: Interval | None
    """Paired difference to the unprocessed input, over rows that both have; positive is better for every metric."""
    gain_over_champion: Interval | None
    """The same against the champion, where one was named."""
    worse: bool
    """The whole interval of `gain` lies below 0."""


class Scorecard(Schema):
    """All of it; its digest stands for what was found."""

    corpus: str
    """Address."""
    corpus_digest: str
    rows: int
    """Of the corpus."""
    harmless_rows: int = 0
    """Those that were added to do no harm on; they are in slices of their own, and in no other."""
    quarantined: tuple[Quarantined, ...]
    """Rows or files that were set aside before scoring."""
    systems: tuple[System, ...]
    champion: str | None
    """Name of the system that `gain_over_champion` compares with."""
    absent: tuple[str, ...] = ()
    """Rows that a scorecard should carry and this one does not, and why."""
    metrics: tuple[MetricNote, ...]
    slices: tuple[Slice, ...]
    scores: tuple[Score, ...]
    seed: int
    """Of the bootstrap."""
    packages: dict[str, str]
    """Versions of what computed it."""

    def score(self, system: str, slice_name: str, metric: str) -> Score:
        """One cell; `UnknownName` where there is none."""
        for score in self.scores:
            if (score.system, score.slice, score.metric) == (system, slice_name, metric):
                return score
        known = (f"{score.system} / {score.slice} / {score.metric}" for score in self.scores)
        raise UnknownName("score", f"{system} / {slice_name} / {metric}", known)

    def headline(self) -> dict[str, float]:
        """Overall means and gains, by names that MLflow accepts: `<system>/<metric>` and `<system>/<metric>_gain`."""
        figures = {}
        for score in self.scores:
            if score.slice == OVERALL and score.mean is not None:
                figures[f"{score.system}/{score.metric}"] = score.mean.mean
            if score.slice == OVERALL and score.gain is not None:
                figures[f"{score.system}/{score.metric}_gain"] = score.gain.mean
        return figures

    def leading_metric(self) -> MetricNote:
        """The metric that systems and utterances are ranked by: SI-SDR, or the first one where it was not scored."""
        return next((note for note in self.metrics if note.name == "si_sdr"), self.metrics[0])

    def ranking(self) -> list[str]:
        """The learnt systems by their overall gain, the largest first; then the baselines likewise."""
        baselines = {system.name for system in self.systems if system.weights_sha256 is None}
        others = [system.name for system in self.systems if system.name != REFERENCE]
        return sorted(others, key=lambda name: (name in baselines, -self._overall_gain(name)))

    def _overall_gain(self, system: str) -> float:
        gain = self.score(system, OVERALL, self.leading_metric().name).gain
        return -np.inf if gain is None else gain.mean


def note(metric: str) -> MetricNote:
    """A metric as the scorecard records it."""
    entry = METRICS[metric]
    fields = {name: getattr(entry, name) for name in MetricNote.model_fields if name != "weights_sha256"}
    return MetricNote(**fields, weights_sha256=weights_sha256(entry.needs_weights))


def summarise(
    scores: pd.DataFrame, metrics: Sequence[str], champion: str | None, seed: int
) -> tuple[tuple[Slice, ...], tuple[Score, ...]]:
    """Means and paired differences of every system, slice and metric; intervals as the gate has them."""
    scores = averaged(scores, metrics)
    systems = list(dict.fromkeys(scores["system"]))
    by_system = {name: scores[scores["system"] == name] for name in systems}
    labels = by_system[REFERENCE].reset_index(drop=True)
    columns = {metric: {name: by_system[name][metric].to_numpy(float) for name in systems} for metric in metrics}
    slices = slices_of(labels)
    found = []
    for part, mask in slices.items():
        bootstrap = Bootstrap(clusters_of(labels.loc[mask]), seed)
        for name in systems:
            for metric in metrics:
                values = {system: column[mask] for system, column in columns[metric].items()}
                found.append(_score(name, part.name, metric, values, champion, bootstrap))
    return tuple(slices), tuple(found)


def failures(scores: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Every failed score as (row, system, metric, reason)."""
    table = scores[scores["failed"] != "{}"]
    return [
        (row, system, metric, reason)
        for row, system, failed in zip(table["row"], table["system"], table["failed"], strict=True)
        for metric, reason in json.loads(failed).items()
    ]


def _score(
    system: str, part: str, metric: str, values: dict[str, np.ndarray], champion: str | None, bootstrap: Bootstrap
) -> Score:
    """One cell of the scorecard from the values of all systems in one slice."""
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    gain = None if system == REFERENCE else bootstrap.interval(sign * (values[system] - values[REFERENCE]))
    against = None
    if champion is not None and champion != system:
        against = bootstrap.interval(sign * (values[system] - values[champion]))
    return Score(
        system=system,
        slice=part,
        metric=metric,
        mean=bootstrap.interval(values[system]),
        failed=int(np.isnan(values[system]).sum()),
        gain=gain,
        gain_over_champion=against,
        worse=gain is not None and gain.high is not None and gain.high < 0.0,
    )
