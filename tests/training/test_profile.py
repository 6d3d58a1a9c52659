"""Compute profiles: what may be asked for, and what a budget allows."""

import pytest

from simulation.errors import BadSetting
from training.profile import Budget, ComputeProfile


def test_workers_are_a_number_or_a_range() -> None:
    """From JSON, as UNMUFFLE_COMPUTE gives it."""
    fixed, elastic = (ComputeProfile.parse(f'{{"workers": {words}}}', "test") for words in ("2", "[1, 4]"))
    assert (fixed.least_workers, fixed.most_workers) == (2, 2)
    assert (elastic.least_workers, elastic.most_workers) == (1, 4)
    assert ComputeProfile.parse(elastic.model_dump_json(), "test") == elastic


@pytest.mark.parametrize("words", ["0", "[0, 2]", "[3, 2]"])
def test_less_than_one_worker_is_refused(words: str) -> None:
    """And a range that ends before it begins."""
    with pytest.raises(BadSetting, match="must be a number from 1 on"):
        ComputeProfile.parse(f'{{"workers": {words}}}', "test")


def test_a_budget_says_what_is_spent() -> None:
    """Each limit by itself; where there is none, nothing ever is."""
    budget = Budget(max_steps=100, max_core_hours=0.5)
    assert budget.spent(99, 0.49, 7.0) == ""
    assert budget.spent(100, 0.49, 7.0) == "max_steps 100"
    assert budget.spent(100, 0.5, 7.0) == "max_steps 100, max_core_hours 0.5"
    assert Budget(max_gpu_hours=1).spent(0, 0.0, 1.0) == "max_gpu_hours 1"
    assert Budget().spent(10**9, 1e9, 1e9) == ""
