"""What an objective wants beside each row: tensors that a network which does not learn makes of it, whole.

They are made of a whole row and cut with the piece that is learnt from, either each time that a piece is read, or once,
into a derived corpus (`training.derived`); both give the same numbers. An objective that wants some has a `Maker`. The
tensors come with a batch as `Batch.beside`, and network and objective find them in their attribute `beside`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from simulation import storage
from simulation.rows import Around
from training.derivation import Maker, Tensors
from training.derived import RECORD, Derived, derive
from training.pieces import Mixtures

Arrays: TypeAlias = dict[str, NDArray[Any]]
"""Tensors of a piece; those of half precision are made single."""


@dataclass(frozen=True)
class Whole:
    """A mixture, and what stands beside it."""

    clean: NDArray[np.floating]
    noisy: NDArray[np.floating]
    sample_rate: int
    beside: "Standing"


@dataclass(frozen=True)
class Accompanied(Around):
    """A corpus whose rows have tensors beside them; otherwise as the corpus."""

    corpus: Mixtures
    source: Maker | Derived
    """Whether tensors are made whenever a piece is read, or read too."""
    cut: Callable[[Tensors, int, int], Tensors]
    """The maker's."""
    grid: Callable[[Tensors], int] | None = None
    """The maker's, where it has one: at multiples of so many samples its tensors can be cut. None: anywhere."""

    def nearby(self, kept: int) -> "Accompanied":
        """The same rows for readers who ask for neighbours."""
        return Accompanied(self.corpus.nearby(kept), self.source, self.cut, self.grid)

    def row(self, number: int) -> tuple[str, Whole]:
        """Id and mixture of a row; `BadAudio` where it is in quarantine."""
        name, mixture = self.corpus.row(number)
        return name, Whole(mixture.clean, mixture.noisy, self.sample_rate, Standing(self, number, mixture))


@dataclass(frozen=True)
class Standing:
    """What stands beside one row; made or read when a piece of it is asked for."""

    corpus: Accompanied
    number: int
    mixture: Any

    @property
    def grid(self) -> int:
        """A piece begins at a multiple of so many samples."""
        return 1 if self.corpus.grid is None else self.corpus.grid(self.whole)

    def piece(self, start: int, samples: int) -> Arrays:
        """Of the piece from a sample on, so many samples long."""
        with torch.inference_mode():
            return {name: _array(each) for name, each in self.corpus.cut(self.whole, start, samples).items()}

    @cached_property
    def whole(self) -> Tensors:
        """Of the whole row."""
        source = self.corpus.source
        with torch.inference_mode():
            return source.row(self.number) if isinstance(source, Derived) else dict(source(self.mixture))


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    found: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return found


Say = Callable[[str], None]


def accompanied(
    corpora: Mapping[str, Any],
    maker: Maker | None,
    store: str,
    *,
    rank: int = 0,
    world: int = 1,
    barrier: Callable[[], None] = lambda: None,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """The corpora that training reads, with what its objective wants beside their rows; as they are without a maker.

    What is to be stored and is not there yet is computed now: of several workers each computes a share. `say` hears
    what it will take before it begins, and then how far it is.
    """
    if maker is None:
        return dict(corpora)
    found, grid = {}, getattr(maker, "grid", None)
    for split, corpus in corpora.items():
        if not maker.stored:
            found[split] = Accompanied(corpus, maker, maker.cut, grid)
            continue
        derivation = maker.derivation(corpus.digest)

        def told(done: int, total: int, split: str = split, kind: str = derivation.kind) -> None:
            say(f"{kind} of {split}: {done} of {total} shards")

        address = derivation.address(store)
        takes = "kept" if storage.exists(storage.join(address, RECORD)) else size(maker, corpus)
        say(f"{derivation.kind} of {split}: {takes}, at {address}")
        derive(corpus, derivation, store, maker, rank=rank, world=world, progress=told)
        if world > 1:
            barrier()
            if rank == 0:
                derive(corpus, derivation, store, maker, progress=told)
            barrier()
        found[split] = Accompanied(corpus, Derived.open(derivation, store), maker.cut, grid)
    return found


def size(maker: Maker, corpus: Mixtures) -> str:
    """What all rows of a corpus take, in words."""
    if corpus.lengths is None:
        return f"{maker.megabytes_per_hour():.0f} MB per hour of audio"
    hours = float(corpus.lengths.sum()) / corpus.sample_rate / 3600
    return f"about {maker.megabytes_per_hour() * hours:.0f} MB for {hours:.2f} h"
