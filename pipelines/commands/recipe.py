"""Commands over recipes: train one, search over one."""

from typing import Annotated

import typer

from pipelines.commands.options import Json, StoreOption, UseOption, corpus_input, store_at
from pipelines.commands.telling import say, tell


def train(
    recipe: Annotated[
        str, typer.Argument(help="Name of a recipe (see `unmuffle recipes`), or the address of one as JSON.")
    ],
    corpus: Annotated[str, typer.Option(help="Address of a corpus; with #<digest>, as it was when it had that.")],
    store: StoreOption = "",
    workers: Annotated[int, typer.Option(min=0, help="Training workers; 0: this machine's profile.")] = 0,
    again: Annotated[int, typer.Option(min=0, help="Train once more, with a seed higher by this.")] = 0,
    as_json: Json = False,
) -> None:
    """Train one recipe on a corpus and register the version; resumes by itself."""
    say(f"train {recipe}: looking up the recipe and the corpus")
    from components.compute import Compute
    from components.train import named_recipe, trained
    from pipelines.summary import training_outcome

    if workers:
        profile, name = Compute.current(), named_recipe(recipe).name
        asked = profile.training_of(name).model_copy(update={"workers": workers, "cpus_per_worker": 1})
        profile.model_copy(update={"training": asked, "recipes": {}}).export()
    result = trained(recipe, corpus_input(corpus), store_at(store), again=again)
    tell(training_outcome(result, store_at(store), corpus), as_json)


def distil(
    pair: Annotated[
        str, typer.Argument(help="TEACHER:STUDENT, such as champion:gru_smoke: versions (commas between) and a recipe.")
    ],
    corpus: Annotated[str, typer.Option(help="Address of a corpus; with #<digest>, as it was when it had that.")],
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="The corpus has no clean side: learn from the teachers alone.")
    ] = False,
    store: StoreOption = "",
    use: UseOption = "denoise-16k",
    again: Annotated[int, typer.Option(min=0, help="Train once more, with a seed higher by this.")] = 0,
    as_json: Json = False,
) -> None:
    """Let versions teach a recipe's network; ends with quality lost and time saved. Resumes by itself."""
    say(f"distil {pair}: looking up the teachers, the recipe and the corpus")
    from components.distil import distilled, pair_of, version_input
    from pipelines.distillation import outcome

    names, student = pair_of(pair)
    teachers = tuple(version_input(name, use) for name in names)
    result = distilled(teachers, student, corpus_input(corpus), store_at(store), again=again, unlabelled=unlabelled)
    tell(outcome(result.outputs, corpus), as_json)


def tune(
    recipe: Annotated[
        str, typer.Argument(help="Name of a recipe (see `unmuffle recipes`), or the address of one as JSON.")
    ],
    corpus: Annotated[str, typer.Option(help="Address of a corpus; with #<digest>, as it was when it had that.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials; a longer search begins with those of a shorter.")] = 9,
    over: Annotated[
        list[str], typer.Option(help="What to search: NAME=LOW..HIGH or NAME=A,B,C. Default: what the recipe declares.")
    ] = [],  # noqa: B006  typer makes a new list each time
    steps: Annotated[int, typer.Option(min=0, help="Steps of a trial; 0: the recipe's own.")] = 0,
    metric: Annotated[str, typer.Option(help="Figure on the valid split to compare by.")] = "",
    store: StoreOption = "",
    as_json: Json = False,
) -> None:
    """Search over a recipe with ASHA; ends with the best trial's recipe, for `train`. Goes on where it stopped."""
    say(f"tune {recipe}: looking up the recipe and the corpus")
    from components.tune import tuned
    from pipelines.summary import trials as table_of_trials

    result = tuned(recipe, corpus_input(corpus), store_at(store), trials=trials, over=over, steps=steps, metric=metric)
    tell(table_of_trials(result.outputs, corpus), as_json)


def recipes(
    name: Annotated[str, typer.Argument(help="Print this one, whole, as JSON for `train` to read.")] = "",
    as_json: Json = False,
) -> None:
    """The recipes of the cookbook."""
    from pipelines.summary import known_recipes

    if name:
        from training.cookbook import recipe

        typer.echo(recipe(name).model_dump_json(indent=2))
        return
    tell(known_recipes(), as_json)
