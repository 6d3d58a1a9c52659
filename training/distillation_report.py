"""What distillation lost and saved: a student beside its teachers on the same rows, and whether it says the same.

Quality is a paired difference by metric against the clean speech. Time is processor time of one thread, student and
teachers in turns. Content is held against what the teachers themselves say, so that it can be checked without clean
speech: with recordings from the field nothing else can.
"""

import math
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import ray
import torch

from simulation.cluster import cluster, fraction
from simulation.degradations.base import Mixture
from simulation.schema import Schema
from training.checkpoint import load_version
from training.intervals import Bootstrap, Interval, clusters_of
from training.metrics import METRICS
from training.metrics.weights import weights_sha256
from training.models import Enhancer
from training.pairs import Readable, labels_of
from training.scoring import score_mixture, system_at

QUALITY = ("si_sdr", "pesq", "estoi", "lsd", "loudness_error")
"""Against the clean speech."""
CONTENT = ("lsd", "loudness_error", "dwer")
"""Against the teachers' output; dWER where a recogniser is at hand."""
LOUDER_LU, MORE_WORDS = 3.0, 0.2
"""Beyond this distance in loudness, or in words, a row counts as changed."""
ROWS_PER_TASK = 4
CALLS, CALL_S, DRAWS = 15, 4.0, 2000
"""Calls that are timed, each over so many seconds of noise; draws of their bootstrap."""


class Saved(Schema):
    """Share of the teachers' time that the student does not need, with its 95 % interval over calls."""

    mean: float
    low: float
    high: float


class DistillationReport(Schema):
    """A student beside its teachers, who count as one: the mean of their outputs, the sum of their times."""

    student: str
    teachers: tuple[str, ...]
    corpus: str
    corpus_digest: str
    rows: int
    lost: dict[str, Interval | None]
    """By metric: the student's score less the teachers', row by row; positive is better for every metric. Empty where
    the corpus has no clean speech."""
    content: dict[str, float | None]
    """By metric: median over rows of the student's distance to the teachers."""
    changed: dict[str, str]
    """Rows where the student says something else than the teachers, and what gives that impression."""
    real_time_factor: dict[str, float]
    """Of student and teachers: medians, one thread."""
    saved: Saved

    def figures(self) -> dict[str, float]:
        """By names that MLflow accepts."""
        lost = {f"distillation/{name}": each.mean for name, each in self.lost.items() if each is not None}
        content = {f"distillation/content_{name}": each for name, each in self.content.items() if each is not None}
        share = len(self.changed) / self.rows if self.rows else 0.0
        return lost | content | {"distillation/time_saved": self.saved.mean, "distillation/changed_rows": share}

    def lines(self) -> list[str]:
        """For people."""
        lost = [f"{METRICS[name].title}: {told(each)}" for name, each in self.lost.items()]
        saved = self.saved
        return [
            *lost,
            f"time saved: {saved.mean:.0%} ({saved.low:.0%} to {saved.high:.0%}), real-time factor "
            f"{self.real_time_factor['student']:.3f} instead of {self.real_time_factor['teachers']:.3f}",
            f"content changed in {len(self.changed)} of {self.rows} rows",
        ]


def told(difference: Interval | None) -> str:
    """A difference; where its interval covers 0, that it is not shown."""
    if difference is None:
        return "could not be scored"
    if difference.low is None or difference.high is None:
        return f"{difference.mean:+.3f}, no interval"
    unsure = ", not shown" if difference.low <= 0 <= difference.high else ""
    return f"{difference.mean:+.3f} ({difference.low:.3f} to {difference.high:.3f}){unsure}"


def compared(
    student: str, teachers: Sequence[str], corpus: Readable, *, clean: bool, workers: int
) -> DistillationReport:
    """Versions at these addresses, on every row of a corpus; `clean`: whether its clean side means anything."""
    labels = labels_of(corpus)
    with cluster():
        shared, task = ray.put(corpus), ray.remote(scores).options(num_cpus=fraction(workers))
        pieces = [
            range(first, min(first + ROWS_PER_TASK, len(labels))) for first in range(0, len(labels), ROWS_PER_TASK)
        ]
        found = ray.get([task.remote(shared, student, tuple(teachers), piece, clean) for piece in pieces])
    lines = [line for each in found for line in each]
    table = pd.DataFrame([label.model_dump() for label in labels])
    bootstrap, quality = Bootstrap(clusters_of(table), seed=0), QUALITY if clean else ()
    changed = {label.id: why for label, line in zip(labels, lines, strict=True) if (why := impression(line))}
    factors, saved = times([load_version(student)], [load_version(each) for each in teachers])
    return DistillationReport(
        student=student,
        teachers=tuple(teachers),
        corpus=corpus.address,
        corpus_digest=corpus.digest,
        rows=len(labels),
        lost={name: bootstrap.interval(difference(lines, name)) for name in quality},
        content={name: median([line[f"content_{name}"] for line in lines]) for name in CONTENT},
        changed=changed,
        real_time_factor=factors,
        saved=saved,
    )


def scores(
    corpus: Readable, student: str, teachers: Sequence[str], rows: Sequence[int], clean: bool
) -> list[dict[str, float | None]]:
    """Of each row: both sides against the clean, the student and the input against the teachers."""
    torch.set_num_threads(1)
    asked = [
        name for name in CONTENT if METRICS[name].needs_weights is None or weights_sha256(METRICS[name].needs_weights)
    ]
    found = []
    for row in rows:
        mixture = corpus.read(row)
        said = np.mean([system_at(each)(mixture.noisy, mixture.sample_rate) for each in teachers], axis=0)
        answer = system_at(student)(mixture.noisy, mixture.sample_rate)
        line: dict[str, float | None] = {f"content_{name}": None for name in CONTENT}
        line |= _scored(Mixture(said, mixture.noisy, mixture.sample_rate), answer, asked, "content_")
        line |= _scored(Mixture(said, mixture.noisy, mixture.sample_rate), mixture.noisy, ("lsd",), "input_")
        if clean:
            line |= _scored(mixture, answer, QUALITY, "student_") | _scored(mixture, said, QUALITY, "teachers_")
        found.append(line)
    return found


def _scored(mixture: Mixture, answer: np.ndarray, metrics: Sequence[str], prefix: str) -> dict[str, float | None]:
    found = score_mixture(mixture, lambda noisy, rate: answer, metrics)
    return {f"{prefix}{name}": found[name] for name in metrics}


def impression(line: dict[str, float | None]) -> str:
    """Why a row seems to say something else than the teachers do; "" where it does not."""
    spectral, untouched = line["content_lsd"], line["input_lsd"]
    louder, words = line["content_loudness_error"], line["content_dwer"]
    if words is not None and words > MORE_WORDS:
        return f"words differ (dWER {words:.2f})"
    if louder is None or louder > LOUDER_LU:
        return "the student is silent" if louder is None else f"loudness differs by {louder:.1f} LU"
    if spectral is None or (untouched is not None and spectral > untouched):
        return "its spectrum is farther from the teachers' than the input's is"
    return ""


def difference(lines: Sequence[dict[str, float | None]], metric: str) -> np.ndarray:
    """[rows], positive is better; NaN where either side has no value."""
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    ours, theirs = (
        np.array([math.nan if (value := line[f"{side}_{metric}"]) is None else value for line in lines])
        for side in ("student", "teachers")
    )
    return sign * (ours - theirs)


def median(values: Sequence[float | None]) -> float | None:
    """Of those that are there."""
    there = [each for each in values if each is not None]
    return float(np.median(there)) if there else None


@torch.inference_mode()
def times(student: Sequence[Enhancer], teachers: Sequence[Enhancer]) -> tuple[dict[str, float], Saved]:
    """Real-time factors of both sides, in processor time of one thread, and what the student saves."""
    threads, spent = torch.get_num_threads(), dict[str, list[float]](student=[], teachers=[])
    torch.set_num_threads(1)
    try:
        for call in range(1 + CALLS):  # the first is not counted
            for name, models in (("student", student), ("teachers", teachers)):
                took = sum(_call(model) for model in models)
                spent[name] += [took] if call else []
    finally:
        torch.set_num_threads(threads)
    found = {name: np.array(each) / CALL_S for name, each in spent.items()}
    draws = np.random.default_rng(0).integers(CALLS, size=(DRAWS, CALLS))  # of turns: both sides of one together
    medians = {name: np.median(each[draws], axis=1) for name, each in found.items()}
    low, high = np.quantile(1 - medians["student"] / medians["teachers"], [0.025, 0.975])
    factors = {name: float(np.median(each)) for name, each in found.items()}
    return factors, Saved(mean=1 - factors["student"] / factors["teachers"], low=float(low), high=float(high))


def _call(model: Enhancer) -> float:
    noise = 0.05 * torch.randn(1, round(CALL_S * model.sample_rate), generator=torch.Generator().manual_seed(0))
    began = time.process_time()
    model(noise)
    return time.process_time() - began
