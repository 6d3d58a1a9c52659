"""Arguments and options that several commands share, and what is made of them."""

from typing import Annotated, Any

import typer

PORT = 8000

Json = Annotated[bool, typer.Option("--json", help="Answer as JSON, for machines.")]
StoreOption = Annotated[str, typer.Option("--store", help="A folder or s3://bucket/prefix. Default: the home's store.")]
UseOption = Annotated[str, typer.Option("--use", help="What the model is for; each use has one champion.")]
PolicyOption = Annotated[
    str, typer.Option("--policy", help="What it takes to win: quality, realtime, or a JSON file. Default: the use's.")
]
CanaryOption = Annotated[
    str, typer.Option("--canary", help="Steps in percent of live requests, such as 5,25,100; or a JSON file of rules.")
]
HoursOption = Annotated[float, typer.Option(min=0.0, help="Hours of training audio; 0: the scenario's own size.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of every number that is drawn; 0: the scenario's own.")]
CorpusArgument = Annotated[str, typer.Argument(help="Address of a corpus or of one of its splits.")]


def corpus_input(corpus: str) -> Any:
    """The corpus below a root: as it was when it had the digest behind a #, else as it stands there now."""
    from components.specs import Input
    from simulation import storage
    from simulation.virtual import corpus_digest

    asked = Input.of(corpus) if "#" in corpus else None
    address = storage.normal(asked.address if asked else corpus)
    return Input(address=address, sha256=corpus_digest(address, asked.sha256 if asked else None))


def store_at(address: str) -> str:
    """The store that --store names, else the home's."""
    from simulation import storage
    from simulation.home import Home

    return storage.normal(address) if address else Home.current().store
