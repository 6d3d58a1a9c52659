"""Tables of what exists: what versions cost."""

import io

import pytest
from rich.console import Console

from pipelines.answer import Answer
from pipelines.summary import known_models, known_networks, measure_networks, standing
from serving import network_costs
from serving.network_costs import NetworkCost
from simulation.errors import UnknownName
from simulation.home import Home
from training.ledger import Cost
from training.record import cost_tags
from training.registry import DEFAULT_USE
from training.tracking import Tracking


@pytest.fixture
def registered(home: Home) -> Tracking:
    """A champion that was trained here, after a failure, and a version that was imported."""
    home.path.mkdir()
    tracking = Tracking()
    cost = Cost(core_seconds=7200.0, gpu_seconds=1800.0, wasted_core_seconds=360.0)
    for key, tags in (("trained", cost_tags(cost)), ("imported", {})):
        run_id = tracking.run(key, key)
        tracking.register(DEFAULT_USE, "dm", f"s3://bucket/{key}", "0" * 64, run_id, {"stage_key": key, **tags})
    tracking.set_alias(DEFAULT_USE, "champion", "1")
    return tracking


def test_versions_and_the_champion_are_listed_with_what_they_cost(registered: Tracking, home: Home) -> None:
    """In core-hours and GPU-hours, and what failures wasted; nothing where it was trained elsewhere."""
    trained, imported = known_models(DEFAULT_USE).data["versions"]
    expected = {"cost_core_hours": 2.0, "cost_gpu_hours": 0.5, "cost_wasted_core_hours": 0.1, "cost_gigabytes": 0.0}
    assert trained["cost"] == expected
    assert imported["cost"] == {}
    assert standing(DEFAULT_USE, home).data["cost"] == expected
    registered.set_alias(DEFAULT_USE, "champion", "2")
    assert standing(DEFAULT_USE, home).data["cost"] == {}


def test_networks_are_listed_with_what_they_cost_here(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published and ours side by side; a dash, and what to type, where nothing was measured; then the figures."""
    names = ("renet_small", "gru_mask")
    before = shown(known_networks(names))
    assert all(word in before for word in ("900,529", "0.90 M", "22.47", "22.89", "yes", "24.9"))
    assert "unmuffle models [NAME ...] --measure" in before
    assert known_networks(names).data["gru_mask"]["real_time_factor"] is None

    def measured(name: str) -> NetworkCost:
        settings = network_costs.PRESETS[name].config.digest()
        if name == "renet_small":
            return NetworkCost(settings=settings, machine="a test's", reason="not done within 600 s")
        return NetworkCost(settings=settings, machine="a test's", real_time_factor=0.125, peak_memory_mb=1234.0)

    monkeypatch.setattr(network_costs, "measured", measured)
    told: list[str] = []
    measure_networks(names, told.append)
    assert told == ["renet_small: not done within 600 s", "gru_mask: real-time factor 0.12, 1,234 MB"]
    after = shown(known_networks(names))
    assert all(word in after for word in ("0.12", "1,234", "on a test's", "renet_small: not done within 600 s"))
    assert "--measure" not in after
    assert known_networks(names).data["gru_mask"]["machine"] == "a test's"


def test_an_unknown_network_is_answered(home: Home) -> None:
    """With the names that exist."""
    with pytest.raises(UnknownName, match="Did you mean 'gru_mask'"):
        known_networks(["gru_musk"])


def shown(answer: Answer) -> str:
    """As a wide terminal has it."""
    console = Console(width=200, file=io.StringIO())
    console.print(answer)
    return console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO has it
