"""Tables of what exists: what versions cost."""

import pytest

from pipelines.summary import known_models, standing
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
