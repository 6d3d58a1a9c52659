"""What precomputed embeddings save: `make bench-embeddings`.

A step of BSP-MPNet around a frozen WavLM of base size (random weights, which cost what released ones do), with
embeddings of whole rows computed as they are read, and with those from the store; on one thread, in processor time,
the two taking turns, so that other work on the machine does not count. Once for a narrow network around the SSL model,
whose step is little more than its embeddings, once for the reconstructed size. Rows are noise of 2 to 8 s, as long as
recordings of read speech; pieces are of 2 s. Also: seconds and bytes to fill the store, for an hour of audio.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from training.batches import Batches
from training.beside import Accompanied, accompanied
from training.cookbook_bsp_mpnet import NARROW, bsp_mpnet
from training.derived import Derived
from training.loop import Seat
from training.models.bsp_mpnet.ssl import Ssl
from training.objectives import Contrast
from training.recipe import Recipe
from training.run import Run, maker_of
from training.steps import Steps

ROWS = 8
TURNS = 3
STEPS = 1
"""Of a turn; the first turn warms up."""


class Noise:
    """Rows of noise of differing length, as a corpus in memory."""

    sample_rate, renders, most_quarantined, stretch, digest = 16000, False, 0, 1, "0" * 64

    rows = ROWS
    lengths = np.linspace(2, 8, ROWS).astype(int) * 16000

    def nearby(self, kept: int) -> "Noise":
        """All are in memory."""
        return self

    def row(self, number: int) -> tuple[str, Any]:
        """A function of the number alone."""
        sound = 0.1 * np.random.default_rng(number).standard_normal((2, self.lengths[number])).astype(np.float32)
        return f"train-{number:08d}", Mixture(sound[0], sound.sum(0))


class Mixture(NamedTuple):
    """As a corpus gives them."""

    clean: np.ndarray
    noisy: np.ndarray


def main() -> int:
    """Print the table; 1 where stored embeddings save less than the factor asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(recipes())}; all without one")
    parser.add_argument("--turns", type=int, default=TURNS, help="that count, behind the one that warms up")
    parser.add_argument("--least", type=float, default=3.0, help="the factor asked for, of the narrow network")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    arguments = parser.parse_args()
    if unknown := set(arguments.networks) - set(recipes()):
        parser.error(f"found {', '.join(sorted(unknown))}; expected some of {', '.join(recipes())}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder).as_uri()
        filling = filled(recipes()["narrow"], store)
        found = {name: measured(recipes()[name], store, arguments.turns) for name in arguments.networks or recipes()}
    print(f"\nTo store an hour of audio: {filling['core_s']:.0f} core-seconds, {filling['mb']:.0f} MB.\n")
    print("| network around WavLM base | each time, core-s a step | stored, core-s a step | faster |")
    print("| --- | --: | --: | --: |")
    for name, one in found.items():
        print(f"| {name} | {one['whole']:.2f} | {one['stored']:.2f} | {one['whole'] / one['stored']:.1f}x |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"filling": filling, **found}, indent=1))
    narrow = found.get("narrow", {"whole": 1.0, "stored": 0.0})
    return 0 if narrow["whole"] >= arguments.least * narrow["stored"] else 1


def recipes() -> dict[str, Recipe]:
    """By name, each with embeddings of whole rows."""
    changes = {"narrow": NARROW, "full size": {}}
    return {
        name: bsp_mpnet("bench", None, **change, ssl=Ssl(), fine_tuning="frozen").model_copy(
            update={"batch_size": 4, "objective": Contrast.Config(embeddings="whole")}
        )
        for name, change in changes.items()
    }


def reading(recipe: Recipe, embeddings: str, store: str) -> Accompanied:
    """The rows with their embeddings, as training reads them."""
    changed = recipe.model_copy(update={"objective": Contrast.Config.model_validate({"embeddings": embeddings})})
    found = accompanied({"train": Noise()}, maker_of(changed), store)["train"]
    assert isinstance(found, Accompanied)
    return found


def filled(recipe: Recipe, store: str) -> dict[str, float]:
    """Core-seconds and 10^6 bytes that the store takes for an hour of audio."""
    before = time.process_time()
    source = reading(recipe, "stored", store).source
    assert isinstance(source, Derived)
    hours = float(Noise.lengths.sum()) / 16000 / 3600
    return {"core_s": (time.process_time() - before) / hours, "mb": source.bytes / 1e6 / hours}


def measured(recipe: Recipe, store: str, turns: int) -> dict[str, float]:
    """Core-seconds of a step with either."""
    runs = {name: (Steps(Run(recipe), Seat()), reading(recipe, name, store)) for name in ("whole", "stored")}
    took: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(1 + turns):
        for name, (steps, corpus) in runs.items():
            took[name].append(turned(steps, corpus, recipe, turn))
            print(f"{recipe.model.width} {name}: {took[name][-1]:.2f} core-s a step", file=sys.stderr, flush=True)
    return {name: median(each[1:]) for name, each in took.items()}


def turned(steps: Steps, corpus: Accompanied, recipe: Recipe, turn: int) -> float:
    """Core-seconds of a step, reading its batch included: readers' threads count as the loop does."""
    batches, before = Batches(corpus, recipe), time.process_time()
    for step in range(turn * STEPS, (turn + 1) * STEPS):
        steps.take(batches.load(step))
    return (time.process_time() - before) / STEPS


if __name__ == "__main__":
    sys.exit(main())
