"""Who reads a corpus ahead of the model: threads where reading is reading, processes where it is rendering.

A process gets the corpus once and keeps its own recordings in memory. It ends when its parent does, however that ends.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol

from simulation.errors import UnmuffleError
from training import child
from training.pieces import Item, Mixtures, Piece, pieces


class Read(Protocol):
    """Starts reading the pieces of these items."""

    def __call__(self, items: list[Item], samples: int) -> "Future[list[Piece]]":
        """The pieces will be in the order of the items, each of so many samples."""


@contextmanager
def readers(corpus: Mixtures, count: int, seed: int) -> Iterator[Read]:
    """`count` threads or processes that read pieces; none is left afterwards.

    Errors of a reader are raised where its answer is asked for; a process that was killed is an UnmuffleError.
    """
    with _pool(corpus, count) as pool:

        def read(items: list[Item], samples: int) -> "Future[list[Piece]]":
            if corpus.renders:
                return pool.submit(_pieces_here, items, seed, samples)
            return pool.submit(pieces, corpus, items, seed, samples)

        try:
            yield read
        except BrokenProcessPool:
            raise UnmuffleError(
                "A process that renders rows for training was killed, most likely for memory: each keeps up to 0.4 GB."
                " Give the run fewer CPUs a worker (UNMUFFLE_COMPUTE), or build the corpus without --virtual."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _pool(corpus: Mixtures, count: int) -> Executor:
    if not corpus.renders:
        return ThreadPoolExecutor(count, thread_name_prefix="batches")
    fresh = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of torch and Ray
    return ProcessPoolExecutor(count, fresh, initializer=_begin, initargs=(corpus,))


# ---- in a process of its own ----------------------------------------------------------------------------------------

_corpus: Mixtures


def _begin(corpus: Mixtures) -> None:
    """Keep the corpus."""
    global _corpus
    _corpus = corpus
    child.begin()


def _pieces_here(items: list[Item], seed: int, samples: int) -> list[Piece]:
    return pieces(_corpus, items, seed, samples)
