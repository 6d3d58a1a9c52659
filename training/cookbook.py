"""The recipes we keep. A run is a function; a variant calls its base and replaces what differs."""

from collections.abc import Callable

from simulation.errors import UnknownName
from simulation.schema import Range
from training.models import Dm, GruMask
from training.objectives import Regression
from training.recipe import Recipe


def dm() -> Recipe:
    """DM at its published size with the budget of its lineage: MP-SENet's optimiser, 500 000 steps of 4 x 2 s."""
    return Recipe(
        name="dm",
        network="dm",
        model=Dm.Config(),
        objective=Regression.Config(),
        steps=500_000,
        batch_size=4,
        segment_s=2.0,
        learning_rate=5e-4,
        warmup_steps=1000,
        log_every=100,
        validate_every=5000,
        checkpoint_every=5000,
    )


def dm_smoke() -> Recipe:
    """The same code for minutes on two cores: a narrow DM at half the frame rate, on pieces of a second.

    Attention costs by the square of its length and by its heads, hence short pieces and one head. The envelope term
    keeps speech intelligible: without it, so short a training removes speech together with the noise.
    """
    return dm().model_copy(
        update={
            "name": "dm_smoke",
            "model": Dm.Config(
                hop_size=200, channels=12, dense_depth=3, blocks=1, heads=1, reach=128, kernel=7, dropout=0.0
            ),
            "objective": Regression.Config(hop_size=200, si_sdr=0.02, envelope=1.0),
            "steps": 400,
            "batch_size": 8,
            "segment_s": 1.0,
            "learning_rate": 3e-3,
            "warmup_steps": 20,
            "validate_every": 200,
            "checkpoint_every": 100,
            "search": {"learning_rate": Range(low=5e-4, high=1e-2), "objective.envelope": Range(low=0.1, high=3.0)},
        }
    )


def gru_smoke() -> Recipe:
    """The recurrent baseline that every scorecard carries."""
    return Recipe(
        name="gru_smoke",
        network="gru_mask",
        model=GruMask.Config(),
        objective=Regression.Config(hop_size=200, si_sdr=0.02, envelope=1.0),
        steps=600,
        batch_size=16,
        segment_s=2.0,
        learning_rate=2e-3,
        warmup_steps=20,
        validate_every=200,
        checkpoint_every=200,
        search={"learning_rate": Range(low=5e-4, high=1e-2), "objective.si_sdr": Range(low=0.005, high=0.1)},
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"dm": dm, "dm_smoke": dm_smoke, "gru_smoke": gru_smoke}


def recipe(name: str) -> Recipe:
    """The recipe of that name, or UnknownName."""
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    return RECIPES[name]()
