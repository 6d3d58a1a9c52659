"""Commands over recipes: train one."""

from typing import Annotated

import typer

from pipelines.commands.options import Json, StoreOption, corpus_input, store_at
from pipelines.commands.telling import tell


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe (see `unmuffle recipes`).")],
    corpus: Annotated[str, typer.Option(help="Address of a corpus; with #<digest>, as it was when it had that.")],
    store: StoreOption = "",
    workers: Annotated[int, typer.Option(min=0, help="Training workers; 0: this machine's profile.")] = 0,
    again: Annotated[int, typer.Option(min=0, help="Train once more, with a seed higher by this.")] = 0,
    as_json: Json = False,
) -> None:
    """Train one recipe on a corpus and register the version; resumes by itself."""
    from components.compute import Compute
    from components.train import trained

    if workers:
        profile = Compute.current()
        training = profile.training.model_copy(update={"workers": workers, "cpus_per_worker": 1})
        profile.model_copy(update={"training": training}).export()
    result = trained(recipe, corpus_input(corpus), store_at(store), again=again)
    tell(result.outputs, as_json, f"{result.outputs['name']}\n{result.outputs['version']}")


def recipes(as_json: Json = False) -> None:
    """The recipes of the cookbook."""
    from pipelines.summary import known_recipes

    tell(known_recipes(), as_json)
