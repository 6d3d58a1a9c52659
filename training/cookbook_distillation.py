"""Recipes with teachers: a causal RENet taught by one that sees both sides, GP-Unified's one step by its sampler.

RaD-Net 2's own pair is in `cookbook_rad_net2`. A recipe names its teacher by the address of a version; `unmuffle distil
TEACHER:RECIPE` fills it in. None of these trainings is published.
"""

from collections.abc import Callable

from training.cookbook_diffusion import EPOCH_STEPS, gp_unified
from training.cookbook_mp_senet import mp_senet
from training.models import CausalReNet, GpUnified, GruMask, ReNet
from training.models.gp_unified import Sampling
from training.objectives import Diffusion, Regression, Spectral, Taught
from training.objectives.distillation import Distillation
from training.recipe import Recipe

TO_BE_NAMED = ""
"""Stands for the address of a version that another recipe makes."""

NARROW = {
    "magnitude_channels": 12,
    "phase_channels": 4,
    "blocks": 1,
    "heads": 1,
    "magnitude_head": 12,
    "phase_head": 4,
    "glu_width": 8,
    "dense_depth": 2,
}
"""A RENet for minutes on one core or two."""

BANDS = 25
"""Means over bins, before features are compared."""


# ---- full budgets ---------------------------------------------------------------------------------------------------


def renet_causal() -> Recipe:
    """A causal RENet as wide as the small one, for denoising, without a teacher: what distillation is measured against.

    The distances of RENet's denoising without its judges; optimiser, rate, batches and pieces are those of that line.
    """
    return mp_senet().model_copy(
        update={
            "name": "renet_causal",
            "network": "renet_causal",
            "model": CausalReNet.Config(magnitude_channels=32, magnitude_head=8),
            "objective": Spectral.Config(),
            "clip_norm": 5.0,
        }
    )


def renet_distilled(teacher: str = TO_BE_NAMED) -> Recipe:
    """The same, taught by a version of `renet_denoising`, which is wider and sees both sides.

    The teacher's frames come twice as often as the student's and its magnitude has 48 channels: the student's features
    are brought to its frames, and learnt maps lead to its channels.
    """
    distillation = Distillation.Config(teacher=teacher, layers=layers_of_renet(blocks=4), bands=BANDS, lessons="kept")
    return taught(renet_causal(), "renet_distilled", distillation)


def gp_unified_one_step(teacher: str = TO_BE_NAMED) -> Recipe:
    """GP-Unified's predictive decoder, one call, taught by the whole sampler of a version of `gp_unified`.

    It begins with that version's weights. Score and prediction are learnt on, so that nothing of the network lies idle;
    what the sampler says is compared as waveforms. Lessons are kept: one costs as many calls as the sampler has steps.
    """
    predictive = GpUnified.Config(sampling=Sampling(mode="predictive", predictive_noise=False))
    return gp_unified().model_copy(
        update={
            "name": "gp_unified_one_step",
            "model": predictive,
            "begins_with": teacher,
            "objective": Taught.Config(
                alone=Diffusion.Config(),
                measure=Regression.Config(si_sdr=0.02),
                distillation=Distillation.Config(teacher=teacher, features=0.0, output=1000.0, lessons="kept"),
            ),
            "steps": 20 * EPOCH_STEPS,
            "learning_rate": 1e-5,
        }
    )


# ---- minutes on one core --------------------------------------------------------------------------------------------


FEW = {"steps": 40, "batch_size": 4, "segment_s": 0.5, "validate_every": 40, "validation_items": 2}
"""Of a student: seconds on one core."""


def gru_teacher_smoke() -> Recipe:
    """A recurrent mask that runs both ways: it teaches `gru_distilled_smoke`."""
    return Recipe(
        name="gru_teacher_smoke",
        network="gru_mask",
        model=GruMask.Config(width=128, sees_both_sides=True),
        objective=Regression.Config(hop_size=200, si_sdr=0.02, envelope=1.0),
        steps=300,
        batch_size=8,
        segment_s=1.0,
        learning_rate=3e-3,
        warmup_steps=20,
        log_every=50,
        validate_every=300,
        validation_items=8,
        checkpoint_every=100,
    )


def gru_causal_smoke() -> Recipe:
    """A causal recurrent mask of that width, without a teacher: what distillation is measured against."""
    return gru_teacher_smoke().model_copy(
        update={"name": "gru_causal_smoke", "model": GruMask.Config(width=128), **FEW}
    )


def gru_distilled_smoke(teacher: str = TO_BE_NAMED) -> Recipe:
    """The same, taught by a version of `gru_teacher_smoke`: student and teacher differ in what they see alone."""
    return taught(gru_causal_smoke(), "gru_distilled_smoke", Distillation.Config(teacher=teacher))


def renet_teacher_smoke() -> Recipe:
    """A narrow RENet that sees both sides, at the frame rate of the causal one: it teaches `renet_distilled_smoke`."""
    return Recipe(
        name="renet_teacher_smoke",
        network="renet",
        model=ReNet.Config(hop_size=200, **NARROW),
        objective=Regression.Config(hop_size=200, si_sdr=0.02, envelope=1.0, magnitude=3.0),
        steps=400,
        batch_size=4,
        segment_s=1.0,
        learning_rate=3e-3,
        warmup_steps=20,
        log_every=50,
        validate_every=200,
        checkpoint_every=100,
    )


def renet_causal_smoke() -> Recipe:
    """A causal RENet as narrow, without a teacher: what distillation is measured against."""
    return renet_teacher_smoke().model_copy(
        update={
            "name": "renet_causal_smoke",
            "network": "renet_causal",
            "model": CausalReNet.Config(hop_size=200, **NARROW),
            "steps": 150,
            "validate_every": 150,
        }
    )


def renet_distilled_smoke(teacher: str = TO_BE_NAMED) -> Recipe:
    """The same, taught by a version of `renet_teacher_smoke`: student and teacher differ in what they see alone."""
    layers = layers_of_renet(blocks=1)
    distillation = Distillation.Config(teacher=teacher, layers=layers, bands=BANDS, lessons="kept")
    return taught(renet_causal_smoke(), "renet_distilled_smoke", distillation)


def taught(alone: Recipe, name: str, distillation: Distillation.Config) -> Recipe:
    """A recipe with teachers beside its objective, everything else equal."""
    objective = Taught.Config.model_validate({"alone": alone.objective.model_dump(), "distillation": distillation})
    return alone.model_copy(update={"name": name, "objective": objective})


def layers_of_renet(blocks: int) -> tuple[tuple[str, str], ...]:
    """Parts of student and teacher whose magnitudes and phases are compared: coders, and every block between."""
    names = ("encoder", *(f"blocks.{place}" for place in range(blocks)), "decoder")
    return tuple((name, name) for name in names)


RECIPES: dict[str, Callable[[], Recipe]] = {
    "renet_causal": renet_causal,
    "renet_distilled": renet_distilled,
    "gp_unified_one_step": gp_unified_one_step,
    "gru_teacher_smoke": gru_teacher_smoke,
    "gru_causal_smoke": gru_causal_smoke,
    "gru_distilled_smoke": gru_distilled_smoke,
    "renet_teacher_smoke": renet_teacher_smoke,
    "renet_causal_smoke": renet_causal_smoke,
    "renet_distilled_smoke": renet_distilled_smoke,
}
