"""The listening page: one self-contained HTML file with the scorecard, and the best and worst utterances to hear.

Nothing is loaded from anywhere: sound is FLAC and spectrograms are PNG, both inside the page. The page is kept small
enough to be mailed: as many utterances are shown as fit, worst and best in turn.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import chain, zip_longest
from typing import Any, Literal

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.image import imsave
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from simulation import audio
from training.intervals import Interval
from training.pairs import Labels
from training.score_table import digits, judged, spread
from training.scorecard import OVERALL, REFERENCE, MetricNote, Score, Scorecard, failures

PICKS = 4
"""Best, and worst, utterances that are rendered; fewer are shown where they would not fit."""
PAGE_BYTES = 9_000_000
"""Sound and pictures of one page."""
EXCERPT_S = 8.0
"""Longer utterances are heard from the start up to here."""
LISTED_FAILURES = 200

WINDOW_S = 0.032
PIXELS_WIDE = 420
PIXELS_HIGH = 128
RANGE_DB = 70.0
"""Of the spectrograms, below the loudest point of clean and noisy; all tracks of an utterance share the scale."""
STEP_DB = 2.0
"""Colours are this far apart, which halves the size of the pictures."""


Kind = Literal["noisy", "baseline", "system", "clean"]


@dataclass(frozen=True)
class Pick:
    """An utterance worth hearing."""

    row: str
    group: Literal["worst", "best"]
    gain: float
    """Of the best system over the unprocessed input, in the unit of the leading metric, positive is better."""


@dataclass(frozen=True)
class Example:
    """A pick with its audio: all waveforms are [samples] at `sample_rate` (Hz)."""

    pick: Pick
    labels: Labels
    clean: np.ndarray
    outputs: dict[str, np.ndarray]
    """By system; the unprocessed one is the noisy input."""
    sample_rate: int


@dataclass(frozen=True)
class Track:
    """One waveform of an example, ready to be shown."""

    title: str
    kind: Kind
    values: list[str]
    sound: str = field(repr=False)
    picture: str = field(repr=False)


def picks(scorecard: Scorecard, scores: pd.DataFrame, count: int = PICKS) -> list[Pick]:
    """The rows on which the best system gains least (worst first), then most (best first)."""
    metric = scorecard.leading_metric()
    sign = 1.0 if metric.higher_is_better else -1.0
    by_row = {name: table.set_index("row")[metric.name] for name, table in scores.groupby("system")}
    gains = (sign * (by_row[scorecard.best_system()] - by_row[REFERENCE])).dropna().sort_values(kind="stable")
    count = min(count, (len(gains) + 1) // 2)
    worst = [Pick(str(row), "worst", float(gain)) for row, gain in gains.iloc[:count].items()]
    best = [Pick(str(row), "best", float(gain)) for row, gain in gains.iloc[count:][::-1][:count].items()]
    return [*worst, *best]


def render(scorecard: Scorecard, scores: pd.DataFrame, examples: Sequence[Example]) -> bytes:
    """The page, UTF-8."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files("training").joinpath("report.html.j2").read_text("utf-8"))
    failed = failures(scores)
    page = template.render(
        card=scorecard,
        leading=scorecard.leading_metric(),
        best=scorecard.best_system(),
        overall=_overall(scorecard),
        tables=[_slice_table(scorecard, note) for note in scorecard.metrics],
        groups=_groups(scorecard, scores, examples),
        failures=failed[:LISTED_FAILURES],
        failure_count=len(failed),
        excerpt_s=EXCERPT_S,
        range_db=RANGE_DB,
    )
    return page.encode()


# ---- tables ---------------------------------------------------------------------------------------------------------


def _overall(scorecard: Scorecard) -> list[dict[str, Any]]:
    """A line a system: its mean by each metric, and the gain as a number and as a whisker."""
    overall = [score for score in scorecard.scores if score.slice == OVERALL]
    scales = {note.name: _scale(overall, note.name) for note in scorecard.metrics}
    return [
        {
            "system": system,
            "cells": [
                _cell(scorecard.score(system.name, OVERALL, note.name), note, scales[note.name])
                for note in scorecard.metrics
            ],
        }
        for system in scorecard.systems
    ]


def _slice_table(scorecard: Scorecard, note: MetricNote) -> dict[str, Any]:
    """One metric: a line a slice, a column a system."""
    scale = _scale(scorecard.scores, note.name)
    lines = [
        {
            "part": part,
            "cells": [
                _cell(scorecard.score(system.name, part.name, note.name), note, scale) for system in scorecard.systems
            ],
        }
        for part in scorecard.slices
    ]
    return {"note": note, "lines": lines}


def _cell(score: Score, note: MetricNote, scale: tuple[float, float]) -> dict[str, Any]:
    """One score: mean and gain as texts, and the gain as positions (percent) on the whisker's scale."""
    counted = "" if score.mean is None else f"{score.mean.n} rows, {' x '.join(map(str, score.mean.clusters))} clusters"
    return {
        "mean": _texts(score.mean, f".{digits(note)}f"),
        "gain": _texts(score.gain, f"+.{digits(note)}f"),
        "counted": counted,
        "failed": score.failed,
        "kind": judged(score),
        "whisker": _whisker(score.gain, scale),
    }


def _texts(interval: Interval | None, form: str) -> tuple[str, str] | None:
    """A mean and half the width of its interval."""
    if interval is None:
        return None
    half = spread(interval)
    return format(interval.mean, form), "?" if half is None else format(half, form.lstrip("+"))


def _whisker(interval: Interval | None, scale: tuple[float, float]) -> dict[str, float] | None:
    """Where an interval lies on its axis."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    low, high = _percent(interval.low, scale), _percent(interval.high, scale)
    return {"low": low, "width": high - low, "mean": _percent(interval.mean, scale), "zero": _percent(0.0, scale)}


def _scale(scores: Sequence[Score], metric: str) -> tuple[float, float]:
    """The ends of one axis for the gains of all these scores by a metric; zero is inside, with a little air."""
    gains = [score.gain for score in scores if score.metric == metric and score.gain is not None]
    ends = [0.0, *(end for gain in gains for end in (gain.low, gain.high) if end is not None)]
    air = 0.04 * (max(ends) - min(ends) or 1.0)
    return min(ends) - air, max(ends) + air


def _percent(value: float, scale: tuple[float, float]) -> float:
    """Where a value lies on a scale, 0 to 100."""
    return round(100 * (value - scale[0]) / (scale[1] - scale[0]), 2)


# ---- listening ------------------------------------------------------------------------------------------------------


def _groups(scorecard: Scorecard, scores: pd.DataFrame, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """The examples that fit, worst and best in turn, sorted back into their two groups."""
    worst = [example for example in examples if example.pick.group == "worst"]
    best = [example for example in examples if example.pick.group == "best"]
    in_turn = [example for example in chain(*zip_longest(worst, best)) if example is not None]
    shown: list[dict[str, Any]] = []
    size = 0
    for example in in_turn:
        tracks = list(_tracks(example, scorecard, scores))
        size += sum(len(track.sound) + len(track.picture) for track in tracks)
        if shown and size > PAGE_BYTES:
            break
        seconds = len(example.clean) / example.sample_rate
        shown.append({"example": example, "tracks": tracks, "seconds": seconds, "top_khz": example.sample_rate / 2000})
    return [
        {"name": name, "examples": [entry for entry in shown if entry["example"].pick.group == name]}
        for name in ("worst", "best")
    ]


def _tracks(example: Example, scorecard: Scorecard, scores: pd.DataFrame) -> Iterator[Track]:
    """Noisy, every system, clean; each with its scores, its sound and its spectrogram."""
    size = int(EXCERPT_S * example.sample_rate)
    noisy, clean = example.outputs[REFERENCE], example.clean
    top_db = max(_levels_db(wave[:size], example.sample_rate).max() for wave in (noisy, clean))
    lines = scores[scores["row"] == example.pick.row]
    values = dict(zip(lines["system"], lines.to_dict("records"), strict=True))
    learnt = {system.name for system in scorecard.systems if system.weights_sha256 is not None}
    for name, waveform in example.outputs.items():
        kind: Kind = "noisy" if name == REFERENCE else "system" if name in learnt else "baseline"
        title = "noisy" if name == REFERENCE else name
        yield _track(title, kind, waveform[:size], example.sample_rate, top_db, _values(values[name], scorecard))
    yield _track("clean", "clean", clean[:size], example.sample_rate, top_db, [])


def _track(title: str, kind: Kind, waveform: np.ndarray, sample_rate: int, top_db: float, values: list[str]) -> Track:
    """A waveform as sound and picture."""
    sound = _data("audio/flac", audio.encode_flac(waveform.astype(np.float32), sample_rate))
    return Track(title, kind, values, sound, _data("image/png", spectrogram(waveform, sample_rate, top_db)))


def _values(line: Mapping[Any, Any], scorecard: Scorecard) -> list[str]:
    """The scores of one system on one row, by the first three metrics."""
    return [
        f"{note.title} failed" if pd.isna(line[note.name]) else f"{note.title} {line[note.name]:.{digits(note)}f}"
        for note in scorecard.metrics[:3]
    ]


def spectrogram(waveform: np.ndarray, sample_rate: int, top_db: float) -> bytes:
    """A PNG without axes: time to the right, 0 to half the rate upwards, magma over `RANGE_DB` below `top_db`."""
    levels = np.clip(_levels_db(waveform, sample_rate) - top_db, -RANGE_DB, 0.0)
    steps = np.round(levels / STEP_DB) * STEP_DB
    buffer = io.BytesIO()
    imsave(buffer, steps, cmap=matplotlib.colormaps["magma"], vmin=-RANGE_DB, vmax=0.0, origin="lower", format="png")
    return buffer.getvalue()


def _levels_db(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power in dB, averaged down to at most [PIXELS_HIGH, PIXELS_WIDE]."""
    window = hann(2 * int(WINDOW_S * sample_rate / 2), sym=False)
    padded = np.pad(waveform.astype(np.float64), (0, max(0, len(window) - len(waveform))))
    transform = ShortTimeFFT(window, hop=len(window) // 4, fs=sample_rate, scale_to="psd")
    power = transform.spectrogram(padded)
    return 10 * np.log10(np.maximum(_shrunk(_shrunk(power, PIXELS_HIGH).T, PIXELS_WIDE).T, 1e-14))


def _shrunk(values: np.ndarray, size: int) -> np.ndarray:
    """The first axis averaged down to `size` where it is longer."""
    if len(values) <= size:
        return values
    edges = np.linspace(0, len(values), size + 1).astype(int)
    return np.add.reduceat(values, edges[:-1], axis=0) / np.diff(edges)[:, None]


def _data(media_type: str, content: bytes) -> str:
    """A data: address that holds the content itself."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
