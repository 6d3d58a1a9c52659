"""What a worker does with a look at the valid split that goes wrong, without Ray."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from simulation.errors import TrainingDiverged
from training.loop import Run, Seat
from training.recipe import Recipe
from training.worker import Reporter


class Overflowing:
    """A look at the valid split that gives no finite figure, at once or when it is asked for."""

    def __init__(self, late: bool) -> None:
        self.late = late

    def begin(self, *arguments: Any) -> dict[str, float]:
        """At once."""
        return {} if self.late else self._overflow()

    def collect(self, run: Any, wait: bool = False) -> None:
        """Later."""
        if self.late:
            self._overflow()

    def _overflow(self) -> dict[str, float]:
        raise TrainingDiverged("overflows at step 7")


@pytest.mark.parametrize("late", [False, True])
def test_figures_that_are_not_finite_end_the_run_for_all_workers_together(
    late: bool, small_recipe: Callable[..., Recipe]
) -> None:
    """The step goes on as the other workers do; the next checkpoint is refused, before anything of it is written."""
    reporter = Reporter.__new__(Reporter)  # without Ray Train's context: what is looked at needs none
    reporter.look, reporter.seat, reporter.trouble = Overflowing(late), Seat(), None  # type: ignore[assignment]
    reporter.errand = SimpleNamespace(before_commit=None)  # type: ignore[assignment]
    run = Run(small_recipe())
    assert reporter.begin(run, (), torch.device("cpu")) == {}
    with pytest.raises(TrainingDiverged, match="step 7"):
        reporter.save(run)
