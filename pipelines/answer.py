"""What a command answers: a value for machines and something to look at for people."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Answer:
    """The same facts twice: `data` goes through JSON, `shown` to the terminal."""

    data: Any
    shown: RenderableType

    def __rich__(self) -> RenderableType:
        return self.shown


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A plain table of texts."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    return shown


def stacked(*parts: RenderableType) -> Group:
    """Things to look at, one below the other."""
    return Group(*parts)


def line(text: str) -> Text:
    """A line that holds something to copy, such as a path or a digest: never broken, however narrow the terminal."""
    return Text(text, no_wrap=True, overflow="ignore")
