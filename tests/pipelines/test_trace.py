"""From a version to its recordings and back, over a corpus that was really built."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components import stage
from components.specs import Input, TrainSpec
from pipelines.trace import find, trace, users_of
from simulation import storage
from simulation.errors import UnknownName
from simulation.provenance import kept_sources
from training.registry import Version

USE = "denoise-16k"


class FakeTracking:
    """A registry with these versions, and one set of tags for every run."""

    def __init__(self, *versions: Version) -> None:
        self.known = versions

    def versions(self, use: str) -> list[Version]:
        return [one for one in self.known if one.use == use]

    def resolve(self, what: str, use: str = USE) -> Version:
        for one in self.known:
            if one.name == what:
                return one
        raise UnknownName("model", what, ())

    def run_tags(self, run_id: str) -> dict[str, str]:
        return {"git_revision": "abc" * 10, "code_sha256": "d" * 64, "mlflow.user": "somebody"}


def version(store: str, number: int, spec: TrainSpec) -> Version:
    """A version that a training stage of this spec made."""
    stage.write_spec(store, spec)
    tags = {"number": str(number), "stage_key": spec.key(), "recipe": "tiny", "corpus_digest": spec.corpus.sha256}
    address = f"{store}/versions/tiny-{spec.key()[:12]}"
    return Version(USE, str(number + 4), "dm", address, f"{number}" * 64, f"run-{number}", tags)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, built_here: Callable[..., Any]) -> tuple[FakeTracking, Any]:
    """Two versions, of which one learnt from a corpus of real speech and noise; the other's is gone."""
    store = storage.normal(str(tmp_path_factory.mktemp("store")))
    built = built_here(store)
    first = TrainSpec(recipe={"name": "tiny"}, corpus=Input(address=built.address, sha256=built.digest))
    gone = TrainSpec(recipe={"name": "tiny"}, corpus=Input(address=f"{store}/corpora/gone", sha256="f" * 64))
    return FakeTracking(version(store, 1, first), version(store, 2, gone)), built


def test_a_version_leads_to_its_recordings_and_licences(made: tuple[FakeTracking, Any]) -> None:
    """Run, code, corpus, and every recording of the corpus counted under its licence."""
    tracking, built = made
    found = trace("dm/1", tracking)  # type: ignore[arg-type]
    assert (found.run_id, found.recipe, found.corpus) == ("run-1", "tiny", built.address)
    assert found.corpus_digest == built.digest
    assert found.code == {"git_revision": "abc" * 10, "code_sha256": "d" * 64}
    manifest = kept_sources(built.address)
    assert sum(one.recordings for one in found.sources) == len(manifest.recordings)
    assert {one.licence for one in found.sources} == {one.licence for one in manifest.recordings}
    assert found.missing == ""


@pytest.mark.parametrize("what", ["dm/1", "denoise-16k/5", "run-1"])
def test_whatever_an_answer_says_leads_to_the_version(made: tuple[FakeTracking, Any], what: str) -> None:
    """The registry's name, the header of an answer, the run in MLflow."""
    assert find(what, made[0]).version == "5"  # type: ignore[arg-type]


def test_a_corpus_that_is_gone_is_said(made: tuple[FakeTracking, Any]) -> None:
    """What is known is told all the same."""
    found = trace("dm/2", made[0])  # type: ignore[arg-type]
    assert found.corpus_digest == "f" * 64
    assert "no source manifest" in found.missing


def test_a_recording_leads_to_the_versions_that_used_it(made: tuple[FakeTracking, Any]) -> None:
    """By id, by checksum, by speaker; with the split it was in."""
    tracking, built = made
    one = next(each for each in kept_sources(built.address).recordings if each.split == "train")
    for asked in (one.id, one.sha256[:12]):
        (used,) = users_of(asked, tracking)  # type: ignore[arg-type]
        assert (used.version, used.recording, used.split) == ("dm/1", one.id, "train")
    assert one.id in {used.recording for used in users_of(one.group, tracking)}  # type: ignore[arg-type]


def test_a_recording_that_nobody_used_is_said(made: tuple[FakeTracking, Any], tmp_path: Path) -> None:
    """With names that are close."""
    with pytest.raises(UnknownName, match="recording in any version's corpus"):
        users_of("speech/nobody", made[0])  # type: ignore[arg-type]
