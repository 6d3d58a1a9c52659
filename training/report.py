"""The listening page: one self-contained HTML file with the scorecard, the utterances to hear, and a blind comparison.

Nothing is loaded from anywhere: sound is WAV and spectrograms are PNG, both inside the page, which is kept small
enough to be mailed. Votes of the blind comparison stay in the page until they are saved as a JSON file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd

from simulation.embedded import RANGE_DB
from training.intervals import Interval
from training.listening import EXCERPT_S, Example, SlicePicks, Utterance, contest, shown
from training.score_table import digits, judged, spread
from training.scorecard import REFERENCE, MetricNote, Score, Scorecard, failures
from training.slices import OVERALL

LISTED_FAILURES = 200


HEAT_PERCENT = 62
"""Share of the colour in the strongest cell of a heat map; the number on it stays readable."""


def render(
    scorecard: Scorecard, scores: pd.DataFrame, chosen: Sequence[SlicePicks], examples: Mapping[str, Example]
) -> bytes:
    """The page, UTF-8; `examples` are by row, for every row that was chosen."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: files("training").joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    failed = failures(scores)
    fitting, utterances = shown(scorecard, scores, chosen, examples)
    page = template.render(
        card=scorecard,
        leading=scorecard.leading_metric(),
        contest=contest(scorecard),
        overall=_overall(scorecard),
        heat=[_heat_map(scorecard, note) for note in scorecard.metrics],
        tables=[_slice_table(scorecard, note) for note in scorecard.metrics],
        utterances=utterances,
        script=_script(scorecard, fitting, utterances),
        failures=failed[:LISTED_FAILURES],
        failure_count=len(failed),
        excerpt_s=EXCERPT_S,
        range_db=RANGE_DB,
    )
    return page.encode()


def _script(scorecard: Scorecard, chosen: Sequence[SlicePicks], utterances: Sequence[Utterance]) -> dict[str, Any]:
    """What the page's script reads: who is compared, and which rows are at the ends of each slice."""
    sides, tracks = contest(scorecard), utterances[0].tracks if utterances else []
    titles = {track.role: track.title for track in tracks}
    return {
        "scorecard": scorecard.digest(),
        "corpus": scorecard.corpus_digest,
        "challenger": sides.challenger,
        "opponent": sides.opponent,
        "roles": ["challenger", "opponent" if "opponent" in titles else "noisy"],
        "slices": [asdict(part) for part in chosen],
    }


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


def _heat_map(scorecard: Scorecard, note: MetricNote) -> dict[str, Any]:
    """One metric: a line a slice, a column a system, the paired gain in each cell and its share of the largest one."""
    columns = list(_heat_columns(scorecard))
    lines = [
        (part, [getattr(scorecard.score(name, part.name, note.name), field) for name, field, _ in columns])
        for part in scorecard.slices
    ]
    own = (gains for part, gains in lines if part.kind != "harmless")  # clean input, at 100 dB, would pale the others
    largest = max((abs(gain.mean) for gains in own for gain in gains if gain is not None), default=0.0) or 1.0
    return {
        "note": note,
        "titles": [(name, against) for name, _, against in columns],
        "lines": [(part, [_heat(gain, largest, note) for gain in gains]) for part, gains in lines],
    }


def _heat_columns(scorecard: Scorecard) -> Iterator[tuple[str, str, str]]:
    """System, field of the score and what its gain is over: the input, then the champion."""
    for system in scorecard.systems:
        if system.name != REFERENCE:
            yield system.name, "gain", "the input"
    for system in scorecard.systems:
        learnt = system.weights_sha256 is not None
        if scorecard.champion not in (None, REFERENCE, system.name) and learnt:
            yield system.name, "gain_over_champion", "the champion"


def _heat(gain: Interval | None, largest: float, note: MetricNote) -> dict[str, Any] | None:
    """One cell: the number, which colour and how much of it (percent), and whether its interval spans 0.

    Slices to do no harm in are no part of the scale: what lies beyond it has the full colour.
    """
    if gain is None:
        return None
    low, high = gain.low, gain.high
    return {
        "text": format(gain.mean, f"+.{digits(note)}f"),
        "kind": "better" if gain.mean > 0 else "worse",
        "percent": min(HEAT_PERCENT, round(HEAT_PERCENT * abs(gain.mean) / largest)),
        "sure": low is not None and high is not None and (low > 0 or high < 0),
        "interval": "no interval" if low is None or high is None else f"95 % interval {low:+.3f} to {high:+.3f}",
    }


def _slice_table(scorecard: Scorecard, note: MetricNote) -> dict[str, Any]:
    """One metric: a line a slice, a column a system."""
    own = {part.name for part in scorecard.slices if part.kind != "harmless"}
    scale = _scale([score for score in scorecard.scores if score.slice in own], note.name)
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
    """Where an interval lies on its axis; None where there is none, or it lies beyond."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    if interval.low < scale[0] or interval.high > scale[1]:
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
