"""Signs that a network cannot learn on, read off the rows of a run's history; the loop says them aloud."""

from collections.abc import Iterator, Mapping

MASK_SATURATION = "mask_saturation"
"""Ending of the name of a share of mask values that stand at an end of their range, where a sigmoid has no slope."""
MOST_SATURATED = 0.5


def alarms(row: Mapping[str, float | int]) -> Iterator[str]:
    """A sentence for each sign in a row: what was found, what is usual, what to try."""
    for name, value in row.items():
        if name.endswith(MASK_SATURATION) and value > MOST_SATURATED:
            yield (
                f"{name} is {value:.2f}: so many of the mask's values stand at an end of their range, where they learn "
                f"hardly anything; up to {MOST_SATURATED} is usual. Lower learning_rate or clip_norm."
            )
