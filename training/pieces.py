"""Pieces of mixtures, in NumPy: which part of which row an item stands for. Read here or by another process.

A row in quarantine is stood in for by the next row that is not, counting round. So the order over rows is the same for
a rendered corpus, which knows its quarantine, and for a virtual one, which meets it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from simulation.errors import BadAudio, TooManyQuarantined
from simulation.rows import Rows


@runtime_checkable
class Mixtures(Rows, Protocol):
    """What is asked of a corpus: `Corpus` and `VirtualCorpus`, named by shape as the loop runs without their libraries.

    It must survive pickling where it `renders`.
    """

    def nearby(self, kept: int) -> "Mixtures":
        """The same rows for readers who ask for neighbours: the last `kept` stretches are kept in memory."""

    def row(self, number: int) -> tuple[str, Any]:
        """Id and `Mixture` of a row; `BadAudio` where it is in quarantine."""


@dataclass(frozen=True)
class Item:
    """One place in the order of a run."""

    index: int
    """Of the row in its corpus."""
    epoch: int


class Piece(NamedTuple):
    """What an item stands for: so many samples of one mixture."""

    id: str
    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    bad: dict[int, str]
    """Rows in quarantine that were met on the way, and why."""
    beside: Mapping[str, NDArray[Any]] = MappingProxyType({})
    """What stands beside this piece, by name, where the corpus has something: see `training.beside`."""


def pieces(corpus: Mixtures, items: list[Item], seed: int, samples: int) -> list[Piece]:
    """The piece of each item, `samples` long; zeros behind a mixture that is shorter."""
    return [_piece(corpus, item, seed, samples) for item in items]


def _piece(corpus: Mixtures, item: Item, seed: int, samples: int) -> Piece:
    name, mixture, bad = take(corpus, item.index)
    spare = max(0, len(mixture.noisy) - samples)
    start = int(np.random.default_rng((seed, item.epoch, item.index)).integers(spare, endpoint=True))
    start -= start % (mixture.beside.grid if hasattr(mixture, "beside") else 1)
    noisy, clean = (_filled(side[start : start + samples], samples) for side in (mixture.noisy, mixture.clean))
    return Piece(name, noisy, clean, bad, beside(mixture, start, samples))


def beside(mixture: Any, start: int, samples: int) -> dict[str, NDArray[Any]]:
    """What stands beside a piece of a mixture; nothing, for most corpora.

    A mixture may have an attribute `beside` with `piece(start, samples)`, named arrays or tensors on the CPU, and with
    `grid`: pieces begin at a multiple of so many samples.
    """
    if not hasattr(mixture, "beside"):
        return {}
    return {name: np.asarray(each) for name, each in mixture.beside.piece(start, samples).items()}


def _filled(part: NDArray[np.floating], samples: int) -> NDArray[np.float32]:
    return np.pad(part.astype(np.float32, copy=False), (0, samples - len(part)))


def take(corpus: Mixtures, number: int) -> tuple[str, Any, dict[int, str]]:
    """Id and mixture of a row, or of the next that is not in quarantine; and those that were."""
    bad: dict[int, str] = {}
    for each in chain(range(number, corpus.rows), range(number)):
        try:
            return *corpus.row(each), bad
        except BadAudio as error:
            bad[each] = str(error)
            refuse_too_many(corpus, bad)
    raise TooManyQuarantined("The corpus has no rows to learn from.")


def refuse_too_many(corpus: Mixtures, bad: dict[int, str]) -> None:
    """`TooManyQuarantined` where more rows were met in quarantine than may be there."""
    if len(bad) > corpus.most_quarantined:
        number, reason = max(bad.items())
        raise TooManyQuarantined(
            f"{len(bad)} of {corpus.rows} rows cannot be rendered, and at most {corpus.most_quarantined} may fail. Row"
            f" {number}: {reason.rstrip('.')}. Mend the sources they name."
        )
