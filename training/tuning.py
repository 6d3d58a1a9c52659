"""A search, on Ray Tune: trials drawn from ranges at random, most of them stopped early by ASHA.

Ray Tune draws, schedules and stops; a trial is whatever `Try` does. Nothing of Ray Tune's own state is kept: values are
drawn from a seed and a trial's number, and what a trial has left behind answers when it is tried again, so the same
search goes on where it stopped, and a longer one begins with the trials of the shorter.

A trial that starts Ray Train claims a byte of memory and no CPU (Ray Tune refuses a claim of nothing): its training
workers claim what they use, in a placement group of their own, and would wait for ever for the CPUs that their own
trial held.

Ray Tune stops a trial by ending its process. Ray Train's controller would die with it, and its placement group would
keep its CPUs as long as the search's job lives: Ray Train's cleaner of such groups asks Ray's dashboard, which we run
without. So a trial trains from rung to rung, and reports a rung's look when its training workers have left.

Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, arXiv:1810.05934 (ASHA).
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from ray import cloudpickle, tune
from ray.exceptions import RayTaskError
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator

from simulation.errors import Superseded, UnmuffleError
from simulation.schema import OneOf, Range, Scalar
from training.recipe import Recipe
from training.search import SURVIVORS, Ranges, for_trial, is_logarithmic, is_whole, with_values

Figures = dict[str, float]
Report = Callable[[int, Figures], None]
"""Takes a step and the figures on the valid split after it."""
Try = Callable[[int, Recipe, Report], None]
"""Trains the recipe of the trial of this number, and reports every look at the valid split, in order.

A report of one of the `rungs` may end the process: nothing that must be ended properly may run meanwhile.
"""

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output announces an experiment even where it is told to be silent
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
}


@dataclass(frozen=True)
class Trial:
    """What became of one."""

    number: int
    values: dict[str, Scalar]
    state: Literal["finished", "stopped", "failed"]
    """Stopped: by ASHA, because others were better after as many steps."""
    step: int
    """How far it came."""
    figures: Figures
    """Of its last look at the valid split; empty where it failed before the first."""
    reason: str = ""
    """Why it failed."""


@runtime_checkable
class Follower(Protocol):
    """Hears of trials as they go."""

    def began(self, number: int, recipe: Recipe) -> None:
        """A trial starts, with this recipe."""

    def looked(self, number: int, step: int, figures: Figures) -> None:
        """A trial reported."""

    def ended(self, trial: Trial) -> None:
        """A trial is over."""


def search(
    recipe: Recipe,
    ranges: Ranges,
    attempt: Try,
    follower: Follower,
    *,
    trials: int,
    steps: int,
    metric: str,
    higher_is_better: bool = True,
    at_once: int = 1,
) -> list[Trial]:
    """Try recipes with values from the ranges, each up to `steps`; all trials, best first. Needs an initialised Ray.

    Trials are compared by a figure on the valid split. The recipe's seed decides what is drawn, and is every trial's
    own seed too. Superseded from a trial is raised; any other error of a trial fails that trial alone, unless all do.
    """
    mode = "max" if higher_is_better else "min"
    every = for_trial(recipe, steps).validate_every
    relay = _Relay(follower, recipe, steps)
    with _quietly(), tempfile.TemporaryDirectory(prefix="tune-") as scratch:
        grid = tune.Tuner(
            tune.with_resources(tune.with_parameters(_run, recipe=recipe, steps=steps, attempt=attempt), {"memory": 1}),
            param_space={
                "number": tune.grid_search(list(range(trials))),  # each draws its values anew
                "values": {name: _domain(recipe, name, choice) for name, choice in ranges.items()},
            },
            tune_config=tune.TuneConfig(
                metric=metric,
                mode=mode,
                search_alg=BasicVariantGenerator(max_concurrent=at_once, random_state=recipe.seed),
                scheduler=ASHAScheduler(time_attr="step", max_t=steps, grace_period=every, reduction_factor=SURVIVORS),
            ),
            run_config=tune.RunConfig(name="search", storage_path=scratch, verbose=0, callbacks=[relay]),
        ).fit()
        ended = [_trial(result.config, result.metrics or {}, result.error, steps) for result in grid]
    for error in (result.error for result in grid):
        if isinstance(_cause(error), Superseded):
            raise _cause(error)
    if all(trial.state == "failed" for trial in ended):
        raise UnmuffleError(f"Every trial of the search failed; the first one so: {ended[0].reason}")
    return sorted(ended, key=lambda trial: _rank(trial, metric, higher_is_better))


def _run(config: dict[str, Any], recipe: Recipe, steps: int, attempt: Try) -> None:
    """One trial, in a process of its own."""

    def report(step: int, figures: Figures) -> None:
        tune.report({"step": step, **figures})

    attempt(config["number"], for_trial(with_values(recipe, config["values"]), steps), report)


def _domain(recipe: Recipe, name: str, choice: Range | OneOf) -> Any:
    if isinstance(choice, OneOf):
        return tune.choice(list(choice.values))
    low, high = choice.low, choice.high
    if is_whole(recipe, name):
        return (tune.lograndint if is_logarithmic(choice) else tune.randint)(int(-(-low // 1)), int(high) + 1)
    return (tune.loguniform if is_logarithmic(choice) else tune.uniform)(low, high)


class _Relay(tune.Callback):
    """Ray Tune's callbacks, in the driver, as a follower understands them."""

    def __init__(self, follower: Follower, recipe: Recipe, steps: int) -> None:
        self.follower, self.recipe, self.steps = follower, recipe, steps

    def __reduce__(self) -> tuple[Any, ...]:
        """Ray Tune pickles all that it is given, to restore what we never restore; a follower may hold connections."""
        return tune.Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        proposal = with_values(self.recipe, trial.config["values"])
        self.follower.began(trial.config["number"], for_trial(proposal, self.steps))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "step" in result:
            self.follower.looked(trial.config["number"], result["step"], _figures(result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.follower.ended(_trial(trial.config, trial.last_result, None, self.steps))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.follower.ended(_trial(trial.config, trial.last_result, _error(trial), self.steps))


def _trial(config: Mapping[str, Any], last: Mapping[str, Any], error: Any, steps: int) -> Trial:
    step = int(last.get("step", 0))
    state: Literal["finished", "stopped", "failed"] = "failed" if error else "finished" if step >= steps else "stopped"
    return Trial(config["number"], dict(config["values"]), state, step, _figures(last), str(_cause(error) or ""))


def _error(trial: Any) -> Exception:
    """What a trial that failed met; Ray Tune has it in a local file before it is in its storage."""
    file = trial.pickled_error_file
    found: Exception = cloudpickle.loads(Path(file).read_bytes()) if file else UnmuffleError("its process was lost")
    return found


def _figures(result: Mapping[str, Any]) -> Figures:
    return {name: float(value) for name, value in result.items() if name.startswith("valid/")}


def _cause(error: Any) -> Any:
    """What a trial met, out of Ray's wrapping."""
    return error.cause if isinstance(error, RayTaskError) else error


def _rank(trial: Trial, metric: str, higher_is_better: bool) -> tuple[bool, float]:
    value = trial.figures.get(metric, float("nan"))
    return (trial.state == "failed" or value != value, -value if higher_is_better else value)


@contextmanager
def _quietly() -> Iterator[None]:
    """Ray Tune without tables, files, advice, and a handler of Ctrl-C."""
    before = {name: os.environ.get(name) for name in QUIET}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(QUIET)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
