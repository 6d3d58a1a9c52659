"""The recipes we keep. A run is a function; a variant calls its base and replaces what differs.

First those with the papers' budgets, which want a GPU and days, then those that learn in minutes on two cores. Which
corpus each is for stands in docs/networks.md.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

from simulation.errors import UnknownName
from simulation.schema import Range
from training import cookbook_bsp_mpnet, cookbook_distillation, cookbook_rad_net2
from training.cookbook_diffusion import gp_unified, gp_unified_smoke, sgmse_plus
from training.models import Dm, GruMask, MpSenet, ReNet
from training.models.presets import PRESETS
from training.objectives import Regression, Spectral, papers
from training.recipe import Recipe

EPOCH_STEPS = 2893
"""Batches of 4 in the 11,572 utterances of VoiceBank+DEMAND: the epoch that learning rates of this line fall by."""
NO_CLIPPING = 1e6
"""A longest gradient that none has."""

RENET_STEPS: dict[papers.Task, int] = {
    "phase_retrieval": 150_000,
    "denoising": 400 * EPOCH_STEPS,
    "dereverberation": 520_000,
    "bandwidth_extension": 520_000,
    "universal": 520_000,
}
"""As far as the authors' published curves go; denoising: the 400 epochs that its script allows."""


# ---- full budgets ---------------------------------------------------------------------------------------------------


def mp_senet(preset: str = "mp_senet_2024") -> Recipe:
    """MP-SENet as its authors train it, for VoiceBank+DEMAND.

    Published (arXiv 2305.13686, 2308.08926, and the code): AdamW, 5e-4 for network and discriminator, betas 0.8 and
    0.99, times 0.99 an epoch; batches of 4, pieces of 2 s; at most 400 epochs; the checkpoint of the best valid PESQ.
    Ours: an epoch is that of VoiceBank+DEMAND whatever the corpus; the last checkpoint is released. With the preset
    `mp_senet_2024_phase`, RENet's baseline for phase retrieval: RENet's objective and steps for that task.
    """
    model = PRESETS[preset].config
    assert isinstance(model, MpSenet.Config)
    retrieval = model.retrieve_phase
    return Recipe(
        name=preset,
        network="mp_senet",
        model=model,
        objective=papers.renet("phase_retrieval") if retrieval else papers.mp_senet(model.edition),
        steps=RENET_STEPS["phase_retrieval"] if retrieval else 400 * EPOCH_STEPS,
        batch_size=4,
        segment_s=2.0,
        learning_rate=5e-4,
        schedule="exponential",
        decay=0.99,
        decay_steps=EPOCH_STEPS,
        clip_norm=5.0 if retrieval else NO_CLIPPING,
        log_every=100,
        validate_every=5000,
        checkpoint_every=5000,
    )


def renet(task: papers.Task, size: Literal["renet", "renet_small"] = "renet") -> Recipe:
    """RENet for one of its tasks, standard or small.

    Published (arXiv 2602.08556, its supplement and code): MP-SENet's optimiser and rates, batches of 4, pieces of 2 s;
    the rate times 0.99 an epoch, 0.999 in the universal task; gradients clipped at 5 for phase retrieval, not at all
    otherwise; curves of 150 000 steps for phase retrieval and 520 000 for the universal task. Not published: how long
    an epoch of the universal task is (here as in the others), and any run on reverberation or band limits alone: those
    are cases of the universal one, with its budget. Ours: one clipping for network and judges, which is 5 for the
    multi-period discriminator of phase retrieval too (theirs: 10).
    """
    model = PRESETS[size].config
    alone = task in ("phase_retrieval", "denoising")
    return mp_senet().model_copy(
        update={
            "name": f"{size}_{task}",
            "network": "renet",
            "model": model.model_copy(update={"retrieve_phase": task == "phase_retrieval"}),
            "objective": papers.renet(task),
            "steps": RENET_STEPS[task],
            "decay": 0.99 if alone else 0.999,
            "clip_norm": 5.0 if task == "phase_retrieval" else NO_CLIPPING,
        }
    )


def dm(preset: str = "dm", **ablation: Any) -> Recipe:
    """DM at its published size, in reading A (`dm`), B or C, or with something taken away.

    Published: nothing of the training that could be read. The optimiser, rates, batches and pieces are those of its
    line (MP-SENet); 500 000 steps and a warm-up of 1000 are ours.
    """
    model = PRESETS[preset].config.model_copy(update=ablation)
    assert isinstance(model, Dm.Config)
    return mp_senet().model_copy(
        update={
            "name": preset,
            "network": "dm",
            "model": model,
            "objective": papers.dm(branches=model.branches == "both", phase=model.phase_decoder),
            "steps": 500_000,
            "warmup_steps": 1000,
            "clip_norm": 5.0,
        }
    )


def dm_ablation(name: str, **ablation: Any) -> Recipe:
    """Reading A of DM with something taken away: one branch, the skip, or the decoders' common weights."""
    return dm(**ablation).model_copy(update={"name": name})


# ---- minutes on two cores -------------------------------------------------------------------------------------------


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


NARROW_RENET = {
    "magnitude_channels": 12,
    "phase_channels": 4,
    "blocks": 1,
    "heads": 1,
    "magnitude_head": 12,
    "phase_head": 4,
    "glu_width": 8,
    "dense_depth": 2,
}


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
            "model": ReNet.Config(hop_size=200, **NARROW_RENET),
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
            "model": ReNet.Config(retrieve_phase=True, **NARROW_RENET),
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
    "dm": dm,
    "dm_b": partial(dm, "dm_b"),
    "dm_c": partial(dm, "dm_c"),
    "dm_mask": partial(dm_ablation, "dm_mask", branches="mask"),
    "dm_map": partial(dm_ablation, "dm_map", branches="map"),
    "dm_no_skip": partial(dm_ablation, "dm_no_skip", skip=False),
    "dm_untied": partial(dm_ablation, "dm_untied", tie_decoders=False),
    **{name: partial(mp_senet, name) for name in ("mp_senet_2023", "mp_senet_2024", "mp_senet_2024_phase")},
    **{f"renet_{task}": partial(renet, task) for task in get_args(papers.Task)},
    **{f"renet_small_{task}": partial(renet, task, "renet_small") for task in get_args(papers.Task)},
    "gp_unified": gp_unified,
    "sgmse_plus": sgmse_plus,
    "gp_unified_smoke": gp_unified_smoke,
    **cookbook_rad_net2.RECIPES,
    **cookbook_bsp_mpnet.RECIPES,
    **cookbook_distillation.RECIPES,
    "dm_smoke": dm_smoke,
    "dm_mask_smoke": dm_mask_smoke,
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
