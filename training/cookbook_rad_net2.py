"""Recipes of RaD-Net 2: a teacher that sees both sides, its causal student, a second stage behind that, both together.

None of these trainings is published; what is known of the line and what is ours stands in each docstring. None was run.
"""

from collections.abc import Callable

from training.models import RadNet2
from training.models.presets import PRESETS
from training.objectives import Adversarial, PowerLaw
from training.objectives.distillation import Distillation
from training.objectives.spectrum_judges import BandJudge, ResolutionJudge
from training.recipe import Recipe

EPOCH_STEPS = 15_750
"""Steps of 16 in 700 hours of speech cut into pieces of 10 s."""

TO_BE_NAMED = ""
"""Stands for the address of a version that another recipe makes."""


def judged(distances: PowerLaw.Config) -> Adversarial.Config:
    """Distances beside the multi-resolution and the multi-band discriminator that RaD-Net names."""
    return Adversarial.Config(spectral=distances, judges=(ResolutionJudge.Config(), BandJudge.Config()))


def rad_net2_teacher() -> Recipe:
    """Stage 1 that sees both sides; its version teaches.

    Of TEA-PSE 2.0, the ancestor whose training is published: pieces of 10 s, 60 epochs a stage, about 700 hours of
    speech, gradients clipped at 5. Ours: batches of 16; rate and betas are those of HiFi-GAN for both sides, without a
    fall of the rate, where TEA-PSE halves 1e-3 when the validation stalls; no decay of weights.
    """
    return Recipe(
        name="rad_net2_teacher",
        use="fullband-48k",
        network="rad_net2",
        model=PRESETS["rad_net2_teacher"].config,
        objective=judged(PowerLaw.Config()),
        steps=60 * EPOCH_STEPS,
        batch_size=16,
        segment_s=10.0,
        learning_rate=2e-4,
        schedule="constant",
        weight_decay=0.0,
        log_every=100,
        validate_every=EPOCH_STEPS,
        checkpoint_every=5000,
    )


def rad_net2_untaught() -> Recipe:
    """Stage 1, causal, without a teacher: what distillation is measured against."""
    return rad_net2_teacher().model_copy(
        update={"name": "rad_net2_untaught", "model": PRESETS["rad_net2_repairing"].config}
    )


def rad_net2_repairing(teacher: str = TO_BE_NAMED) -> Recipe:
    """Stage 1, causal, and taught by a version of `rad_net2_teacher`; everything else as `rad_net2_untaught`."""
    distances = PowerLaw.Config(distillation=Distillation.Config(teacher=teacher))
    return rad_net2_untaught().model_copy(update={"name": "rad_net2_repairing", "objective": judged(distances)})


def rad_net2(repairing: str = TO_BE_NAMED) -> Recipe:
    """Stage 2 behind a version of `rad_net2_repairing` that stays as it is, statistics too."""
    model = RadNet2.Config(frozen_repairing=True)
    return rad_net2_teacher().model_copy(update={"name": "rad_net2", "model": model, "begins_with": repairing})


def rad_net2_joint(both: str = TO_BE_NAMED) -> Recipe:
    """Both stages of a version of `rad_net2` together, at a tenth of its rate."""
    return rad_net2().model_copy(
        update={
            "name": "rad_net2_joint",
            "model": RadNet2.Config(),
            "begins_with": both,
            "steps": 20 * EPOCH_STEPS,
            "learning_rate": 2e-5,
            "judge_learning_rate": 2e-4,
        }
    )


def rad_net2_smoke() -> Recipe:
    """Both stages at once for minutes on two cores: few channels, pieces of a second, neither teacher nor judges."""
    tiny = PRESETS["rad_net2_tiny"].config
    assert isinstance(tiny, RadNet2.Config)
    repairing = tiny.repairing.model_copy(update={"channels": 16, "stacks": 1, "depth": 3})
    assert tiny.denoising is not None
    denoising = tiny.denoising.model_copy(update={"features": 4, "depth": 2})
    return rad_net2_teacher().model_copy(
        update={
            "name": "rad_net2_smoke",
            "model": tiny.model_copy(update={"repairing": repairing, "denoising": denoising}),
            "objective": PowerLaw.Config(),
            "steps": 400,
            "batch_size": 4,
            "segment_s": 1.0,
            "learning_rate": 2e-3,
            "schedule": "cosine",
            "warmup_steps": 20,
            "validate_every": 200,
            "validation_items": 16,
            "checkpoint_every": 100,
        }
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "rad_net2_teacher": rad_net2_teacher,
    "rad_net2_untaught": rad_net2_untaught,
    "rad_net2_repairing": rad_net2_repairing,
    "rad_net2": rad_net2,
    "rad_net2_joint": rad_net2_joint,
    "rad_net2_smoke": rad_net2_smoke,
}
