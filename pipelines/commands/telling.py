"""How commands speak: answers on stdout, as a table or as JSON; everything else on stderr; mistakes in a paragraph."""

import json
import signal
from typing import Any

import typer
from typer.core import TyperGroup

from simulation.errors import UnmuffleError

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as shells have it."""


class Answering(TyperGroup):
    """A command group that ends a person's mistake with one paragraph and exit code 2, Ctrl-C with one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; UnmuffleError becomes its message."""
        try:
            return super().invoke(ctx)
        except UnmuffleError as error:
            from rich.console import Console
            from rich.markup import escape

            Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say("Interrupted. What was finished is kept: type the same command again to go on.")
            raise typer.Exit(INTERRUPTED) from None


def say(line: str) -> None:
    """A line for the person who waits."""
    typer.echo(line, err=True)


def tell(value: Any, as_json: bool, text: str | None = None) -> None:
    """JSON for machines; for people the text, or what an Answer shows."""
    from pipelines.answer import Answer

    if as_json:
        typer.echo(json.dumps(value.data if isinstance(value, Answer) else value, indent=2, default=str))
    elif isinstance(value, Answer):
        from rich.console import Console

        Console(highlight=False).print(value, crop=False)
    else:
        typer.echo(text)
