"""The search as a stage: what a trial leaves behind answers when it is tried again; the best one's recipe trains."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.specs import Input, TuneSpec
from components.train import named_recipe
from components.tune import METRIC, METRICS, Looks, attempted, tuned
from simulation import storage
from simulation.errors import BadSetting, BudgetSpent, UnknownName
from simulation.home import Home
from training.cookbook import gru_smoke
from training.profile import Budget, ComputeProfile
from training.recipe import Recipe
from training.search import for_trial, with_values
from training.tuning import Report

CORPUS = Input(address="file:///corpus", sha256="c" * 64)


class Reported(list[tuple[int, dict[str, float]]]):
    """What a trial reported."""

    def __call__(self, step: int, figures: dict[str, float]) -> None:
        """Note it."""
        self.append((step, figures))


def test_looks_are_kept_before_they_are_reported_and_reported_once(tmp_path: Path) -> None:
    """A trial that is tried again reports what it saw, in order, then goes on; what is repeated is left out."""
    address = storage.normal(str(tmp_path / "looks.json"))

    def stopped(step: int, figures: dict[str, float]) -> None:
        raise SystemExit  # as Ray Tune ends a trial

    with pytest.raises(SystemExit):
        Looks(address, stopped).log({METRIC: 1.0, "train/loss": 2.0}, 2)
    again = Reported()
    looks = Looks(address, again)
    for step in (1, 2, 4):
        looks.log({METRIC: float(step)}, step)
    looks.log({"train/loss": 1.0}, 6)
    assert again == [(2, {METRIC: 1.0}), (4, {METRIC: 4.0})]
    assert looks.last_step == 4


class Trained:
    """Stands for `training.fit`: goes up to what the profile allows, and notes whether it is at work."""

    def __init__(self) -> None:
        self.step, self.ends, self.at_work = 0, list[int](), False

    def __call__(self, recipe: Recipe, *, profile: ComputeProfile, log: Any, **settings: Any) -> None:
        """From where it stopped."""
        end, self.at_work = min(recipe.steps, profile.budget.max_steps or recipe.steps), True
        assert profile.validation == "inside"
        for step in range(self.step + 1, end + 1):
            log({METRIC: float(step), "train/loss": 0.0}, step)
        self.step, self.at_work = end, False
        self.ends.append(end)
        if end < recipe.steps:
            raise BudgetSpent("more")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """In the place of `training.fit.fit`."""
    stand_in = Trained()
    monkeypatch.setattr("training.fit.fit", stand_in)
    return stand_in


@pytest.fixture
def attempt(tmp_path: Path) -> Callable[..., None]:
    """`attempt(report, **profile)`: a trial of nine steps."""
    common = {"corpus": CORPUS, "store": storage.normal(str(tmp_path)), "before_commit": lambda: None}

    def go(report: Report, **profile: Any) -> None:
        attempted(0, for_trial(gru_smoke(), 9), report, profile=ComputeProfile(**profile), **common)

    return go


def test_a_finished_trial_is_not_trained_again(trained: Trained, attempt: Callable[..., None]) -> None:
    """In this search or in another: its looks are reported from the store."""
    first, second = Reported(), Reported()
    for report in (first, second):
        attempt(report)
    assert trained.ends == [1, 3, 9]
    assert first == second == [(step, {METRIC: float(step)}) for step in range(1, 10)]


def test_nothing_trains_while_a_trial_may_be_stopped(trained: Trained, attempt: Callable[..., None]) -> None:
    """Ray Tune ends its process then; the workers' CPUs would stay claimed until the end of the search."""
    at_work = {}

    def report(step: int, figures: dict[str, float]) -> None:
        at_work[step] = trained.at_work
        if step == 3:
            raise SystemExit  # as Ray Tune ends a trial

    with pytest.raises(SystemExit):
        attempt(report, validation="apart")
    assert at_work == {1: False, 2: True, 3: False}
    assert trained.ends == [1, 3]


def test_a_trial_whose_budget_ends_between_rungs_fails(trained: Trained, attempt: Callable[..., None]) -> None:
    """As any run would; what it had seen was reported."""
    reported = Reported()
    with pytest.raises(BudgetSpent):
        attempt(reported, budget=Budget(max_steps=2))
    assert [step for step, _ in reported] == [1, 2] and trained.ends == [1, 2]


def test_what_a_search_varies_is_its_identity(home: Home) -> None:
    """Other ranges, other trials or another corpus are another search; the order in which ranges are named is not."""
    ranges = {"learning_rate": {"low": 1e-4, "high": 1e-2}, "weight_decay": {"values": [0.0, 0.1]}}
    settings = {"recipe": {"name": "r"}, "corpus": CORPUS, "trials": 3, "steps": 9, "metric": METRIC}
    spec = TuneSpec.model_validate({**settings, "search": ranges})
    changes = ({"trials": 4}, {"steps": 18}, {"metric": "valid/loss"}, {"search": {"weight_decay": {"values": [0, 1]}}})
    keys = {TuneSpec.model_validate({**settings, "search": ranges, **change}).key() for change in changes}
    assert len(keys | {spec.key()}) == len(changes) + 1
    turned = TuneSpec.model_validate({**settings, "search": dict(reversed(ranges.items()))})
    assert turned.key() == spec.key()
    assert TuneSpec.parse(spec.canonical(), "here") == spec


def test_wrong_words_are_answered_before_anything_starts(home: Home) -> None:
    """A figure that is never measured, and a recipe without anything to search."""
    with pytest.raises(UnknownName, match="Known: valid/loss"):
        tuned("gru_smoke", CORPUS, home.store, trials=1, metric="valid/pesq")
    document = home.path / "plain.json"
    home.path.mkdir()
    document.write_bytes(gru_smoke().canonical())
    with pytest.raises(BadSetting, match="--over"):
        tuned(str(document), CORPUS, home.store, trials=1)


def test_every_recipe_can_be_tried_at_the_ends_of_what_it_declares() -> None:
    """A range whose end is no recipe would fail trials at random."""
    for name in ("dm_smoke", "gru_smoke"):
        recipe = named_recipe(name)
        assert recipe.search
        for field, choice in recipe.search.items():
            for end in json.loads(choice.model_dump_json()).values():
                assert with_values(recipe, {field: end}) != recipe


def test_trials_are_compared_by_figures_that_a_look_has() -> None:
    """SI-SDR's gain where nobody says; the loss is the only one that is better when it is lower."""
    assert METRIC in METRICS
    assert [name for name, higher in METRICS.items() if not higher] == ["valid/loss"]
