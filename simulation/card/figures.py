"""The card's pictures: matplotlib figures as SVG inside the page, in one style, in the page's own colours and fonts."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulation.card.facts import CardFacts, QuantityFacts

INK = "#010203"
"""Stands for the colour of the text around the picture, light or dark; replaced when the SVG is written."""

COLOURS = ("#7c4fb5", "#2f9c6a", "#d9772b", "#3c82c4", "#c0477a", "#8a8d1f", "#5f7a86", "#b5654a")
"""One a case, in the scenario's order; readable on white and on black."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "card",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}

MOST_POINTS = 1500
"""Of a scatter; from more rows every n-th is drawn."""

MOST_CASES = 24
"""Lines of a figure; a scenario may have more cases, of which the first are drawn."""


def colours(facts: CardFacts) -> dict[str, str]:
    """The colour of each case."""
    return {part.case: COLOURS[place % len(COLOURS)] for place, part in enumerate(facts.slices)}


def hours(facts: CardFacts) -> str:
    """A bar a case, as long as there are hours of it."""
    parts = facts.slices[:MOST_CASES]
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(7.6, 0.55 + 0.32 * len(parts))
        bars = axes.barh(
            [part.case for part in parts],
            [part.hours for part in parts],
            color=list(colours(facts).values())[: len(parts)],
        )
        axes.bar_label(bars, [f"{part.hours:.2f} h, {part.rows} rows" for part in parts], padding=4, color=INK)
        axes.invert_yaxis()
        axes.margins(x=0.22)
        axes.set_xlabel("hours")
        return _svg(figure)


def asked_against_measured(facts: CardFacts, quantity: QuantityFacts, frame: pd.DataFrame) -> str:
    """A point a row: what was asked to the right, what came out upwards; the line is where both are equal."""
    asked, measured = f"asked_{quantity.name}", quantity.name
    rows = frame.dropna(subset=[asked, measured])
    rows = rows.iloc[:: -(-len(rows) // MOST_POINTS)]
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(3.7, 3.5)
        ends = [rows[[asked, measured]].min().min(), rows[[asked, measured]].max().max()]
        axes.plot(ends, ends, color=INK, linewidth=0.7, alpha=0.5, zorder=1)
        for case, colour in colours(facts).items():
            part = rows[rows["case"] == case]
            if len(part):
                axes.scatter(part[asked], part[measured], s=9, color=colour, alpha=0.55, linewidths=0, label=case)
        axes.set_xlabel(f"asked{_unit(quantity)}")
        axes.set_ylabel(f"measured{_unit(quantity)}")
        axes.set_title(quantity.title)
        if rows["case"].nunique() > 1:
            axes.legend(loc="upper left", fontsize=8.5, handletextpad=0.1, borderpad=0.1, labelspacing=0.25)
        return _svg(figure)


def spreads(facts: CardFacts, quantity: QuantityFacts) -> str:
    """A line a case from its 5 % to its 95 % quantile, with a dot at the median."""
    cases = list(quantity.cases.items())[:MOST_CASES]
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(3.7, 0.95 + 0.24 * len(cases))
        for place, (case, spread) in enumerate(cases):
            colour = colours(facts)[case]
            axes.plot([spread.low, spread.high], [place, place], color=colour, linewidth=2.2, solid_capstyle="round")
            axes.plot(spread.median, place, "o", color=colour, markersize=6.5)
        axes.set_yticks(range(len(cases)), [case for case, _ in cases])
        axes.set_ylim(len(cases) - 0.4, -0.6)
        axes.set_title(f"{quantity.title}{_unit(quantity)}", x=0.0)
        axes.margins(x=0.08)
        if len(values := {value for _, spread in cases for value in (spread.low, spread.high)}) == 1:
            axes.set_xlim(min(values) - 0.5, min(values) + 0.5)
        axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
        return _svg(figure)


def speakers(facts: CardFacts) -> str:
    """Minutes of each speaker, the one with most first."""
    minutes = [60 * value for value in facts.speakers.values()]
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(7.6, 1.9)
        axes.bar(range(1, len(minutes) + 1), minutes, width=1.0, color=COLOURS[0])
        axes.set_xlabel("speakers, most heard first")
        axes.set_ylabel("minutes")
        axes.margins(x=0.01)
        return _svg(figure)


def histogram(values: Sequence[float], title: str, limit: float) -> str:
    """How a measure of the clean sources is spread, with the line below which one is not taken for clean."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(3.7, 2.0)
        axes.hist(values, bins=min(40, max(len(values) // 4, 5)), color=COLOURS[1])
        axes.axvline(limit, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_title(title)
        axes.set_ylabel("recordings")
        return _svg(figure)


def _figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.add_subplot()


def _unit(quantity: QuantityFacts) -> str:
    return f", {quantity.unit}" if quantity.unit else ""


def _svg(figure: Figure) -> str:
    """The drawing alone, to stand inside HTML; equal figures give equal text."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
