"""The named scenarios: one file for each source; each is made known by its line in `SCENARIOS`."""

from collections.abc import Callable

from simulation.errors import UnknownName
from simulation.scenario import Scenario
from simulation.scenarios.sample import sample

SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "sample": sample,
}


def scenario(name: str) -> Scenario:
    """The scenario of this name; `UnknownName` lists those that exist."""
    if name not in SCENARIOS:
        raise UnknownName("scenario", name, SCENARIOS)
    return SCENARIOS[name]()
