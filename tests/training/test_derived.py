"""Derived corpora: tensors of every row, computed once, committed shard by shard, read by row."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from simulation import storage
from simulation.errors import BadAudio, CorpusDamaged, CorpusIncomplete, NotReproducible
from training.derivation import Derivation, Tensors
from training.derived import Derived, derive

ROWS = 7
DERIVATION = Derivation(kind="sums", corpus="0" * 64, made_by={"version": 1}, rows_per_shard=3)


class Made:
    """What is made of a mixture, counted; may be killed after so many rows."""

    def __init__(self, factor: float = 1.0, most: int = 100) -> None:
        self.factor, self.most, self.calls = factor, most, 0

    def __call__(self, mixture: SimpleNamespace) -> Tensors:
        """Its samples, and their sum in half precision."""
        if self.calls == self.most:
            raise KeyboardInterrupt
        self.calls += 1
        waveform = torch.from_numpy(mixture.noisy) * self.factor
        return {"waveform": waveform, "sum": waveform.sum().to(torch.bfloat16)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """An empty store."""
    yield tmp_path.as_uri()


def without_row(tones: Any, missing: int) -> Any:
    """The same corpus with one row in quarantine."""
    read = tones.row

    def row(number: int) -> object:
        if number == missing:
            raise BadAudio("it is silent")
        return read(number)

    tones.row = row
    return tones


def test_the_tensors_of_a_row_are_those_that_were_made_of_it(tones: Any, store: str) -> None:
    """Of every row, in their own precision, whatever the size of shards."""
    assert derive(tones, DERIVATION, store, Made()) == ROWS
    derived = Derived.open(DERIVATION, store)
    for number in range(ROWS):
        expected, found = Made()(tones.read(number)), derived.row(number)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
        assert {name: each.dtype for name, each in found.items()} == {"waveform": torch.float32, "sum": torch.bfloat16}


def test_what_is_there_is_not_computed_again(tones: Any, store: str) -> None:
    """A second call makes nothing, and leaves every byte as it was; its tars have no problem."""
    derive(tones, DERIVATION, store, Made())
    before = {each.address: storage.read(each.address) for each in storage.listing(store)}
    again = Made()
    assert derive(tones, DERIVATION, store, again) == 0 and again.calls == 0
    assert {each.address: storage.read(each.address) for each in storage.listing(store)} == before
    assert Derived.open(DERIVATION, store).problems() == []


def test_a_run_that_was_killed_goes_on_after_its_last_shard(tones: Any, store: str) -> None:
    """Killed in the second of three shards: nothing can be read, and the first is not made again."""
    with pytest.raises(KeyboardInterrupt):
        derive(tones, DERIVATION, store, Made(most=4))
    with pytest.raises(CorpusIncomplete, match="start it again"):
        Derived.open(DERIVATION, store)
    assert derive(tones, DERIVATION, store, Made()) == ROWS - 3
    assert Derived.open(DERIVATION, store).row(0).keys() == {"waveform", "sum"}


def test_workers_share_the_shards_and_leave_the_bytes_of_one(tones: Any, store: str, tmp_path: Path) -> None:
    """Two of them, then one call that finishes: no row is made twice, and the digest is that of one worker."""
    alone = (tmp_path / "alone").as_uri()
    derive(tones, DERIVATION, alone, Made())
    counts = [derive(tones, DERIVATION, store, Made(), rank=rank, world=2) for rank in (1, 0)]
    assert sum(counts) + derive(tones, DERIVATION, store, Made()) == ROWS and min(counts) > 0
    assert Derived.open(DERIVATION, store).digest == Derived.open(DERIVATION, alone).digest


def test_rows_in_quarantine_have_no_tensors_and_stop_nothing(tones: Any, store: str) -> None:
    """The others keep their numbers."""
    derive(without_row(tones, 2), DERIVATION, store, Made())
    derived = Derived.open(DERIVATION, store)
    assert derived.shards[0].quarantined[0].reason == "it is silent"
    with pytest.raises(BadAudio, match="quarantine"):
        derived.row(2)
    assert torch.equal(derived.row(3)["waveform"], torch.from_numpy(tones.read(3).noisy))


def test_another_identity_is_another_address() -> None:
    """Other weights, another precision or another corpus never answer for these."""
    others = [
        DERIVATION.model_copy(update={"made_by": {"version": 2}}),
        DERIVATION.model_copy(update={"corpus": "1" * 64}),
    ]
    assert len({each.address("s3://bucket") for each in (DERIVATION, *others)}) == 3


@pytest.mark.parametrize("factor", [1.0 + 1e-6, 1.5])
def test_of_two_writers_the_first_counts_and_the_other_must_agree(tones: Any, store: str, factor: float) -> None:
    """A difference in the last bits passes; others are no reproduction. Either way nothing is overwritten."""
    late = Made(factor)

    def overtaken(mixture: SimpleNamespace) -> Tensors:
        if late.calls == 0:
            derive(tones, DERIVATION, store, Made())
        return late(mixture)

    if factor > 1.01:
        with pytest.raises(NotReproducible, match="training mode"):
            derive(tones, DERIVATION, store, overtaken)
    else:
        derive(tones, DERIVATION, store, overtaken)
    derived = Derived.open(DERIVATION, store)
    assert torch.equal(derived.row(0)["waveform"], torch.from_numpy(tones.read(0).noisy))
    assert len([each for each in storage.listing(store) if each.address.endswith(".tar")]) == 3


def test_a_byte_that_changed_is_found(tones: Any, store: str) -> None:
    """In a tar by `problems`, in a commit object on opening."""
    derive(tones, DERIVATION, store, Made())
    derived = Derived.open(DERIVATION, store)
    tar = storage.join(derived.address, derived.shards[1].tar)
    storage.replace(tar, storage.read(tar)[:-1] + b"x")
    assert derived.problems() == [f"{tar} is damaged: its bytes do not have the digest in its name."]
    storage.replace(storage.join(derived.address, "shard-000000.json"), b"{}")
    with pytest.raises(CorpusDamaged, match="made again"):
        Derived.open(DERIVATION, store)
