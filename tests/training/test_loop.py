"""The loop: it resumes exactly, counts exactly, stops before harm, and does not care how many workers there are."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from simulation.errors import TrainingDiverged
from training.batches import Batches
from training.checkpoint import weights_digest
from training.loop import Run, Seat, train, validate
from training.models import Dm, GruMask
from training.objectives import Losses, Regression
from training.progress import Clock, Progress
from training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]

SMALL_DM = Dm.Config(channels=4, heads=2, blocks=1, dense_depth=1, kernel=3, hop_size=200, dropout=0.2)


def trained(recipe: Recipe, corpus: object, run: Run | None = None, save: Callable[[Run], None] | None = None) -> Run:
    """A run in this process, to its end."""
    run, batches = run or Run(recipe), Batches(corpus, recipe)  # type: ignore[arg-type]
    train(run, batches, list(batches.whole(2)), Seat(), save or (lambda run: None), lambda progress: None)
    return run


@pytest.mark.parametrize("model", [GruMask.Config(width=8, layers=1), SMALL_DM], ids=["gru_mask", "dm"])
def test_a_resumed_run_is_the_undisturbed_run(
    tones: object, small_recipe: MakeRecipe, model: object, tmp_path: Path
) -> None:
    """Weights, dropout, batch statistics, learning rate and history: bit for bit, through a file."""
    recipe = small_recipe(model=model, network="any")
    whole = trained(recipe, tones, save=lambda run: torch.save(run.state(), tmp_path / f"{run.step}.pt"))
    torch.manual_seed(99)
    resumed = Run(recipe)
    resumed.resume(torch.load(tmp_path / "5.pt", weights_only=True))
    assert resumed.step == 5
    trained(recipe, tones, resumed)
    assert weights_digest(resumed.learner) == weights_digest(whole.learner)
    assert resumed.history == whole.history


def test_looks_at_the_valid_split_change_no_weight(tones: object, small_recipe: MakeRecipe) -> None:
    """However often: also with dropout and batch statistics, the same weights and losses bit for bit."""
    runs = [trained(small_recipe(model=SMALL_DM, network="dm", validate_every=every), tones) for every in (2, 10)]
    often, once = runs
    assert weights_digest(often.learner) == weights_digest(once.learner)
    assert [sum("valid/loss" in row for row in run.history) for run in runs] == [5, 1]


def test_training_lowers_the_loss(tones: object, small_recipe: MakeRecipe) -> None:
    """The least that can be asked."""
    run = trained(small_recipe(steps=40, learning_rate=1e-2, log_every=5), tones)
    assert run.history[-1]["train/loss"] < 0.7 * run.history[0]["train/loss"]


def test_the_history_has_one_row_a_step(tones: object, small_recipe: MakeRecipe) -> None:
    """Rows at every log, validation and checkpoint step, in order; validation figures where it was due."""
    run = trained(small_recipe(), tones)
    assert [row["step"] for row in run.history] == [2, 4, 5, 6, 8, 10]
    assert [row["step"] for row in run.history if "valid/loss" in row] == [5, 10]
    assert {"learning_rate", "train/loss", "train/magnitude", "train/gradient_norm"} <= set(run.history[0])
    assert {"valid/si_sdr_db", "valid/si_sdr_gain_db"} <= set(run.history[-1])


def test_a_mask_that_learns_no_more_is_said_aloud(
    tones: object, small_recipe: MakeRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    """With slopes that put half of the mask at its ends and more, every row warns; with fresh ones, none does."""
    recipe = small_recipe(model=SMALL_DM, network="dm", steps=2, warmup_steps=0, log_every=2)
    trained(recipe, tones)
    assert "mask_saturation" not in caplog.text
    run = Run(recipe)
    with torch.no_grad():
        run.learner.model.mask.slope.fill_(1e4)  # type: ignore[union-attr]  # DM has one
    trained(recipe, tones, run)
    assert run.history[-1]["train/mask_saturation"] > 0.5
    assert "step 2: train/mask_saturation is" in caplog.text and "Lower learning_rate" in caplog.text


def test_the_history_means_are_over_items(tones: object, small_recipe: MakeRecipe) -> None:
    """The row after steps 1 and 2 holds the mean over their ten items at a learning rate of almost nothing."""
    recipe = small_recipe(learning_rate=1e-12)
    run, batches = Run(recipe), Batches(tones, recipe)  # type: ignore[arg-type]
    losses = [run.learner(*batches.load(step)[:2]).total for step in (0, 1)]
    assert trained(recipe, tones).history[0]["train/loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-4)


def test_the_learning_rate_rises_and_falls(tones: object, small_recipe: MakeRecipe) -> None:
    """Linear up to the recipe's, then half a cosine down to zero."""
    run = trained(small_recipe(steps=20, warmup_steps=5, log_every=1), tones)
    rates = [row["learning_rate"] for row in run.history]
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) == 4
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)


def test_a_bad_item_stops_training_before_it_spoils_the_weights(tones: object, small_recipe: MakeRecipe) -> None:
    """An item of step 2 holds a NaN: the message names step and items, and the weights are those of checkpoint 1."""
    recipe = small_recipe(checkpoint_every=1)
    batches = Batches(tones, recipe)  # type: ignore[arg-type]
    first, second = ({item.index for item in batches.indices(step)} for step in (0, 1))
    bad, read = min(second - first), tones.read  # type: ignore[attr-defined]

    def poisoned(index: int) -> SimpleNamespace:
        mixture = read(index)
        factor = float("nan") if index == bad else 1.0
        return SimpleNamespace(clean=mixture.clean, noisy=factor * mixture.noisy)

    tones.read = poisoned  # type: ignore[attr-defined]
    saved: list[str] = []
    run = Run(recipe)
    with pytest.raises(TrainingDiverged, match=r"step 2 .*train-0000000\d.*last checkpoint before it is kept"):
        train(run, batches, [], Seat(), lambda run: saved.append(weights_digest(run.learner)), lambda progress: None)
    assert saved == [weights_digest(run.learner)]


def test_figures_that_are_not_finite_are_no_figures(tones: object, small_recipe: MakeRecipe) -> None:
    """A network that overflows on whole mixtures is answered with the step and the figures, not recorded."""
    recipe = small_recipe()
    run, batches = Run(recipe), Batches(tones, recipe)  # type: ignore[arg-type]
    torch.nn.init.constant_(run.learner.model.encoder.weight, float("nan"))
    with pytest.raises(TrainingDiverged, match=r"valid split at step 0 .*valid/loss = nan"):
        validate(run, batches.whole(1), torch.device("cpu"))


def test_progress_says_how_long_it_will_take() -> None:
    """In words a person reads while waiting."""
    losses = {"judge": 0.125, "model": 0.25}
    line = Progress(30, 120, losses, items_per_s=41.26, input_wait_share=0.016, remaining_s=65.4).line()
    assert line == (
        "step 30 of 120, judge loss 0.1250, loss 0.2500, 41.3 items a second, 2% waiting for data, 1:05 left"
    )


def test_progress_is_of_this_process_and_says_what_waiting_cost(
    small_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps of a run taken up at step 6, each a second of waiting and three of work, by a clock of the test."""
    now = [0.0]
    monkeypatch.setattr("training.progress.time", SimpleNamespace(monotonic=lambda: now[0]))

    def slow() -> Iterator[str]:
        for _ in range(4):
            now[0] += 1.0
            yield "batch"

    clock, words = Clock(small_recipe(steps=20, batch_size=8), first_step=6), []
    for step, _ in enumerate(clock.waiting(slow()), 7):
        now[0] += 3.0
        words.append(clock.progress(step, {"model": Losses(torch.tensor([1.0, 2.0]), {})}))
    assert [(each.step, each.items_per_s, each.input_wait_share) for each in words] == [
        (step, 2.0, 0.25) for step in (7, 8, 9, 10)
    ]
    assert words[-1].remaining_s == 10 * 4.0
    assert words[-1].losses == {"model": 1.5}


def test_a_word_is_due_at_once_then_now_and_then_and_at_the_end(
    small_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each word makes the device finish what it was told to do, so there are two a second, however fast the steps."""
    now = [0.0]
    monkeypatch.setattr("training.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    clock, due = Clock(small_recipe(steps=10), first_step=0), []
    for step in range(1, 11):
        now[0] += 0.125
        due += [step] if clock.due(step) else []
    assert due == [1, 5, 9, 10]


def test_the_loop_needs_neither_ray_nor_mlflow_nor_kfp() -> None:
    """Models, objectives, spectra and the loop run where the platform is absent."""
    code = (
        "import sys; import training.loop, training.models, training.objectives, training.spectral; "
        "assert not {'ray', 'mlflow', 'kfp', 'soundfile'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_objectives_without_weights_still_train(tones: object, small_recipe: MakeRecipe) -> None:
    """One term alone is an objective."""
    weights = {"magnitude": 0.0, "complex": 0.0, "time": 0.0, "branch": 0.0, "si_sdr": 1.0}
    recipe = small_recipe(objective=Regression.Config.model_validate(weights), steps=4, warmup_steps=0)
    assert trained(recipe, tones).step == 4
