import numpy as np
import pytest

from serving.engine import Engine
from serving.messages import ServiceConfig
from serving.replica import load
from serving.verification import check_answer, probe, self_test
from simulation.errors import CheckpointIncompatible, VerificationFailed
from training.registry import Version


def test_the_probe_is_a_second_of_audible_speech() -> None:
    """Every version is asked about the same recording, which ships with the package."""
    assert probe().shape == (16_000, 1)
    assert 0.01 < np.sqrt(np.mean(probe() ** 2)) < 0.3


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (probe()[:-1], "15999 samples"),
        (np.repeat(probe(), 2, axis=1), "2 channels"),
        (probe() * np.nan, "NaN"),
        (probe() * 1e-4, "silence"),
    ],
)
def test_an_answer_that_is_not_sane_is_refused(answer: np.ndarray, complaint: str) -> None:
    """Another length, other channels, NaN, silence: each named in the message."""
    with pytest.raises(VerificationFailed, match=complaint):
        check_answer(probe(), answer, "denoise-16k/7")


def test_a_sane_version_passes(versions: tuple[Version, Version]) -> None:
    """The self-test has no objection to a network that works."""
    self_test(Engine.load(versions[0].address), "denoise-16k/1")


def test_a_folder_that_now_holds_another_model_is_refused(versions: tuple[Version, Version], config_of) -> None:
    """The weights must be the registered ones, even where the folder is intact in itself."""
    config: ServiceConfig = config_of(versions[0])
    moved = config.model_copy(update={"version": config.version.model_copy(update={"address": versions[1].address})})
    with pytest.raises(CheckpointIncompatible, match="registered with"):
        load(moved)
