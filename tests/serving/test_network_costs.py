"""What networks cost here: measured on demand, kept in the home, never shown beside another network."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest
import torch

from serving import network_costs
from serving.network_costs import NetworkCost, known, measure, measured, passes, why
from simulation.errors import UnknownName
from simulation.home import Home
from training.models.base import Enhancer, ModelConfig
from training.models.presets import PRESETS


def cost(name: str, **figures: Any) -> NetworkCost:
    """As if it had been measured."""
    return NetworkCost(settings=PRESETS[name].config.digest(), machine="a test's", **figures)


class Busy(Enhancer):
    """Works for a fifth of its audio's duration, and sleeps as long."""

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """The input, late."""
        until = time.process_time() + 0.2 * noisy.shape[-1] / self.sample_rate
        while time.process_time() < until:
            pass
        time.sleep(0.2 * noisy.shape[-1] / self.sample_rate)
        return noisy


class BusyConfig(ModelConfig):
    """Settings of it."""

    kind: str = "busy"

    def build(self) -> Busy:
        """The network."""
        return Busy(self)


def test_a_pass_is_timed_in_processor_time_and_by_the_clock() -> None:
    """A network that works 0.2 s for a second of audio and sleeps as long costs the processor 0.2 s."""
    found = passes(BusyConfig(), seconds=1)
    assert found.core_s == pytest.approx(0.2, rel=0.5)
    assert found.clock_s >= 0.39


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a process is told by Linux alone")
def test_a_preset_is_measured_in_a_process_of_its_own() -> None:
    """Its memory is at least what its weights take, whatever this process holds."""
    found = measured("gru_mask")
    assert found.reason == ""
    assert found.real_time_factor is not None and 0 < found.real_time_factor < 5
    assert found.peak_memory_mb is not None and 4 * 522_249 / 1e6 < found.peak_memory_mb < 500
    assert found.settings == PRESETS["gru_mask"].config.digest()


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a process is limited by Linux alone")
def test_a_network_that_wants_more_memory_than_is_free_is_answered() -> None:
    """The process that measures may not take more, and the reason names memory."""
    code = f"from serving import network_costs as n; n.available_mb = lambda: 5.0; n.main({'gru_mask'!r})"
    with pytest.raises(subprocess.CalledProcessError) as failed:
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "of memory that are free" in why(failed.value)


def test_what_was_measured_is_kept_until_the_network_changes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each figure is there as soon as it was measured; those that are there are not measured again without a name."""
    asked: list[str] = []
    monkeypatch.setattr(network_costs, "measured", lambda name: asked.append(name) or cost(name, real_time_factor=0.5))
    two = {name: PRESETS[name] for name in ("gru_mask", "renet_small")}
    monkeypatch.setattr(network_costs, "PRESETS", two)
    names = measure(home)
    assert next(names)[0] == "gru_mask"
    assert known(home).keys() == {"gru_mask"}
    assert [name for name, _ in names] == ["renet_small"]
    assert list(measure(home)) == []
    assert [name for name, _ in measure(home, ["gru_mask"])] == ["gru_mask"]
    assert asked == ["gru_mask", "renet_small", "gru_mask"]
    changed = two["gru_mask"]._replace(config=PRESETS["renet"].config)
    monkeypatch.setattr(network_costs, "PRESETS", two | {"gru_mask": changed})
    assert known(home).keys() == {"renet_small"}


def test_an_unknown_network_is_refused_before_anything_is_measured(home: Home) -> None:
    """The names are looked at first."""
    with pytest.raises(UnknownName, match="no network named 'gru_musk'"):
        next(measure(home, ["gru_mask", "gru_musk"]))
    assert not (home.path / "networks.json").exists()


def test_a_reason_stands_where_there_is_no_figure() -> None:
    """Time, the last line of what was said, or how the process ended."""
    words = ["python"]
    assert why(subprocess.TimeoutExpired(words, 600)) == "not done within 600 s"
    assert why(subprocess.CalledProcessError(1, words, stderr="Traceback\nValueError: odd\n")) == "ValueError: odd"
    assert why(subprocess.CalledProcessError(-9, words, stderr="")) == "the process ended with -9"
    assert json.loads(cost("gru_mask", reason="no").model_dump_json())["real_time_factor"] is None
