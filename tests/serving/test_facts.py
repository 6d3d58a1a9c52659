"""What a version costs: measured, by itself, and missing where it cannot be."""

import time
from typing import Any

import pytest
import torch
from torch import Tensor

from serving import facts
from serving.engine import Engine
from serving.facts import latency_ms, measured, real_time_factor
from serving.judgement import Facts
from training.models import Dm, GruMask
from training.models.base import Enhancer, ModelConfig
from training.registry import Version


class Busy(Enhancer):
    """A causal network that answers with its input after as much work as real time allows."""

    causal = True

    def __init__(self, config: ModelConfig, factor: float = 1.0) -> None:
        super().__init__(config)
        self.factor = factor

    def forward(self, noisy: Tensor) -> Tensor:
        """Keeps the processor busy."""
        until = time.process_time() + self.factor * noisy.shape[-1] / self.sample_rate
        while time.process_time() < until:
            pass
        return noisy


def test_a_version_is_measured_in_a_process_of_its_own(versions: tuple[Version, Version]) -> None:
    """All facts are there, the machine is named, and the size is that of its file of weights."""
    found = measured(versions[0].address)
    assert found.size_mb == pytest.approx(0.026, abs=0.02)
    assert found.latency_ms == pytest.approx(24.94, abs=0.01)
    assert found.real_time_factor is not None and found.real_time_factor > 0
    assert found.memory_mb is not None and 100 < found.memory_mb < 2000
    assert found.machine.count(",") >= 2


def test_what_cannot_be_loaded_has_no_facts(corrupt: Version, caplog: pytest.LogCaptureFixture) -> None:
    """Missing, with the reason in the log: the gate says no, and somebody can see why."""
    assert measured(corrupt.address) == Facts()
    assert "were not measured" in caplog.text and "CheckpointIncompatible" in caplog.text


def test_the_real_time_factor_is_processor_time_over_audio_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that works for as long as its input lasts has a factor of one, within what resampling adds."""
    monkeypatch.setattr(facts, "REPEATS", 1)
    monkeypatch.setattr(facts, "INPUT_S", 1.0)
    assert real_time_factor(Engine(Busy(ModelConfig(kind="busy")))) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(
    ("config", "expected_ms"), [(GruMask.Config(width=8, layers=1), 24.9375), (Dm.Config(channels=4, blocks=1), 5000.0)]
)
def test_latency_is_what_has_to_be_waited_for(config: Any, expected_ms: float) -> None:
    """A causal network's own; the block, fade and context for one that hears both sides."""
    torch.manual_seed(0)
    assert latency_ms(config.build()) == pytest.approx(expected_ms)
