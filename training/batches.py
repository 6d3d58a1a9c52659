"""Corpus to batches: which piece of which mixture a step learns from is a pure function of (seed, epoch, index).

Position p of the run is position p mod rows of epoch p div rows, and each epoch has an order of its own. So a run can
go on at any step, on any number of workers, and still meets every mixture once an epoch.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from simulation.errors import BadSetting, CorpusIncomplete, SampleRateMismatch
from training.recipe import Recipe

AHEAD = 4
"""Batches that are being read while the model works."""
READERS = 2
"""Threads that read them."""


@runtime_checkable
class Mixtures(Protocol):
    """What is asked of a corpus: `simulation.corpus.Corpus`, named by shape as the loop runs without its libraries."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def entries(self) -> Sequence[Any]:
        """A `simulation.manifest.Entry` for each mixture."""

    def read(self, i: int) -> Any:
        """The `Mixture` (clean, noisy) of `entries[i]`."""


@dataclass(frozen=True)
class Item:
    """A piece of a mixture."""

    index: int
    """Of the mixture in its corpus."""
    start: int
    """First sample of the piece."""


class Batch(NamedTuple):
    """What one worker learns from in one step."""

    noisy: Float[Tensor, "batch samples"]
    clean: Float[Tensor, "batch samples"]
    ids: tuple[str, ...]


class Batches:
    """The batches of a recipe over a corpus."""

    def __init__(self, corpus: Mixtures, recipe: Recipe) -> None:
        if corpus.sample_rate != recipe.model.sample_rate:
            raise SampleRateMismatch(
                f"The corpus has {corpus.sample_rate} Hz, recipe {recipe.name} needs {recipe.model.sample_rate} Hz. "
                "Name a corpus of that rate, or a recipe for this one."
            )
        if not corpus.entries:
            raise CorpusIncomplete("The corpus has no mixtures to learn from; simulate more hours.")
        self.corpus, self.recipe = corpus, recipe

    def indices(self, step: int) -> list[Item]:
        """The items of a step over all workers together, `batch_size` of them."""
        first = step * self.recipe.batch_size
        return [self._item(first + place) for place in range(self.recipe.batch_size)]

    def load(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """This worker's share of a step: a slice of its items, as even as can be."""
        items = share(self.indices(step), rank, world)
        pairs = [self._piece(item) for item in items]
        ids = tuple(self.corpus.entries[item.index].row.id for item in items)
        noisy, clean = (torch.from_numpy(np.stack(each)) for each in zip(*pairs, strict=True))
        return Batch(noisy, clean, ids)

    def whole(self, items: int) -> Iterator[Batch]:
        """The first mixtures whole, one a batch: what validation listens to."""
        for index, entry in enumerate(self.corpus.entries[:items]):
            mixture = self.corpus.read(index)
            noisy, clean = (torch.from_numpy(np.float32(each[np.newaxis])) for each in (mixture.noisy, mixture.clean))
            yield Batch(noisy, clean, (entry.row.id,))

    def stream(self, first_step: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The shares of all steps from `first_step` on, read ahead so that the model need not wait."""
        steps = range(first_step, self.recipe.steps)
        with ThreadPoolExecutor(READERS, thread_name_prefix="batches") as readers:
            reading = deque(readers.submit(self.load, step, rank, world) for step in steps[:AHEAD])
            for step in steps:
                batch = reading.popleft().result()
                if step + AHEAD in steps:
                    reading.append(readers.submit(self.load, step + AHEAD, rank, world))
                yield batch

    def _item(self, position: int) -> Item:
        rows = len(self.corpus.entries)
        epoch, place = divmod(position, rows)
        index = int(_order(self.recipe.seed, epoch, rows)[place])
        spare = max(0, self.corpus.entries[index].measured.samples - self.recipe.segment_samples)
        start = np.random.default_rng((self.recipe.seed, epoch, index)).integers(spare, endpoint=True)
        return Item(index, int(start))

    def _piece(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        mixture = self.corpus.read(item.index)
        end = item.start + self.recipe.segment_samples
        return self._filled(mixture.noisy[item.start : end]), self._filled(mixture.clean[item.start : end])

    def _filled(self, samples: np.ndarray) -> np.ndarray:
        return np.pad(samples.astype(np.float32, copy=False), (0, self.recipe.segment_samples - len(samples)))


def share(items: list[Item], rank: int, world: int) -> list[Item]:
    """The slice of a step that worker `rank` of `world` takes; sizes differ by one at most."""
    if world > len(items):
        raise BadSetting(f"{world} workers cannot share a batch of {len(items)}; use at most {len(items)} workers.")
    return items[rank * len(items) // world : (rank + 1) * len(items) // world]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, rows: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(rows)
