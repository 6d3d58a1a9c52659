"""Versions x corpus -> scorecard: every system on every row, every metric, on Ray.

The results lie at one address: `scores.parquet`, `timing.json`, `report.html` and, written last, `scorecard.json`;
without the last one the others do not count.
"""

import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version as installed
from itertools import product
from typing import Any

import pandas as pd
import ray
from ray.exceptions import RayTaskError

from simulation import storage
from simulation.cluster import cluster, fraction
from simulation.errors import BadSetting, UnknownName, UnmuffleError
from simulation.schema import Schema, canonical_json
from training.acquaintance import acquaintance
from training.baselines import BASELINES
from training.checkpoint import load_version, version_record
from training.harmless import WithHarmless
from training.listening import Example, contest, picks, rows_of
from training.metrics import METRICS, STANDARD
from training.pairs import Labels, Readable, labels_of, set_aside
from training.report import render
from training.sampling import SEED
from training.scorecard import LABEL_NUMBERS, LABELS, Scorecard, System, note, summarise
from training.scoring import enhance_row, score_rows

log = logging.getLogger(__name__)

SCORING_VERSION = 1
"""Raised by hand whenever something beside the metrics changes what a scorecard says: baselines, do-no-harm rows, how
audio passes a network, slices, intervals."""
ROWS_PER_TASK = 8
SAMPLES = 3
"""Outputs of a stochastic system for each row; their scores are averaged."""
RECURRENT = "gru_mask"
"""Kind of the small recurrent mask, which every scorecard should have as a row."""
PACKAGES = ("unmuffle", "numpy", "scipy", "soxr", "torch", "pesq", "pystoi")
"""What a score may depend on."""

Progress = Callable[[int, int], None]
"""Called with how many scorings are done, and how many there are (rows x systems)."""


class Timing(Schema):
    """What one metric took; it differs from run to run, so it is no part of the scorecard and its digest."""

    metric: str
    scorings: int
    computed: int
    """The others were in the cache."""
    total_s: float
    """Of the computed ones, on one thread each."""

    @classmethod
    def of(cls, metric: str, took_s: Sequence[Mapping[str, float]]) -> "Timing":
        """From the seconds of each scoring, by metric."""
        computed = [each[metric] for each in took_s if metric in each]
        return cls(metric=metric, scorings=len(took_s), computed=len(computed), total_s=sum(computed))


def evaluate(
    systems: Mapping[str, str],
    corpus: Readable,
    out: str,
    *,
    champion: str | None = None,
    metrics: Sequence[str] = STANDARD,
    workers: int = 2,
    seed: int = 0,
    cache: str | None = None,
    harmless: int = 0,
    progress: Progress | None = None,
) -> Scorecard:
    """Score `systems` (name to a version's address, or to a baseline's name) on a corpus; write the results at `out`.

    The baselines are always there. `champion` names the system that the others are
    also compared with; `workers` is how many tasks run at a time; `seed` is the bootstrap's.
    With a `cache` (an address) every value is computed once for the same audio: an evaluation that was broken off goes
    on where it was, and an unchanged one does no metric work. `harmless` adds so many rows of each do-no-harm case.
    A stochastic system is scored with `SAMPLES` sampling seeds.
    """
    out = storage.normal(out)
    described = _described(systems, champion, metrics, corpus)
    quarantined = set_aside(corpus)
    own = len(corpus.entries)
    corpus = WithHarmless(corpus, harmless) if harmless else corpus
    labels = labels_of(corpus)
    storage.delete(storage.join(out, "scorecard.json"))
    with cluster():
        shared = ray.put(corpus)
        scores, timing = _score_all(shared, labels, described, metrics, workers, cache, progress)
        slices, cells = summarise(scores, metrics, champion, seed)
        scorecard = Scorecard(
            corpus=corpus.address,
            corpus_digest=corpus.digest,
            rows=own,
            harmless_rows=len(labels) - own,
            quarantined=quarantined,
            systems=described,
            champion=champion,
            absent=_absent(described),
            metrics=tuple(note(name) for name in metrics),
            slices=slices,
            scores=cells,
            seed=seed,
            packages={name: installed(name) for name in PACKAGES},
        )
        chosen = picks(scorecard, scores)
        examples = _listen(shared, labels, scorecard, rows_of(chosen), workers)
    storage.replace(storage.join(out, "scores.parquet"), parquet(scores))
    storage.replace(storage.join(out, "timing.json"), canonical_json([each.model_dump() for each in timing]))
    storage.replace(storage.join(out, "report.html"), render(scorecard, scores, chosen, examples))
    storage.replace(storage.join(out, "scorecard.json"), scorecard.canonical())
    return scorecard


def parquet(scores: pd.DataFrame) -> bytes:
    """The table of scores as a file."""
    buffer = io.BytesIO()
    scores.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _described(
    systems: Mapping[str, str], champion: str | None, metrics: Sequence[str], corpus: Readable
) -> tuple[System, ...]:
    """The baselines, then the systems asked for, each with its weights' digest; refuses what does not exist."""
    for name in metrics:
        if name not in METRICS:
            raise UnknownName("metric", name, METRICS)
    for name, address in systems.items():
        if name in BASELINES and address != name:
            raise BadSetting(f"The system at {address} is named {name!r}, as a baseline is; give it another name.")
    everything = {**{name: name for name in BASELINES}, **systems}
    if champion is not None and champion not in everything:
        raise UnknownName("system", champion, everything)
    return tuple(_system(name, address, corpus) for name, address in everything.items())


def _system(name: str, address: str, corpus: Readable) -> System:
    """A version, having seen that it loads, or a baseline; warns where it learnt from the very rows to be scored."""
    if address in BASELINES:
        return System(name=name, address=address, weights_sha256=None)
    model, record = load_version(address), version_record(address)
    seeds = tuple(range(SAMPLES)) if model.stochastic else (0,)
    known = acquaintance(record.facts, corpus)
    if known == "learnt from it":
        log.warning("%s learnt from %s: its scores there say nothing about other speech.", name, corpus.address)
    return System(
        name=name,
        address=address,
        weights_sha256=record.weights_sha256,
        kind=model.config.kind,
        seeds=seeds,
        corpus=known,
        remarks=model.remarks(),
    )


def _absent(systems: Sequence[System]) -> tuple[str, ...]:
    """What a scorecard should carry and this one does not."""
    if any(system.kind == RECURRENT for system in systems):
        return ()
    return ("small recurrent mask: no version of it was given; `unmuffle train gru_smoke --corpus ADDRESS` makes one",)


def _score_all(
    shared: ray.ObjectRef,
    labels: list[Labels],
    systems: Sequence[System],
    metrics: Sequence[str],
    workers: int,
    cache: str | None,
    progress: Progress | None,
) -> tuple[pd.DataFrame, list[Timing]]:
    """The table of scores, systems in order and rows in order, and what each metric took."""
    starts = range(0, len(labels), ROWS_PER_TASK)
    pieces = [(system, range(start, min(start + ROWS_PER_TASK, len(labels)))) for system in systems for start in starts]
    calls = [(shared, system.address, tuple(metrics), tuple(rows), cache, system.seeds) for system, rows in pieces]
    done, found = 0, {}
    for index, scored in _run(score_rows, calls, workers):
        found[index] = scored
        done += len(pieces[index][1])
        if progress is not None:
            progress(done, len(labels) * len(systems))
    table = [
        {"row": labels[row].id, "system": system.name, SEED: seed, **labels[row].model_dump(exclude={"id"}), **scored}
        for index, (system, rows) in enumerate(pieces)
        for (row, seed), scored in zip(product(rows, system.seeds), found[index], strict=True)
    ]
    timing = [Timing.of(name, [line["took_s"] for line in table]) for name in metrics]
    return _typed(pd.DataFrame(table, columns=[*LABELS, *metrics, "failed"]), metrics), timing


def _typed(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The same columns with the same types, whether or not anything is missing in them."""
    numbers = [*LABEL_NUMBERS, *metrics]
    texts = [name for name in table.columns if name not in (*numbers, SEED)]
    return table.astype({SEED: "int64", **dict.fromkeys(numbers, "float64"), **dict.fromkeys(texts, "string")})


def _listen(
    shared: ray.ObjectRef, labels: list[Labels], scorecard: Scorecard, rows: Sequence[str], workers: int
) -> dict[str, Example]:
    """The audio of the chosen rows through the systems that are heard, by row."""
    place = {label.id: index for index, label in enumerate(labels)}
    addresses = {system.name: system.address for system in scorecard.systems}
    heard = contest(scorecard).heard
    calls = [(shared, place[row], tuple(addresses[name] for name in heard)) for row in rows]
    examples = {}
    for index, (mixture, outputs) in _run(enhance_row, calls, workers):
        by_name = dict(zip(heard, outputs, strict=True))
        label = labels[place[rows[index]]]
        examples[rows[index]] = Example(label, mixture.clean, by_name, mixture.sample_rate)
    return examples


def _run(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], workers: int) -> Iterator[tuple[int, Any]]:
    """Call a function on Ray, `workers` at a time; yields (index of the call, its answer) as they end."""
    task = ray.remote(function).options(num_cpus=fraction(workers))
    waiting = list(enumerate(calls))[::-1]
    running: dict[ray.ObjectRef, int] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            index, arguments = waiting.pop()
            running[task.remote(*arguments)] = index
        ready, _ = ray.wait(list(running))
        for reference in ready:
            yield running.pop(reference), _answer(reference)


def _answer(reference: ray.ObjectRef) -> Any:
    """What a task gave; an error that a person can mend comes without Ray's wrapping."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UnmuffleError):
            raise error.cause from None
        raise
