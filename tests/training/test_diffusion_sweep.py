"""The sweep: every setting once, from the same noise, and the curves of the paper's figures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from pipelines.cli import app
from simulation.degradations.base import Mixture
from simulation.errors import BadSetting
from simulation.home import Home
from training.checkpoint import save_version
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
    """Above three systems over steps, below a curve over beta, and one over alpha, for each number of steps."""
    figure = drawn(table, "si_sdr")
    above, _, below, _, last, _ = figure.axes
    assert [line.get_label() for line in above.lines] == ["SGMSE+ / GP-SGMSE+", "without first fusion", "GP-Unified"]
    assert [line.get_label() for line in below.lines] == ["N = 1", "N = 2"]
    uniform = table[table["step_size"] == "uniform"]
    unified = uniform[uniform["system"] == "unified"]
    assert list(above.lines[0].get_ydata()) == list(uniform[uniform["system"] == "generative"]["si_sdr"])
    wanted = unified[(unified["first_fusion"] == 0.2) & (unified["steps"] == 2)].sort_values("last_fusion")["si_sdr"]
    assert list(below.lines[1].get_ydata()) == list(wanted)
    assert [list(line.get_xdata()) for line in last.lines] == [[0.2, 0.7, 1.0]] * 2
    without = uniform[(uniform["system"] == "without first") & (uniform["last_fusion"] == 0.1)]
    assert [line.get_ydata()[-1] for line in last.lines] == list(without["si_sdr"])


def test_a_sweep_is_typed_and_leaves_its_table_and_a_picture_of_each_metric(home: Home, tmp_path: Path) -> None:
    """`unmuffle sweep` of a version's folder; what it cannot do is answered before anything is enhanced."""
    model = GpUnified.Config.model_validate(SMALL).build()
    save_version(model, (tmp_path / "gp").as_uri(), facts={})
    rng = np.random.default_rng(0)
    for side in ("clean", "noisy"):
        (tmp_path / side).mkdir()
        soundfile.write(tmp_path / side / "one.wav", 0.1 * rng.standard_normal(8000), 16000)
    words = ["sweep", (tmp_path / "gp").as_uri(), "--pairs", str(tmp_path), "--out", str(tmp_path / "out")]
    words += ["--rows", "1", "--metrics", "si_sdr,lsd", "--steps", "1", "--alphas", "0.2"]
    for wrong, answer in (
        (["--betas", "much"], "--betas 'much' is no list of numbers"),
        (["--case", "fog"], "its cases are"),
        (["--metrics", "psq"], "no metric named 'psq'"),
        (["--steps", "0"], "steps"),
        (["--corpus", "there"], "Give one of --corpus ADDRESS and --pairs FOLDER"),
    ):
        asked = CliRunner().invoke(app, [*words, *wrong])
        assert asked.exit_code == 2 and answer in " ".join(asked.output.split())
    done = CliRunner().invoke(app, [*words, "--betas", "0.1", "--json"])
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(tmp_path / "out" / "sweep.csv")) == 6
    assert {each.name for each in (tmp_path / "out").glob("*.png")} == {"sweep-si_sdr.png", "sweep-lsd.png"}


def test_a_network_without_two_decoders_is_refused() -> None:
    """There is nothing to fuse."""
    with pytest.raises(BadSetting, match="nothing to sweep in gru_mask"):
        sweep(GruMask.Config(width=4).build(), [], [], ["si_sdr"])
