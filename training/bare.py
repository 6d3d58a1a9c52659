"""Training on one device without Ray, MLflow or kfp: `python -m training.bare RECIPE --corpus ADDRESS --out FOLDER`.

The same loop on the same batches, so the weights are those of `unmuffle train` with one worker. A machine needs
PyTorch, numpy, scipy, pydantic, safetensors, jaxtyping, soundfile, soxr and boto3, and a copy of `simulation/` and
`training/`; a virtual corpus also needs what renders it (pyroomacoustics, audiomentations), and an objective with
metrics as targets needs these. FOLDER gets `training.pt`, from which the same command goes on, and at the end
`version/`, which every command takes as a model. Nothing is kept for `keep_best` here; a recipe that would release the
best step is refused.
"""

import argparse
import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from simulation.errors import BadSetting, UnmuffleError
from simulation.storage import exists, join, normal, read, replace
from simulation.virtual import open_corpora
from training import cookbook
from training.batches import READERS, Batches
from training.beside import accompanied
from training.checkpoint import refuse_other_content, save_version, state_from_bytes
from training.loop import Progress, Run, Seat, train
from training.recipe import Recipe
from training.run import maker_of

STATE, VERSION = "training.pt", "version"


class Stop:
    """Whether somebody asked this process to stop: between two steps it saves, then."""

    asked = False

    def __call__(self, run: Run) -> bool:
        """After each step."""
        return self.asked

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within, Ctrl-C and SIGTERM ask."""
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True


def fit(recipe: Recipe, corpus: str, out: str, device: torch.device, threads: int = READERS) -> Run:
    """Train on the corpus below a root, or go on with what `out` holds; leaves `out/version` after the last step.

    Raises CheckpointIncompatible where `out` holds another recipe's run, or one on another corpus; BadSetting for a
    recipe that wants more than this.
    """
    if recipe.keep_best is not None and recipe.keep_best.release:
        raise BadSetting(
            f"Recipe {recipe.name} releases its best step (keep_best), and the bare loop keeps the last one. Set "
            "release to false there, or train with `unmuffle train`."
        )
    corpora, out = open_corpora(corpus), normal(out)
    learnt = {split: corpora[split] for split in ("train", "valid")}
    learnt = accompanied(learnt, maker_of(recipe, device), out, say=print)
    digests = {split: corpora[split].digest for split in ("train", "valid")}
    identity = {"recipe": recipe.model_dump(mode="json"), "corpus_digests": digests}
    run, stop = resumed(recipe, out, identity, device), Stop()

    def save(run: Run) -> None:
        data = io.BytesIO()
        torch.save({"identity": identity, "run": run.state()}, data)
        replace(join(out, STATE), data.getvalue())

    valid = list(Batches(learnt["valid"], recipe).whole(recipe.validation_items))
    with stop.heard():
        train(run, Batches(learnt["train"], recipe, threads), valid, Seat(device=device), save, tell, stop=stop)
    if run.step == recipe.steps:
        facts = identity | {"seed": recipe.seed, "steps": run.step, "history": run.history}
        save_version(run.released, join(out, VERSION), facts)
    return run


def resumed(recipe: Recipe, out: str, identity: dict[str, Any], device: torch.device) -> Run:
    """The run that `out` holds, or a new one."""
    run, address = Run(recipe, device), join(out, STATE)
    if exists(address):
        state = state_from_bytes(read(address), address)
        theirs = state["identity"]
        begun = Recipe.parse(theirs["recipe"], address).model_dump(mode="json")  # fields that came later have defaults
        refuse_other_content(address, {**theirs, "recipe": begun}, identity)
        run.resume(state["run"])
    return run


def tell(progress: Progress) -> None:
    """A line that the next one writes over, where a person looks on."""
    print(progress.line(), end="\r" if sys.stdout.isatty() else "\n", flush=True)


def device_named(name: str) -> torch.device:
    """The device of this name; BadSetting where torch cannot calculate on it."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # an assertion: torch was built without it
        reason = str(error).splitlines()[0][:80].rstrip(".")
        raise BadSetting(f"There is no device named {name!r} here ({reason}). Expected cpu, cuda or cuda:1.") from None
    return device


def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 0 when the run is complete, 1 when it was stopped, 2 with a paragraph on what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m training.bare", description="Train on one device, without Ray.")
    parser.add_argument("recipe", help="a name of the cookbook, or a JSON file with a recipe")
    parser.add_argument("--corpus", required=True, help="address of the corpus")
    parser.add_argument("--out", required=True, help="folder for training.pt and the version")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--readers", type=int, default=READERS, help="threads or processes that read")
    given = parser.parse_args(arguments)
    try:
        if given.readers < 1:
            raise BadSetting(f"--readers is {given.readers}; at least one has to read.")
        device, file = device_named(given.device), Path(given.recipe)
        recipe = Recipe.parse(file.read_bytes(), given.recipe) if file.is_file() else cookbook.recipe(given.recipe)
        run = fit(recipe, given.corpus, given.out, device, given.readers)
    except UnmuffleError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if run.step < recipe.steps:
        print(f"\nStopped at step {run.step} of {recipe.steps}; the same command goes on.")
        return 1
    print(f"\nVersion: {join(normal(given.out), VERSION)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
