"""The ledger: how often each gate corpus was looked at, one small object in the store for each look.

A gate corpus that decides again and again is slowly learnt by whoever reads its verdicts. Each look at candidates that
are no better lets one through with probability alpha / 2 (the upper half of a two-sided alpha), so after k looks
k · alpha / 2 false champions are expected; where recipes are chosen by what passed before, the bias grows up to the
square root of k instead of its logarithm. The policy's `most_looks` says when to draw a fresh corpus: 20 looks at
alpha 0.05 are half a false champion. In practice such overfitting is mild (Roelofs et al., "A meta-analysis of
overfitting in machine learning", NeurIPS 2019), so this warns and does not block.

Source: Dwork et al., "The reusable holdout: preserving validity in adaptive data analysis", Science 349, 2015.
"""

import time

from simulation import storage
from simulation.schema import Schema


class Look(Schema):
    """Somebody saw how versions do on a gate corpus."""

    corpus: str
    """Its digest."""
    what: str
    """Key of the stage that looked; an attempt that is repeated is no second look."""
    time_s: float
    """Since the epoch."""


def record(store: str, corpus: str, what: str) -> int:
    """Write down a look at the corpus of this digest; returns how many there are now. Repeating one adds none."""
    look = Look(corpus=corpus, what=what, time_s=round(time.time(), 3))
    storage.create(storage.join(_folder(store, corpus), f"{what}.json"), look.canonical())
    return looks(store, corpus)


def looks(store: str, corpus: str) -> int:
    """How often the corpus of this digest was looked at."""
    return len(storage.listing(_folder(store, corpus)))


def worn_out(looks: int, alpha: float, most_looks: int) -> tuple[str, ...]:
    """A warning where the gate corpus was looked at too often, else none."""
    if looks < most_looks:
        return ()
    return (
        f"the gate corpus was looked at {looks} times: {looks * alpha / 2:.2g} versions that are no better are "
        "expected to have passed by chance. Simulate a fresh one with another seed and name it with --gate-corpus.",
    )


def _folder(store: str, corpus: str) -> str:
    return storage.join(store, "ledger", corpus)
