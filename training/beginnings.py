"""What a run takes from versions that are there: the weights that it begins with, and teachers."""

from simulation.errors import BadSetting, CheckpointIncompatible
from training.checkpoint import load_version, version_record
from training.models import Enhancer
from training.recipe import Recipe

SHOWN = 3
"""Names of weights that a message shows."""


def check_beginnings(recipe: Recipe) -> None:
    """Before anything is trained: BadSetting where an address is still open, NotThere where no version is at one."""
    taken = [] if recipe.begins_with is None else [recipe.begins_with]
    for address in (*taken, *recipe.objective.versions()):
        if not address:
            raise BadSetting(
                f"The recipe {recipe.name} goes on from another version (begins_with) or learns from one (teacher) and "
                f"does not say which. `unmuffle recipes {recipe.name} > {recipe.name}.json` writes it down; give that "
                "field there the address of a version (see `unmuffle models --json`), and name the file instead."
            )
        version_record(address)


def take_over(model: Enhancer, address: str) -> None:
    """Give a network the weights and statistics of a version; what has none there stays as it is.

    Every one of the version must have its place, with its shape: CheckpointIncompatible otherwise.
    """
    theirs, ours = load_version(address).state_dict(), model.state_dict()
    homeless = [name for name, value in theirs.items() if name not in ours or ours[name].shape != value.shape]
    if homeless:
        more = f" and {len(homeless) - SHOWN} more" if len(homeless) > SHOWN else ""
        raise CheckpointIncompatible(
            f"{address} cannot be what this {type(model).__name__} begins with: it has no place of that shape for "
            f"{', '.join(homeless[:SHOWN])}{more}. Name a version of the same settings, or of a part of this network."
        )
    model.load_state_dict(theirs, strict=False)
