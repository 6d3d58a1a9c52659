"""What the listening page plays: the utterances at both ends of each slice, as sound and spectrogram.

The challenger is the best learnt system that is not the champion. Utterances are ranked by its paired difference to
the champion, or to the unprocessed input where there is no champion.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from simulation import levels
from simulation.embedded import loudest_db, picture, sound
from training.pairs import Labels
from training.sampling import averaged
from training.score_table import digits
from training.scorecard import REFERENCE, Scorecard
from training.slices import MAIN_KINDS, slices_of

PICKS = 2
"""Best, and worst, utterances of each slice; fewer where they would not fit."""
PAGE_BYTES = 15_000_000
"""Sound and pictures of one page, which a mail may still carry."""
EXCERPT_S = 6.0
"""Longer utterances are heard from the start up to here."""

Role = Literal["noisy", "challenger", "opponent", "clean"]


@dataclass(frozen=True)
class Contest:
    """Who is heard against whom."""

    challenger: str
    opponent: str
    """The champion; without one the runner-up, else a baseline."""
    against: str
    """What the challenger's paired differences are to: the champion; without one the unprocessed input."""

    @property
    def heard(self) -> tuple[str, ...]:
        """Every system that is heard, the unprocessed input first."""
        return tuple(dict.fromkeys((REFERENCE, self.opponent, self.challenger)))


@dataclass(frozen=True)
class Pick:
    """An utterance worth hearing."""

    row: str
    gain: float
    """The challenger's paired difference in the unit of the leading metric, positive is better."""


@dataclass(frozen=True)
class SlicePicks:
    """Both ends of one slice."""

    slice: str
    worst: tuple[Pick, ...]
    """The smallest gain first."""
    best: tuple[Pick, ...]
    """The largest gain first."""

    @property
    def rows(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(pick.row for pick in (*self.worst, *self.best))

    def first(self, count: int) -> "SlicePicks":
        """Fewer of each."""
        return SlicePicks(self.slice, self.worst[:count], self.best[:count])


@dataclass(frozen=True)
class Example:
    """One utterance with its audio: all waveforms are [samples] at `sample_rate` (Hz)."""

    labels: Labels
    clean: np.ndarray
    outputs: dict[str, np.ndarray]
    """By system; the unprocessed one is the noisy input."""
    sample_rate: int


@dataclass(frozen=True)
class Track:
    """One waveform of an example, ready to be shown."""

    title: str
    role: Role
    values: list[str]
    level_db: float
    """Of the excerpt, in dBFS."""
    sound: str = field(repr=False)
    picture: str = field(repr=False)


@dataclass(frozen=True)
class Utterance:
    """An example, ready to be shown."""

    labels: Labels
    gain: float
    seconds: float
    top_khz: float
    tracks: list[Track]


def contest(scorecard: Scorecard) -> Contest:
    """The best learnt system that is not the champion, and whom it has to beat."""
    ranking, champion = scorecard.ranking(), scorecard.champion
    learnt = {system.name for system in scorecard.systems if system.weights_sha256 is not None}
    challenger = next((name for name in ranking if name in learnt and name != champion), champion or ranking[0])
    if champion not in (None, challenger):
        return Contest(challenger, str(champion), str(champion))
    return Contest(challenger, next((name for name in ranking if name != challenger), REFERENCE), REFERENCE)


def picks(scorecard: Scorecard, scores: pd.DataFrame, count: int = PICKS) -> list[SlicePicks]:
    """The rows of each main slice on which the challenger gains least, and most; no row is at both ends.

    Of rows to do no harm on, the worst one alone: nobody gains there.
    """
    metric, sides = scorecard.leading_metric(), contest(scorecard)
    sign = 1.0 if metric.higher_is_better else -1.0
    lines = averaged(scores, [metric.name])
    tables = {str(name): table.reset_index(drop=True) for name, table in lines.groupby("system")}
    gains = sign * (tables[sides.challenger][metric.name] - tables[sides.against][metric.name])
    gains.index = pd.Index(tables[REFERENCE]["row"])
    found = []
    for part, mask in slices_of(tables[REFERENCE]).items():
        ranked = gains[mask].dropna().sort_values(kind="stable")
        if part.kind in MAIN_KINDS and len(ranked):
            ends = (1, 0) if part.kind == "harmless" else (count, count)
            least = min(ends[0], (len(ranked) + 1) // 2)
            worst, best = ranked.iloc[:least], ranked.iloc[least:][::-1][: ends[1]]
            found.append(SlicePicks(part.name, _picked(worst), _picked(best)))
    return found


def rows_of(chosen: Sequence[SlicePicks]) -> list[str]:
    """Every row that is picked in any slice, once."""
    return list(dict.fromkeys(row for part in chosen for row in part.rows))


def shown(
    scorecard: Scorecard, scores: pd.DataFrame, chosen: Sequence[SlicePicks], examples: Mapping[str, Example]
) -> tuple[list[SlicePicks], list[Utterance]]:
    """The picks that fit on a page, and their utterances; `examples` are by row."""
    gains = {pick.row: pick.gain for part in chosen for pick in (*part.worst, *part.best)}
    lines = averaged(scores, [note.name for note in scorecard.metrics])
    utterances = {
        row: _utterance(examples[row], gain, scorecard, lines) for row, gain in gains.items() if row in examples
    }
    sizes = {row: _size(utterance) for row, utterance in utterances.items()}
    fitting = _fitting(chosen, sizes)
    return fitting, [utterances[row] for row in rows_of(fitting)]


def _fitting(chosen: Sequence[SlicePicks], sizes: Mapping[str, int]) -> list[SlicePicks]:
    """As many picks a slice as fit; where one a slice is too much, as many slices as fit, and the first at least."""
    tries = [[part.first(count) for part in chosen] for count in range(PICKS, 0, -1)]
    tries += [tries[-1][:slices] for slices in range(len(chosen) - 1, 0, -1)]
    fits = (each for each in tries if sum(sizes[row] for row in rows_of(each)) <= PAGE_BYTES)
    return next(fits, tries[-1])


def _size(utterance: Utterance) -> int:
    """Characters of its sounds and pictures."""
    return sum(len(track.sound) + len(track.picture) for track in utterance.tracks)


def _picked(gains: pd.Series) -> tuple[Pick, ...]:
    return tuple(Pick(str(row), float(gain)) for row, gain in gains.items())


def _utterance(example: Example, gain: float, scorecard: Scorecard, scores: pd.DataFrame) -> Utterance:
    """Its tracks: noisy, opponent, challenger, clean."""
    return Utterance(
        labels=example.labels,
        gain=gain,
        seconds=len(example.clean) / example.sample_rate,
        top_khz=example.sample_rate / 2000,
        tracks=list(_tracks(example, scorecard, scores)),
    )


def _tracks(example: Example, scorecard: Scorecard, scores: pd.DataFrame) -> Iterator[Track]:
    """Each with its scores, its sound and its spectrogram."""
    size, rate, sides = int(EXCERPT_S * example.sample_rate), example.sample_rate, contest(scorecard)
    noisy, clean = example.outputs[REFERENCE][:size], example.clean[:size]
    top_db = max(loudest_db(wave, rate) for wave in (noisy, clean))
    lines = scores[scores["row"] == example.labels.id]
    values = dict(zip(lines["system"], lines.to_dict("records"), strict=True))
    yield _track("noisy", "noisy", noisy, rate, top_db, _values(values[REFERENCE], scorecard))
    for name in sides.heard[1:]:
        role: Role = "challenger" if name == sides.challenger else "opponent"
        yield _track(name, role, example.outputs[name][:size], rate, top_db, _values(values[name], scorecard))
    yield _track("clean", "clean", clean, rate, top_db, [])


def _track(title: str, role: Role, waveform: np.ndarray, sample_rate: int, top_db: float, values: list[str]) -> Track:
    """A waveform as sound and picture."""
    level_db = max(levels.rms_db(waveform), -120.0)
    return Track(title, role, values, level_db, sound(waveform, sample_rate), picture(waveform, sample_rate, top_db))


def _values(line: Mapping[Any, Any], scorecard: Scorecard) -> list[str]:
    """The scores of one system on one row, by the first three metrics."""
    return [
        f"{note.title} failed" if pd.isna(line[note.name]) else f"{note.title} {line[note.name]:.{digits(note)}f}"
        for note in scorecard.metrics[:3]
    ]
