from pathlib import Path

import pytest

from components.compute import Compute
from simulation import cores as cores_module
from simulation.cores import cores
from simulation.errors import BadSetting


@pytest.mark.parametrize(
    ("limit", "found"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 64), (None, 64)]
)
def test_a_container_gets_its_quota_of_a_large_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, found: int
) -> None:
    """Sixty-four CPUs, of which the quota may leave two; the default profile asks for no more than that."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)))
    monkeypatch.setattr("os.cpu_count", lambda: 128)
    monkeypatch.setattr(cores_module, "QUOTA", tmp_path / "cpu.max")
    if limit is not None:
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
    profile = Compute.current()
    assert (cores(), profile.workers, profile.training.cpus_per_worker) == (found, found, found)


def test_a_recipe_may_have_a_profile_of_its_own() -> None:
    """Others train as the profile says for all; it comes through the environment as JSON."""
    text = '{"workers": 4, "training": {"workers": 1}, "recipes": {"large": {"workers": [2, 4], "gpus_per_worker": 1}}}'
    compute = Compute.parse(text, "test")
    assert compute.training_of("large").workers == (2, 4)
    assert compute.training_of("small").workers == 1


def test_nobody_asks_for_no_workers() -> None:
    """Ray would wait for ever for the first of none."""
    with pytest.raises(BadSetting, match="workers: Input should be greater than or equal to 1"):
        Compute.parse('{"workers": 0, "training": {}}', "UNMUFFLE_COMPUTE")


@pytest.mark.parametrize(("cores_here", "listener"), [(2, "inside"), (8, "apart")])
def test_validation_is_apart_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch, cores_here: int, listener: str
) -> None:
    """On two cores another process would only take the training's time."""
    monkeypatch.setattr("components.compute.cores", lambda: cores_here)
    assert Compute.current().training.validation == listener
