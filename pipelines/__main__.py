"""`python -m pipelines`: the command `unmuffle`."""

from pipelines.cli import app

app()
