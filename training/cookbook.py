"""The recipes we keep. A run is a function; a variant calls its base and replaces what differs.

Those with the papers' budgets, which want a GPU and days, are in the files beside this one, a line of networks each;
here are those that learn in minutes on two cores. Which corpus each is for stands in docs/networks.md.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

from simulation.errors import UnknownName
from simulation.schema import Range
from training import cookbook_bsp_mpnet, cookbook_distillation, cookbook_mp_senet, cookbook_rad_net2
from training.cookbook_diffusion import gp_unified, gp_unified_smoke, sgmse_plus
from training.models import Dm, GruMask, MpSenet, ReNet
from training.objectives import Regression, Spectral
from training.recipe import Recipe


def dm_smoke() -> Recipe:
    """DM for minutes on two cores: narrow, at half the frame rate, on pieces of a second.

    Attention costs by the square of its length and by its heads, hence short pieces and one head. The envelope term
    keeps speech intelligible: without it, so short a training removes speech together with the noise.
    """
    return Recipe(
        name="dm_smoke",
        network="dm",
        model=Dm.Config(hop_size=200, channels=12, dense_depth=3, blocks=1, heads=1, reach=128, kernel=7, dropout=0.0),
        objective=Regression.Config(hop_size=200, si_sdr=0.02, envelope=1.0),
        steps=400,
        batch_size=8,
        segment_s=1.0,
        learning_rate=3e-3,
        warmup_steps=20,
        log_every=100,
        validate_every=200,
        checkpoint_every=100,
        search={"learning_rate": Range(low=5e-4, high=1e-2), "objective.envelope": Range(low=0.1, high=3.0)},
    )


def dm_mask_smoke() -> Recipe:
    """An ablation of `dm_smoke`, everything else equal: only the mask, which cannot fill a band that is not there."""
    base = dm_smoke()
    return base.model_copy(
        update={"name": "dm_mask_smoke", "model": base.model.model_copy(update={"branches": "mask"})}
    )


def dm_band_limit_smoke(branches: Literal["both", "mask"] = "both") -> Recipe:
    """DM learning to fill a lost band in minutes on two cores, over `sample` with its case `band_limit` alone.

    Among rows of which most are noisy, as in `dm_smoke`, the map ends up adding nothing above a cutoff. Quiet bins
    count as much as loud ones in the log-spectral term, and in the metric LSD. With `branches="mask"`, the ablation:
    everything else equal.
    """
    base = dm_smoke()
    assert isinstance(base.objective, Regression.Config)
    return base.model_copy(
        update={
            "name": "dm_band_limit_smoke" if branches == "both" else "dm_band_limit_mask_smoke",
            "model": base.model.model_copy(update={"branches": branches}),
            "objective": base.objective.model_copy(update={"log_spectral": 0.5}),
        }
    )


def mp_senet_smoke() -> Recipe:
    """MP-SENet of 2024 for minutes on two cores: narrow, shallow, at half the frame rate, with the smoke objective."""
    base = dm_smoke()
    return base.model_copy(
        update={
            "name": "mp_senet_smoke",
            "network": "mp_senet",
            "model": MpSenet.Config(hop_size=200, channels=16, dense_depth=2, blocks=1, heads=1),
            "steps": 450,
        }
    )


def renet_smoke() -> Recipe:
    """RENet for minutes on two cores: narrow, shallow, at half the frame rate.

    It maps the magnitude, so it has to learn what a mask has for nothing: more and smaller steps, more weight on the
    magnitude than in the other smoke recipes, and fewer looks at the valid split, which cost 14 core-seconds each.
    """
    base = dm_smoke()
    return base.model_copy(
        update={
            "name": "renet_smoke",
            "network": "renet",
            "model": ReNet.Config(hop_size=200, **cookbook_distillation.NARROW),
            "objective": base.objective.model_copy(update={"magnitude": 3.0}),
            "steps": 850,
            "batch_size": 4,
            "warmup_steps": 40,
            "validate_every": 425,
        }
    )


def renet_phase_smoke() -> Recipe:
    """Phase retrieval for minutes on two cores, over the corpus `phase_retrieval`: a narrow RENet, the WOPD term alone.

    At the full frame rate, since the frames' overlap is what a magnitude knows of the phase; hence pieces of half a
    second.
    """
    return dm_smoke().model_copy(
        update={
            "name": "renet_phase_smoke",
            "network": "renet",
            "model": ReNet.Config(retrieve_phase=True, **cookbook_distillation.NARROW),
            "objective": Spectral.Config(
                magnitude=0.0, phase=0.0, complex=0.0, consistency=0.0, time=0.0, omnidirectional=1.0
            ),
            "steps": 500,
            "batch_size": 6,
            "segment_s": 0.5,
            "search": {"learning_rate": Range(low=5e-4, high=1e-2)},
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


RECIPES: dict[str, Callable[[], Recipe]] = {
    **cookbook_mp_senet.RECIPES,
    "gp_unified": gp_unified,
    "sgmse_plus": sgmse_plus,
    "gp_unified_smoke": gp_unified_smoke,
    **cookbook_rad_net2.RECIPES,
    **cookbook_bsp_mpnet.RECIPES,
    **cookbook_distillation.RECIPES,
    "dm_smoke": dm_smoke,
    "dm_mask_smoke": dm_mask_smoke,
    "dm_band_limit_smoke": dm_band_limit_smoke,
    "dm_band_limit_mask_smoke": partial(dm_band_limit_smoke, "mask"),
    "mp_senet_smoke": mp_senet_smoke,
    "renet_smoke": renet_smoke,
    "renet_phase_smoke": renet_phase_smoke,
    "gru_smoke": gru_smoke,
}


def recipe(name: str) -> Recipe:
    """The recipe of that name, or UnknownName."""
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    return RECIPES[name]()
