"""Recipes of diffusion: GP-Unified and SGMSE+ with the budget of their line, and one for minutes on two cores."""

from training.models import GpUnified
from training.models.gp_unified import Sampling
from training.models.presets import PRESETS
from training.objectives import Diffusion
from training.recipe import Recipe

EPOCH_STEPS = 11_572 // 8
"""Steps of 8 in an epoch of VoiceBank-DEMAND."""


def gp_unified() -> Recipe:
    """GP-Unified: 100 epochs of VoiceBank-DEMAND, as the paper has it; the rest is SGMSE+'s, as it says no more.

    Adam with 1e-4 and no decay, batches of 8 pieces of 256 frames (2.04 s), no clipping, an average of weights (0.999)
    that is validated and released.
    """
    return Recipe(
        name="gp_unified",
        network="gp_unified",
        model=GpUnified.Config(),
        objective=Diffusion.Config(),
        steps=100 * EPOCH_STEPS,
        batch_size=8,
        segment_s=2.04,
        learning_rate=1e-4,
        schedule="constant",
        betas=(0.9, 0.999),
        weight_decay=0.0,
        clip_norm=1e9,
        ema_decay=0.999,
        log_every=100,
        validate_every=EPOCH_STEPS,
        validation_items=20,
        checkpoint_every=EPOCH_STEPS,
    )


def sgmse_plus() -> Recipe:
    """SGMSE+, the paper's baseline: the generative decoder alone; otherwise the same."""
    return gp_unified().model_copy(
        update={
            "name": "sgmse_plus",
            "model": GpUnified.Config(predictive_decoder=False, sampling=Sampling(mode="generative")),
            "objective": Diffusion.Config(score=1.0),
        }
    )


def gp_unified_smoke() -> Recipe:
    """The same code for minutes on two cores: eight channels, four levels without attention, half the frames.

    Released in the predictive mode, one call on the noisy spectrum without noise; a request for another mode samples
    from the same weights. Ours, since so short a training would spend itself on learning to repeat its input: the
    predictive head masks, half of each batch is asked as that one call asks, the SI-SDR of the prediction counts, and
    the score, whose sums are the larger ones by far, weighs less. The time embedding is smooth, so that times between
    those that were drawn are known.
    """
    return gp_unified().model_copy(
        update={
            "name": "gp_unified_smoke",
            "model": PRESETS["gp_unified_small"].config,
            "objective": Diffusion.Config(score=0.1, predictive=10.0, si_sdr=100.0, one_call=0.5),
            "steps": 400,
            "batch_size": 4,
            "segment_s": 1.0,
            "learning_rate": 3e-3,
            "schedule": "cosine",
            "warmup_steps": 20,
            "betas": (0.9, 0.99),
            "ema_decay": 0.95,
            "channels_last": True,
            "log_every": 100,
            "validate_every": 400,
            "validation_items": 16,
            "checkpoint_every": 100,
        }
    )
