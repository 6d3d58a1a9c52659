"""What a network costs: parameters, multiply-accumulates; and the table of networks."""

from pathlib import Path
from typing import Any

import pytest
import torch

from training.counting import facts, gmacs_per_second, kept_facts, parameters
from training.models import GruMask
from training.models.presets import PRESETS, Preset

PARAMETERS = {
    "dm": 2_054_002,
    "dm_tied_head": 2_053_937,
    "dm_b": 2_048_535,
    "dm_c": 2_048_851,
    "mp_senet_2023": 2_048_849,
    "mp_senet_2024": 2_263_372,
    "mp_senet_2024_phase": 1_991_362,
    "renet": 1_549_969,
    "renet_small": 900_529,
    "renet_causal": 1_586_833,
    "sgmse_plus": 65_590_694,
    "gp_unified": 106_782_668,
    "gp_unified_small": 144_396,
    "bsp_mpnet": 16_018_628,
    "bsp_mpnet_2_blocks": 29_425_378,
    "bsp_mpnet_large": 17_261_276,
    "bsp_mpnet_large_2_blocks": 30_668_026,
    "rad_net2": 3_985_524 + 4_563_674,
    "rad_net2_small": 3_985_524 + 1_518_554,
    "rad_net2_large": 3_985_524 + 7_651_034,
    "rad_net2_tiny": 1_059_862,
    "rad_net2_repairing": 3_985_524,
    "rad_net2_teacher": 3_985_524,
    "gru_mask": 522_249,
}


def test_a_shared_tensor_counts_once() -> None:
    """Two layers that hold one weight have the parameters of one."""
    one, other = torch.nn.Linear(3, 4), torch.nn.Linear(3, 4)
    other.weight = one.weight
    assert parameters(torch.nn.Sequential(one, other)) == 3 * 4 + 4 + 4


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_has_its_size(name: str) -> None:
    """Ours exactly; within half a percent of the paper's, or of the last digit that it prints."""
    found = facts(PRESETS[name])
    assert found["parameters"] == PARAMETERS[name]
    if found["published_parameters"]:
        millions = float(found["published_parameters"].removesuffix(" M"))
        assert found["parameters"] / 1e6 == pytest.approx(millions, abs=0.0051)


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.published_gmacs])
def test_costs_agree_with_published_ones(name: str) -> None:
    """Within 3 %, which is what counting norms and gates, or not, makes of it."""
    preset = PRESETS[name]
    assert gmacs_per_second(preset.config) == pytest.approx(preset.published_gmacs, rel=0.03)


def test_a_recurrent_mask_costs_what_its_matrices_have() -> None:
    """81 frames for a second and the wait at its end, times the entries of each matrix; nothing else counts."""
    model = GruMask.Config(width=8, layers=2).build()
    matrices = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim == 2)
    frames = (16000 + model.latency_samples) // model.config.hop_size
    assert gmacs_per_second(model.config) * 1e9 == pytest.approx(frames * matrices)


def test_attention_makes_longer_utterances_dearer() -> None:
    """A second of four costs more than a second by itself."""
    config = PRESETS["renet_small"].config
    assert gmacs_per_second(config, seconds=4) > 1.1 * gmacs_per_second(config)


def test_a_causal_network_says_how_long_it_waits() -> None:
    """In milliseconds; the others wait for the end."""
    assert facts(PRESETS["gru_mask"])["latency_ms"] == pytest.approx(1000 * 399 / 16000)
    assert facts(PRESETS["renet_small"])["latency_ms"] is None


def test_from_eight_steps_on_fusion_costs_less_than_a_tenth() -> None:
    """Two calls of the predictive decoder beside 2 N of the score network: 2.5 % at N = 30, over 10 % below N = 8."""
    score, both = (gmacs_per_second(PRESETS[name].config) for name in ("sgmse_plus", "gp_unified"))
    more = {steps: 2 * (both - score) / (2 * steps * score) for steps in (5, 7, 8, 30)}
    assert more[8] <= 0.1 < more[7]
    assert more[5] == pytest.approx(0.148, abs=0.001)
    assert more[30] == pytest.approx(0.025, abs=0.001)


def test_what_a_network_costs_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept in the home, until the settings or the code change; each is told before it is counted."""
    told: list[str] = []
    preset = PRESETS["gru_mask"]

    def kept(preset: Preset) -> dict[str, Any]:
        return kept_facts(preset, tmp_path, lambda: told.append("counting"))

    assert kept(preset) == kept(preset) == facts(preset)
    assert len(told) == 1
    assert kept(preset._replace(config=preset.config.model_copy(update={"width": 8})))["parameters"] < 10_000
    assert len(told) == 2
    monkeypatch.setattr("training.counting._code", lambda: b"other code")
    assert kept(preset) == facts(preset)
    assert len(told) == 3
