"""What a corpus says of its sources."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulation import corpus, storage
from simulation.build import Built
from simulation.errors import CorpusDamaged, NotThere
from simulation.provenance import kept_sources

Build = Callable[..., Built]
pytestmark = pytest.mark.usefixtures("without_ray")


def test_a_corpus_keeps_its_source_manifest(tmp_path: Path, build_tiny: Build) -> None:
    """Who speaks in it, under which licence and what was measured is known where the corpus is, without the sources."""
    built = build_tiny(str(tmp_path / "store"))
    kept = kept_sources(built.address)
    assert {recording.kind for recording in kept.recordings} == {"speech", "noise", "rir"}
    assert all(recording.probe is not None for recording in kept.recordings)
    assert kept.digest() == corpus.read_record(f"{built.address}/train").sources_digest
    assert corpus.verify(built.address) == []


def test_files_that_were_set_aside_are_named_in_the_corpus(
    tmp_path: Path, build_tiny: Build, material: Any, tiny_scenario: Callable[..., Any]
) -> None:
    """A recording that cannot be used is in no row; the latest build says that it was there, and why it is not used."""
    shutil.copytree(material.noise, tmp_path / "noise")
    scenario = tiny_scenario(most_bad_sources=0.2)
    first = build_tiny(str(tmp_path / "store"), scenario, noise=str(tmp_path / "noise"))
    (tmp_path / "noise" / "broken.wav").write_bytes(b"no audio")
    again = build_tiny(str(tmp_path / "store"), scenario, noise=str(tmp_path / "noise"))
    assert (again.address, again.rendered, again.quarantined) == (first.address, 0, 1)
    (bad,) = kept_sources(again.address).quarantined
    assert bad.address.endswith("/noise/broken.wav") and "cannot be read as audio" in bad.reason


def test_a_damaged_source_manifest_is_named(tmp_path: Path, build_tiny: Build) -> None:
    """One flipped byte, even in a reason, is found by `verify` and refused by who reads; a missing one is answered."""
    built = build_tiny(str(tmp_path / "store"))
    (name,) = Path(built.address.removeprefix("file://")).glob("sources-*.json")
    data = bytearray(name.read_bytes())
    data[100] ^= 1
    name.write_bytes(data)
    assert [name.name in problem for problem in corpus.verify(built.address)] == [True]
    with pytest.raises(CorpusDamaged, match="bytes do not have the digest in its name"):
        kept_sources(built.address)
    storage.delete(f"file://{name}")
    with pytest.raises(NotThere, match="no source manifest"):
        kept_sources(built.address)
