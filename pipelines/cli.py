"""The command `unmuffle`, as a table of contents. Importing it is quick: a command imports what it needs when run."""

import logging
from typing import Annotated

import typer

from pipelines.commands import champion, cluster, corpus, infra, machine, pipeline, recipe, tracing, version
from pipelines.commands.telling import Answering

app = typer.Typer(
    name="unmuffle",
    cls=Answering,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Retrain speech restoration: simulate, train, evaluate, gate, promote, serve.",
)
corpus_app = typer.Typer(no_args_is_help=True, help="Look at a corpus, or clean up behind it.")
pipeline_app = typer.Typer(no_args_is_help=True, help="The pipeline on a Kubeflow cluster.")
app.add_typer(corpus_app, name="corpus")
app.add_typer(pipeline_app, name="pipeline")
infra_app = typer.Typer(no_args_is_help=True, help="What is given to Kubernetes.")
app.add_typer(infra_app, name="infra")


@app.callback()
def setup(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False) -> None:
    """Set up logging, once, for the command only."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


app.command()(pipeline.run)
app.command()(pipeline.stage)
app.command()(pipeline.reap)
app.command()(corpus.simulate)
app.command()(corpus.rooms)
app.command()(recipe.train)
app.command()(recipe.distil)
app.command()(recipe.tune)
app.command()(version.evaluate)
app.command()(version.compare)
app.command()(version.aa)
app.command()(version.sweep)
app.command()(version.promote)
app.command()(version.rollback)
app.command()(version.status)
app.command()(champion.enhance)
app.command()(champion.serve)
app.command()(version.models)
app.command("import-weights")(version.import_weights)
app.command()(recipe.recipes)
app.command()(corpus.scenarios)
app.command()(version.metrics)
app.command()(machine.doctor)
app.command()(tracing.trace)

corpus_app.command()(corpus.show)
corpus_app.command()(corpus.verify)
corpus_app.command()(corpus.gc)
corpus_app.command("import")(corpus.import_pairs)
corpus_app.command()(corpus.card)
corpus_app.command()(corpus.diff)
corpus_app.command()(corpus.replay)

pipeline_app.command("compile")(cluster.compile_pipeline)
pipeline_app.command()(cluster.submit)
pipeline_app.command()(cluster.schedule)
pipeline_app.command()(cluster.trigger)
pipeline_app.command("list")(cluster.listing)

infra_app.command()(infra.lint)
infra_app.command("serve")(infra.serve)
