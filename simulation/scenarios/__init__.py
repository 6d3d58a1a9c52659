"""The named scenarios: one file for each source; each is made known by its line in `SCENARIOS`.

The docstring of each says what it is, from which source it comes, and where it deviates from it.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from simulation.errors import UnknownName
from simulation.scenario import Scenario
from simulation.scenarios.dm import dm
from simulation.scenarios.phase_retrieval import phase_retrieval
from simulation.scenarios.renet import renet
from simulation.scenarios.sample import sample, sample48
from simulation.scenarios.ssi import ssi, ssi48
from simulation.scenarios.urgent import urgent, urgent48
from simulation.scenarios.voicebank_demand import voicebank_demand, voicebank_demand48
from simulation.scenarios.voicefixer import voicefixer, voicefixer48
from simulation.scenarios.whamr import whamr

SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "sample": sample,
    "sample48": sample48,
    "renet": renet,
    "dm": dm,
    "phase_retrieval": phase_retrieval,
    "voicebank_demand": voicebank_demand,
    "voicebank_demand48": voicebank_demand48,
    "whamr": whamr,
    "voicefixer": voicefixer,
    "voicefixer48": voicefixer48,
    "urgent": urgent,
    "urgent48": urgent48,
    "ssi": ssi,
    "ssi48": ssi48,
}


def scenario(name: str) -> Scenario:
    """The scenario of this name; `UnknownName` lists those that exist."""
    if name not in SCENARIOS:
        raise UnknownName("scenario", name, SCENARIOS)
    return SCENARIOS[name]()


class About(NamedTuple):
    """What a scenario's docstring says, each part in one line; empty where it says nothing."""

    summary: str
    source: str
    deviates: str


def about(name: str) -> About:
    """What is said about the scenario of this name."""
    text = inspect.getdoc(SCENARIOS[name]) or ""
    parts = [" ".join(part.split()) for part in text.split("\n\n")]
    source, deviates = (
        next((part.removeprefix(mark) for part in parts if part.startswith(mark)), "")
        for mark in ("Source: ", "Deviates: ")
    )
    return About(parts[0], source, deviates)
