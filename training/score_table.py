"""A scorecard in the terminal: every system in every slice, its gains, and where it does worse than nothing."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from training.intervals import Interval
from training.scorecard import MetricNote, Score, Scorecard
from training.slices import MAIN_KINDS

WIDTH = 5
"""Characters of a mean; all of it fits into a terminal of 80."""
TERMINAL_METRICS = ("si_sdr", "pesq", "stoi")
STYLES = {"better": "green", "worse": "bold red", "level": "", "": ""}
MARKS = {"better": " ▲", "worse": " ▼", "level": " ·", "": ""}


def table(scorecard: Scorecard, metrics: Sequence[str] = TERMINAL_METRICS, every: bool = False) -> Table:
    """Mean and paired gain over the unprocessed input, the first metric's with its interval.

    `every` adds the slices by what was measured (SNR, RT60, level, ...) and by speaker group.

    ▲ the 95 % interval of the gain lies above 0; ▼ (red) below 0: worse than doing nothing; · neither.
    """
    notes = [note for name in metrics for note in scorecard.metrics if note.name == name]
    result = Table(
        title=f"{scorecard.rows} rows of {scorecard.corpus}{_harmless(scorecard)}",
        caption=_legend(scorecard),
        caption_justify="left",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    result.add_column("slice", overflow="fold", min_width=8)
    result.add_column("system", overflow="fold")
    for note in notes:
        result.add_column(f"{note.title}, {note.unit}", no_wrap=True)
    for part in scorecard.slices:
        if part.kind not in MAIN_KINDS and not every:
            continue
        for index, system in enumerate(scorecard.systems):
            scores = [scorecard.score(system.name, part.name, note.name) for note in notes]
            cells = [_cell(score, note, note is notes[0]) for score, note in zip(scores, notes, strict=True)]
            lead = (part.name, f"{part.rows} rows")[index] if index < 2 else ""
            result.add_row(lead, _named(system.name, scores), *cells, end_section=system is scorecard.systems[-1])
    return result


def _harmless(scorecard: Scorecard) -> str:
    """How many rows were added."""
    return f" and {scorecard.harmless_rows} to do no harm on" if scorecard.harmless_rows else ""


def digits(note: MetricNote) -> int:
    """Decimals that mean something for a metric."""
    return 3 if note.unit == "0 to 1" else 2


def spread(interval: Interval) -> float | None:
    """Half the width of an interval; None where there is none."""
    return None if interval.high is None else interval.high - interval.mean


def judged(score: Score) -> str:
    """Where the whole interval of the gain lies: "better", "worse" or, on both sides, "level"; empty without a gain."""
    if score.gain is None:
        return ""
    if score.worse:
        return "worse"
    return "better" if score.gain.low is not None and score.gain.low > 0 else "level"


def _named(system: str, scores: Sequence[Score]) -> Text:
    """The system's name, red where any metric got worse."""
    return Text(system, style=STYLES["worse"] if any(score.worse for score in scores) else "")


def _cell(score: Score, note: MetricNote, with_interval: bool) -> Text:
    """The mean, the rows that failed, and the gain."""
    places, kind = digits(note), judged(score)
    text = Text("none" if score.mean is None else f"{score.mean.mean:{WIDTH}.{places}f}")
    if score.failed:
        text.append(f" ✗{score.failed}", style="yellow")
    if score.gain is not None:
        half = spread(score.gain)
        margin = "" if not with_interval else " ± ?" if half is None else f" ± {half:.{places}f}"
        text.append(f" {score.gain.mean:+.{places}f}{margin}{MARKS[kind]}", style=STYLES[kind])
    return text


def _legend(scorecard: Scorecard) -> str:
    """What the marks mean, and what was set aside."""
    lines = ["gain: paired, over the unprocessed input, positive is better; ▲ better, ▼ worse, · neither."]
    if any(score.failed for score in scorecard.scores):
        lines.append("✗: so many rows could not be scored; they are in no mean, report.html lists them.")
    lines += [f"Absent: {row}." for row in scorecard.absent]
    if scorecard.quarantined:
        lines.append(f"{len(scorecard.quarantined)} set aside before scoring.")
    return "\n".join(lines)
