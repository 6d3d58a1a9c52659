"""The sweep: every setting once, from the same noise, and the curves of the paper's figures."""

import numpy as np
import pandas as pd
import pytest
import torch

from simulation.degradations.base import Mixture
from simulation.errors import BadSetting
from training.diffusion_sweep import drawn, settings, sweep
from training.models import GpUnified, GruMask

SMALL = {"channels": 4, "multipliers": (1, 2), "blocks": 1, "attention_bins": (), "sampling": {"steps": 1}}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Two mixtures of a tenth of a second, one and two steps, two betas and one other alpha."""
    torch.manual_seed(0)
    model = GpUnified.Config.model_validate(SMALL).build().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    rng = np.random.default_rng(0)
    mixtures = []
    for _ in range(2):
        clean = 0.1 * rng.standard_normal(1600).astype(np.float32)
        noisy = clean + 0.05 * rng.standard_normal(1600).astype(np.float32)
        mixtures.append(Mixture(clean=clean, noisy=noisy, sample_rate=16000))
    found = sweep(model, mixtures, list(settings([1, 2], [0.7], [0.1, 1.0])), ["si_sdr"])
    assert model.config.sampling.steps == 1
    return found


def test_every_setting_is_tried_once(table: pd.DataFrame) -> None:
    """Both step sizes; the score alone; beta with and without first fusion; alpha."""
    assert not table.duplicated(["mode", "steps", "step_size", "first_fusion", "last_fusion"]).any()
    assert len(table) == 2 * 2 * (1 + 2 * 2 + 1)
    assert table["si_sdr"].notna().all()
    assert (table["rows"] == 2).all()


def test_settings_that_mean_the_same_score_the_same(table: pd.DataFrame) -> None:
    """beta = 1 without first fusion is the score alone; with one step, alpha means nothing; beta means something."""
    for _, part in table.groupby(["step_size", "steps"]):
        alone = part[part["system"] == "generative"]["si_sdr"].item()
        unfused = part[(part["system"] == "without first") & (part["last_fusion"] == 1.0)]["si_sdr"].item()
        fused = part[(part["system"] == "without first") & (part["last_fusion"] == 0.1)]["si_sdr"].item()
        assert unfused == alone
        assert fused != alone
    one = table[(table["steps"] == 1) & (table["mode"] == "unified") & (table["last_fusion"] == 0.1)]
    assert one.groupby("step_size")["si_sdr"].nunique().eq(1).all()


def test_the_figure_has_the_papers_curves(table: pd.DataFrame) -> None:
    """Above three systems over steps, below a curve over beta for each number of steps, with the table's numbers."""
    figure = drawn(table, "si_sdr")
    above, _, below, _ = figure.axes
    assert [line.get_label() for line in above.lines] == ["SGMSE+ / GP-SGMSE+", "without first fusion", "GP-Unified"]
    assert [line.get_label() for line in below.lines] == ["N = 1", "N = 2"]
    uniform = table[table["step_size"] == "uniform"]
    unified = uniform[uniform["system"] == "unified"]
    assert list(above.lines[0].get_ydata()) == list(uniform[uniform["system"] == "generative"]["si_sdr"])
    wanted = unified[(unified["first_fusion"] == 0.2) & (unified["steps"] == 2)].sort_values("last_fusion")["si_sdr"]
    assert list(below.lines[1].get_ydata()) == list(wanted)


def test_a_network_without_two_decoders_is_refused() -> None:
    """There is nothing to fuse."""
    with pytest.raises(BadSetting, match="nothing to sweep in gru_mask"):
        sweep(GruMask.Config(width=4).build(), [], [], ["si_sdr"])
