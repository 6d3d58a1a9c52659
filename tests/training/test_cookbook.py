"""The recipes we keep: what the papers published, and that each can learn."""

import pytest
import torch

from training.cookbook import RECIPES, recipe
from training.cookbook_mp_senet import EPOCH_STEPS
from training.counting import parameters
from training.objectives import MODEL, Adversarial

PAIRS = ("renet_causal", "renet_distilled")
"""Of distillation: no paper has them."""
FULL = [
    name
    for name in RECIPES
    if not name.endswith("_smoke") and name not in PAIRS and name.split("_")[0] in ("dm", "mp", "renet")
]
NARROW = {
    "dm": {"channels": 4, "heads": 2, "blocks": 1, "dense_depth": 2, "kernel": 5},
    "mp_senet": {"channels": 4, "heads": 2, "blocks": 1, "dense_depth": 2, "kernel": 5},
    "renet": {"magnitude_channels": 4, "phase_channels": 2, "blocks": 1, "glu_width": 3, "dense_depth": 2},
}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("dm", 2_054_002),
        ("dm_b", 2_048_535),
        ("dm_c", 2_048_851),
        ("dm_untied", 2_436_018),
        ("mp_senet_2023", 2_048_849),
        ("mp_senet_2024", 2_263_372),
        ("mp_senet_2024_phase", 1_991_362),
        ("renet_universal", 1_549_969),
        ("renet_small_phase_retrieval", 900_529),
    ],
)
def test_a_full_budget_is_spent_on_a_network_of_full_size(name: str, count: int) -> None:
    """The parameters of the presets, which are the published ones; untied, DM has a second decoder."""
    with torch.device("meta"):
        assert parameters(recipe(name).model.build()) == count


@pytest.mark.parametrize("name", FULL)
def test_a_full_recipe_has_the_published_training(name: str) -> None:
    """AdamW and its rate, the fall by the epoch, batches of 4 pieces of 2 s, and a judge where the paper has one."""
    found = recipe(name)
    assert (found.learning_rate, found.betas, found.batch_size) == (5e-4, (0.8, 0.99), 4)
    universal = name.endswith(("universal", "dereverberation", "bandwidth_extension"))
    decay = 0.999 if universal else 0.99
    assert (found.schedule, found.decay, found.decay_steps) == ("exponential", decay, EPOCH_STEPS)
    assert isinstance(found.objective, Adversarial.Config)
    assert found.segment_s == 2.0


@pytest.mark.parametrize("name", FULL)
def test_the_objective_of_a_full_recipe_teaches_its_network(name: str) -> None:
    """On a narrow one of the same switches: losses are finite and each weight that learns has a gradient."""
    torch.manual_seed(0)
    found = recipe(name)
    model = found.model.model_copy(update=NARROW[found.model.kind]).build().train()
    objective = found.objective.build()
    noisy = 0.1 * torch.randn(1, 6400)
    clean = noisy + 0.05 * torch.randn(1, 6400)
    losses = objective.losses(model, noisy, clean, MODEL)
    losses.total.sum().backward()
    assert losses.total.isfinite().all()
    silent = [name for name, weight in model.named_parameters() if weight.grad is None]
    unheard = ("mask_decoder", "magnitude_head", "up.magnitude", "up.phase_gate", "up.magnitude_gate")
    allowed = unheard if getattr(found.model, "retrieve_phase", False) else ()
    assert [name for name in silent if not name.startswith(allowed)] == []


def test_tasks_differ_in_what_they_are_told() -> None:
    """Only phase retrieval leaves the phase out, and only it is taught by the phase term alone."""
    for name in FULL:
        found, retrieval = recipe(name), name.endswith(("phase_retrieval", "2024_phase"))
        assert getattr(found.model, "retrieve_phase", False) == retrieval
        assert isinstance(found.objective, Adversarial.Config)
        assert (found.objective.spectral.omnidirectional > 0) == retrieval == (found.objective.spectral.magnitude == 0)


@pytest.mark.parametrize("names", [("dm_smoke", "dm_mask_smoke"), ("dm_band_limit_smoke", "dm_band_limit_mask_smoke")])
def test_the_masking_ablation_differs_from_its_base_in_one_switch(names: tuple[str, str]) -> None:
    """So that a comparison of the two is one of the branch."""
    base, ablation = (recipe(name) for name in names)
    assert ablation.model_copy(update={"name": base.name, "model": base.model}) == base
    assert ablation.model.model_copy(update={"branches": "both"}) == base.model
