"""What every corpus says of its rows, and a corpus around another one, which says the same."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Rows(Protocol):
    """Of a corpus, rendered or virtual: what is known before a row is read."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def rows(self) -> int:
        """Rows drawn, those in quarantine among them."""

    @property
    def most_quarantined(self) -> int:
        """How many rows may be in quarantine."""

    @property
    def stretch(self) -> int:
        """Rows that lie together, and are best read together."""

    @property
    def renders(self) -> bool:
        """Whether a row is rendered when it is read: worth a process of its own."""

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """Samples of each row, or of the one that stands in for it; None where only rendering could tell."""


class Around:
    """Stands around a corpus, and says of its rows what that says."""

    corpus: Rows

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.corpus.sample_rate

    @property
    def rows(self) -> int:
        """Rows drawn."""
        return self.corpus.rows

    @property
    def most_quarantined(self) -> int:
        """How many of them may be in quarantine."""
        return self.corpus.most_quarantined

    @property
    def stretch(self) -> int:
        """Rows that lie together."""
        return self.corpus.stretch

    @property
    def renders(self) -> bool:
        """Whether a row is rendered when it is read."""
        return self.corpus.renders

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """Samples of each row; None where only rendering could tell."""
        return self.corpus.lengths
