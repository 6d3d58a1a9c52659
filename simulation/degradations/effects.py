"""audiomentations' effects with parameters that we drew: set, frozen, and rendered without any of its randomness."""

from typing import Any

import numpy as np

from simulation.degradations.base import Waveform


def rendered(effect: str, samples: Waveform, sample_rate: int, parameters: dict[str, Any], **settings: Any) -> Waveform:
    """The samples after audiomentations' class `effect`; `settings` are its constructor's that say how, not what.

    It would draw its own parameters from the global `random`; frozen ones are used as they are.
    """
    import audiomentations  # a second to import, and reading a scenario must be quick

    transform = getattr(audiomentations, effect)(p=1.0, **settings)
    transform.parameters = {"should_apply": True, **parameters}
    transform.freeze_parameters()
    result: Waveform = transform(samples, sample_rate)
    return result


def both_ways(effect: str, samples: Waveform, sample_rate: int, parameters: dict[str, Any]) -> Waveform:
    """The effect forwards, then backwards: its response squared, and no phase at all."""
    forwards = rendered(effect, samples, sample_rate, parameters)
    return np.ascontiguousarray(rendered(effect, forwards[::-1], sample_rate, parameters)[::-1])
