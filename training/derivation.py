"""Which tensors of a corpus are meant, and who makes them: what objectives say of them, without reading or writing any.

`training.derived` keeps them, `training.beside` brings them to the batches.
"""

from typing import Any, Protocol, TypeAlias, runtime_checkable

from pydantic import Field, JsonValue
from torch import Tensor

from simulation import storage
from simulation.schema import Schema

Tensors: TypeAlias = dict[str, Tensor]
"""Of one row, by name."""


class Derivation(Schema):
    """Which tensors: equal derivations lie at one address, whoever computed them."""

    kind: str = Field(pattern=r"^[a-z_]+$")
    """What they are, such as `embeddings`."""
    corpus: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of the split whose rows they are of."""
    made_by: dict[str, JsonValue]
    """All that decides their values: digests of weights, which layers, which precision, a version of the code."""
    rows_per_shard: int = Field(default=16, gt=0)
    """A shard is put together in memory."""

    def address(self, store: str) -> str:
        """Where they lie."""
        return storage.join(storage.normal(store), "derived", f"{self.kind}-{self.digest()[:12]}")


@runtime_checkable
class Maker(Protocol):
    """Makes tensors of a row, and cuts them. Must survive pickling."""

    stored: bool
    """Whether they are made once, into the store."""

    def derivation(self, corpus: str) -> Derivation:
        """Which tensors those of the corpus with this digest are."""

    def __call__(self, mixture: Any) -> Tensors:
        """Those of a whole `Mixture`."""

    def cut(self, whole: Tensors, start: int, samples: int) -> Tensors:
        """Those of a piece: equal shapes for equal `samples`, zeros or repetitions beyond the end of the row."""

    def megabytes_per_hour(self) -> float:
        """What an hour of audio takes in the store, in 10^6 bytes."""
