"""Corpus to batches: which piece of which mixture a step learns from is a pure function of (seed, epoch, index).

Position p of the run is position p mod rows of epoch p div rows, and each epoch has an order of its own. So a run can
go on at any step, on any number of workers, and still meets every mixture once an epoch. A corpus whose rows are
rendered while training gives the same batches, bit for bit, as the one that holds them.
"""

import logging
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from simulation.errors import BadAudio, BadSetting, CorpusIncomplete, SampleRateMismatch
from training.order import WINDOW, Order, bucketed, kept, order
from training.pieces import Item, Mixtures, Piece, beside, pieces, refuse_too_many
from training.readers import readers
from training.recipe import Recipe

log = logging.getLogger(__name__)

READERS = 2
"""Threads or processes that read, unless told otherwise."""
AHEAD = 2
"""Batches a reader that are being read, or wait, while the model works."""


class Batch(NamedTuple):
    """What one worker learns from in one step."""

    noisy: Float[Tensor, "batch samples"]
    clean: Float[Tensor, "batch samples"]
    ids: tuple[str, ...]
    beside: Mapping[str, Tensor] = MappingProxyType({})
    """What stands beside the waveforms, [batch, ...] by name: see `training.beside`."""

    def pinned(self) -> "Batch":
        """In memory that a GPU fetches from while it computes; as it is where there is no GPU."""
        if not torch.cuda.is_available():
            return self
        beside = {name: tensor.pin_memory() for name, tensor in self.beside.items()}
        return Batch(self.noisy.pin_memory(), self.clean.pin_memory(), self.ids, beside)


class Batches:
    """The batches of a recipe over a corpus, read by `workers` readers; their number changes nothing else."""

    def __init__(self, corpus: Mixtures, recipe: Recipe, workers: int = READERS) -> None:
        if corpus.sample_rate != recipe.model.sample_rate:
            raise SampleRateMismatch(
                f"The corpus has {corpus.sample_rate} Hz, recipe {recipe.name} needs {recipe.model.sample_rate} Hz. "
                "Name a corpus of that rate, or a recipe for this one."
            )
        if not corpus.rows:
            raise CorpusIncomplete("The corpus has no mixtures to learn from; simulate more hours.")
        self.corpus, self.recipe, self.workers = corpus, recipe, workers
        self.lengths = self._lengths() if recipe.bucketing else None
        self._order = lru_cache(maxsize=4)(self._epoch)
        self.bad: dict[int, str] = {}
        """Rows met in quarantine so far, and why."""

    def indices(self, step: int) -> list[Item]:
        """The items of a step over all workers together, `batch_size` of them; neighbours go to the same worker."""
        first = step * self.recipe.batch_size
        items = [self._item(first + place) for place in range(self.recipe.batch_size)]
        return items if self.corpus.rows <= WINDOW else sorted(items, key=lambda item: (item.epoch, item.index))

    def samples(self, step: int) -> int:
        """How long the pieces of a step are: a segment, or as long as the shortest of its mixtures."""
        if self.lengths is None:
            assert self.recipe.segment_samples is not None  # the recipe sees to that
            return self.recipe.segment_samples
        shortest = min(int(self.lengths[item.index]) for item in self.indices(step))
        return min(shortest, self.recipe.segment_samples or shortest)

    def load(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """This worker's share of a step: a slice of its items, as even as can be."""
        items = share(self.indices(step), rank, world)
        return self.batch(pieces(self.corpus, items, self.recipe.seed, self.samples(step)))

    def stream(self, first_step: int, rank: int = 0, world: int = 1) -> Generator[Batch]:
        """The shares of all steps from `first_step` on, read ahead so that the model need not wait.

        To be closed (`contextlib.closing`) where it is not read to its end: the readers end with it.
        """
        steps = iter(range(first_step, self.recipe.steps))
        corpus = self.corpus.nearby(kept(self.corpus.stretch, self.recipe.bucketing))
        with readers(corpus, self.workers, self.recipe.seed) as read:

            def begun(count: int) -> list[Future[list[Piece]]]:
                return [
                    read(share(self.indices(step), rank, world), self.samples(step)) for step in islice(steps, count)
                ]

            reading = deque(begun(AHEAD * self.workers))
            while reading:
                found = reading.popleft().result()
                reading.extend(begun(1))
                yield self.batch(found).pinned()

    def whole(self, items: int) -> Iterator[Batch]:
        """The first mixtures whole, one a batch: what validation listens to. Those in quarantine are passed over."""
        for number in range(self.corpus.rows):
            if items == 0:
                return
            try:
                name, mixture = self.corpus.row(number)
            except BadAudio as error:
                self._set_aside({number: str(error)})
                continue
            items -= 1
            noisy, clean = (np.asarray(side, np.float32) for side in (mixture.noisy, mixture.clean))
            yield self.batch([Piece(name, noisy, clean, {}, beside(mixture, 0, len(noisy)))])

    def batch(self, found: list[Piece]) -> Batch:
        """Pieces of equal length as tensors."""
        for piece in found:
            self._set_aside(piece.bad)
        noisy, clean = (
            torch.from_numpy(np.stack([getattr(one, side) for one in found])) for side in ("noisy", "clean")
        )
        told = {name: torch.from_numpy(np.stack([piece.beside[name] for piece in found])) for name in found[0].beside}
        return Batch(noisy, clean, tuple(piece.id for piece in found), told)

    def _set_aside(self, bad: dict[int, str]) -> None:
        """Count rows in quarantine, each once; say so of those that only rendering could find."""
        for number, reason in bad.items():
            if number not in self.bad and self.corpus.renders:
                log.warning("Row %d is set aside, and the next stands in for it: %s", number, reason)
        self.bad |= bad
        refuse_too_many(self.corpus, self.bad)

    def _lengths(self) -> NDArray[np.int64]:
        """Of the mixtures, a segment at most: beyond that, all are alike."""
        if (lengths := self.corpus.lengths) is None:
            raise BadSetting(
                f"Recipe {self.recipe.name} asks for bucketing, and how long the mixtures of a virtual corpus are, only"
                " rendering tells. Build the corpus without --virtual, or set segment_s, and bucketing to false."
            )
        return np.minimum(lengths, self.recipe.segment_samples or lengths.max())

    def _item(self, position: int) -> Item:
        epoch, place = divmod(position, self.corpus.rows)
        return Item(int(self._order(epoch)[place]), epoch)

    def _epoch(self, epoch: int) -> Order:
        rows, recipe = self.corpus.rows, self.recipe
        found = order(recipe.seed, epoch, rows, self.corpus.stretch)
        if self.lengths is None:
            return found
        return bucketed(found, self.lengths, recipe.seed, epoch, epoch * rows, recipe.batch_size)


def share(items: list[Item], rank: int, world: int) -> list[Item]:
    """The slice of a step that worker `rank` of `world` takes; sizes differ by one at most."""
    if world > len(items):
        raise BadSetting(f"{world} workers cannot share a batch of {len(items)}; use at most {len(items)} workers.")
    return items[rank * len(items) // world : (rank + 1) * len(items) // world]
