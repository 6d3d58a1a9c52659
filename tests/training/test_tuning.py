"""A search on Ray Tune: seeds decide what is tried, ASHA stops what is worse, one failure is one failure."""

import sys
import threading
from collections.abc import Callable

import pytest
from ray import cloudpickle
from ray.tune.schedulers import ASHAScheduler

from simulation.cluster import ClusterInfo
from simulation.errors import Superseded, TrainingDiverged, UnmuffleError
from training.recipe import Recipe
from training.search import SURVIVORS, for_trial, rungs
from training.tuning import Figures, Report, Trial, Try, search

MakeRecipe = Callable[..., Recipe]
METRIC = "valid/si_sdr_gain_db"
STEPS = 9
Searched = Callable[..., tuple[list[Trial], "Follower"]]

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import a test


class Follower:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.steps: dict[int, list[int]] = {}
        self.connection = threading.RLock()  # as a client of MLflow has: it cannot be pickled

    def began(self, number: int, recipe: Recipe) -> None:
        """Its learning rate is what the trial's values say."""
        self.heard.append(("began", number))

    def looked(self, number: int, step: int, figures: Figures) -> None:
        """In order."""
        self.steps.setdefault(number, []).append(step)

    def ended(self, trial: Trial) -> None:
        """With its state."""
        self.heard.append((trial.state, trial.number))


def climbing(number: int, recipe: Recipe, report: Report) -> None:
    """Stands for training: the figure grows with the steps, the slower the higher the number."""
    for step in range(1, recipe.steps + 1):
        report(step, {METRIC: step / (1 + number), "valid/loss": 1.0})


def diverging(number: int, recipe: Recipe, report: Report) -> None:
    """The second one fails half way."""
    if number == 1:
        report(1, {METRIC: 100.0})
        raise TrainingDiverged("a gradient that is not finite")
    climbing(number, recipe, report)


def failing(number: int, recipe: Recipe, report: Report) -> None:
    """All of them."""
    raise UnmuffleError("there is nothing to train on")


def superseded(number: int, recipe: Recipe, report: Report) -> None:
    """Somebody else has taken the search over."""
    raise Superseded("attempt 2 goes on")


@pytest.fixture(scope="module")
def searched(ray_cluster: ClusterInfo, small_recipe: MakeRecipe) -> Searched:
    """`searched(attempt, trials)`: a search over two fields."""

    def run(attempt: Try, trials: int = 3) -> tuple[list[Trial], Follower]:
        declared = {"learning_rate": {"low": 1e-4, "high": 1e-2}, "model.width": {"low": 4, "high": 8}}
        recipe, follower = small_recipe(search=declared), Follower()
        return search(recipe, recipe.search, attempt, follower, trials=trials, steps=STEPS, metric=METRIC), follower

    return run


@pytest.fixture(scope="module")
def three(searched: Searched) -> tuple[list[Trial], Follower]:
    """A search of three trials."""
    return searched(climbing)


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, [1]), (2, [1, 2]), (9, [1, 3, 9]), (90, [10, 30, 90]), (600, [67, 201, 600])]
)
def test_a_trial_may_be_stopped_at_its_first_look_at_the_third_and_at_the_last(
    small_recipe: MakeRecipe, steps: int, expected: list[int]
) -> None:
    """These are ASHA's rungs: it decides about nobody in between."""
    trial = for_trial(small_recipe(), steps)
    assert rungs(trial) == expected
    asha = ASHAScheduler(time_attr="step", max_t=steps, grace_period=trial.validate_every, reduction_factor=SURVIVORS)
    (bracket,) = asha._brackets
    assert set(milestone for milestone, _ in bracket._rungs) | {steps} == set(expected)


def test_worse_trials_are_stopped_and_the_best_comes_first(
    three: tuple[list[Trial], Follower],
) -> None:
    """The first to come sets the bar, as ASHA has it; the others are stopped at their first rung."""
    trials, follower = three
    assert [(trial.number, trial.state, trial.step) for trial in trials] == [
        (0, "finished", 9), (1, "stopped", 1), (2, "stopped", 1),
    ]  # fmt: skip
    assert follower.steps[0] == list(range(1, 10))
    assert follower.heard == [("began", 0), ("finished", 0), ("began", 1), ("stopped", 1), ("began", 2), ("stopped", 2)]


def test_what_is_tried_follows_from_the_seed(searched: Searched, three: tuple[list[Trial], Follower]) -> None:
    """The same search draws the same values; a longer one begins with them; whole numbers stay whole."""
    first, _ = searched(climbing, trials=2)
    values = {trial.number: trial.values for trial in three[0]}
    assert {trial.number: trial.values for trial in first} == {number: values[number] for number in (0, 1)}
    assert len({str(drawn) for drawn in values.values()}) == 3
    assert all(isinstance(drawn["model.width"], int) and 4 <= drawn["model.width"] <= 8 for drawn in values.values())
    assert all(1e-4 <= float(drawn["learning_rate"]) <= 1e-2 for drawn in values.values())


@pytest.mark.long
def test_a_trial_that_fails_fails_alone(searched: Searched, capfd: pytest.CaptureFixture[str]) -> None:
    """It comes last, however good it was before, with its reason; nothing of Ray Tune's own is printed."""
    trials, follower = searched(diverging)
    assert trials[-1].number == 1 and trials[-1].state == "failed"
    assert trials[-1].reason == "a gradient that is not finite"
    assert trials[0].number == 0 and ("failed", 1) in follower.heard
    assert capfd.readouterr() == ("", "")


@pytest.mark.long
def test_a_search_whose_every_trial_fails_says_why(searched: Searched) -> None:
    """There is no best one."""
    with pytest.raises(UnmuffleError, match="nothing to train on"):
        searched(failing, trials=2)


@pytest.mark.long
def test_a_superseded_search_stops(searched: Searched) -> None:
    """What a trial was told goes to whoever asked for the search."""
    with pytest.raises(Superseded, match="attempt 2"):
        searched(superseded, trials=1)
