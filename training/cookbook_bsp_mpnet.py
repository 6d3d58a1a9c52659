"""Recipes of BSP-MPNet: its line's budget, its ablations, and one with a random SSL model for minutes on two cores."""

from collections.abc import Callable
from functools import partial
from typing import Any

from training.models import BspMpnet
from training.models.bsp_mpnet.ssl import Ssl
from training.objectives import Contrast
from training.recipe import KeepBest, Recipe

EPOCH_STEPS = 11_572 // 16
"""Steps of 16 in an epoch of VoiceBank-DEMAND."""
NO_CLIPPING = 1e6
"""A longest gradient that none has."""
NARROW: dict[str, Any] = {"channels": (4, 4), "width": 64, "recurrent_width": 32, "dropout": 0.0}
"""What is smaller for minutes on two cores, beside the SSL model."""
TO_BE_NAMED = ""
"""Stands for the version that `training.pretrained.begin` makes from released weights of an SSL model."""


def bsp_mpnet(name: str = "bsp_mpnet", begins_with: str | None = TO_BE_NAMED, **changes: Any) -> Recipe:
    """BSP-MPNet around WavLM base, of which all but the convolutions learns; or with something changed.

    Its own training could not be read. From BSSE-SE, which its ancestor is built on: Adam with 1e-4, a tenth of it for
    the SSL model, no decay and no fall; 100 epochs of batches of 16; no clipping; the weights with the lowest loss on
    the valid split are released. Ours: pieces of 2 s (theirs: 1.28 s), and no gain drawn by lot on both sides, since
    stretching depends on the level. None of these was run.
    """
    return Recipe(
        name=name,
        network="bsp_mpnet",
        model=BspMpnet.Config().model_copy(update=changes),
        begins_with=begins_with,
        objective=Contrast.Config(phase=0.3 if changes.get("phase_path", True) else 0.0),
        steps=100 * EPOCH_STEPS,
        batch_size=16,
        segment_s=2.0,
        learning_rate=1e-4,
        schedule="constant",
        betas=(0.9, 0.999),
        weight_decay=0.0,
        clip_norm=NO_CLIPPING,
        keep_best=KeepBest(metric="valid/loss", higher_is_better=False, release=True),
        log_every=100,
        validate_every=EPOCH_STEPS,
        checkpoint_every=EPOCH_STEPS,
    )


def bsp_mpnet_random_smoke() -> Recipe:
    """A narrow BSP-MPNet at half the frame rate, for minutes on two cores.

    Around a tiny WavLM with random weights, which its name says: what it learns, it learns without what an SSL model is
    for. One further term of the line, the complex one, ties the two paths.
    """
    architecture = {
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "conv_dim": [16] * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    }
    ssl = Ssl.model_validate({"width": 32, "layers": 2, "architecture": architecture})
    return bsp_mpnet("bsp_mpnet_random_smoke", None, **NARROW, hop_size=200, ssl=ssl, fine_tuning="frozen").model_copy(
        update={
            "network": "bsp_mpnet_random_ssl",
            "objective": Contrast.Config(complex=0.3, envelope=1.0),
            "steps": 1600,
            "batch_size": 8,
            "segment_s": 1.0,
            "learning_rate": 2e-3,
            "schedule": "cosine",
            "warmup_steps": 50,
            "clip_norm": 5.0,
            "keep_best": None,
            "validate_every": 500,
            "checkpoint_every": 250,
        }
    )


ABLATIONS: dict[str, dict[str, Any]] = {
    "no_phase": {"phase_path": False},
    "no_contrast": {"stretched": False},
    "no_recurrence": {"recurrent_width": 0},
    "equal_layers": {"layer_weights": "fixed"},
    "residual_phase": {"phase_mask": "residual"},
    "frozen": {"fine_tuning": "frozen"},
    "entire": {"fine_tuning": "entire"},
}


def bsp_mpnet_frozen_stored() -> Recipe:
    """Around a frozen WavLM, whose embeddings are computed once, in half precision: 3.6 GB for an hour of audio."""
    frozen = bsp_mpnet("bsp_mpnet_frozen_stored", fine_tuning="frozen")
    return frozen.model_copy(update={"objective": Contrast.Config(embeddings="stored", stored_precision="fp16")})


RECIPES: dict[str, Callable[[], Recipe]] = {
    "bsp_mpnet": bsp_mpnet,
    **{f"bsp_mpnet_{name}": partial(bsp_mpnet, f"bsp_mpnet_{name}", **changes) for name, changes in ABLATIONS.items()},
    "bsp_mpnet_no_ssl": partial(bsp_mpnet, "bsp_mpnet_no_ssl", None, ssl=Ssl(kind="absent")),
    "bsp_mpnet_frozen_stored": bsp_mpnet_frozen_stored,
    "bsp_mpnet_random_smoke": bsp_mpnet_random_smoke,
}
