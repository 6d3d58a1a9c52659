"""What changed between two corpora."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulation.build import Built
from simulation.degradations import AddNoise, BandLimit
from simulation.diff import changes, diff, source_changes
from simulation.provenance import kept_sources
from simulation.scenario import Case
from simulation.schema import Range

Build = Callable[..., Built]
pytestmark = pytest.mark.usefixtures("without_ray")


def two_cases(high: float) -> tuple[Case, ...]:
    """Noise up to this SNR, and a band limit."""
    noise = AddNoise(snr_db=Range(low=-5.0, high=high))
    limit = BandLimit(cutoff_hz=Range(low=1000.0, high=2000.0))
    return Case(name="noise", degradations=(noise,)), Case(name="band_limit", degradations=(limit,))


def test_a_corpus_does_not_differ_from_itself(tmp_path: Path, build_tiny: Build) -> None:
    """Equal digests and empty lists."""
    built = build_tiny(str(tmp_path / "store"))
    found = diff(built.address, built.address)
    assert found.same_digest
    assert not (found.scenario or found.sources or found.cases or found.measured)


def test_a_range_that_moved_is_named_with_what_it_did(
    tmp_path: Path, build_tiny: Build, tiny_scenario: Callable[..., Any]
) -> None:
    """One field of the scenario, the SNRs of its case, and nothing of the other case: no draw shifted another."""
    a = build_tiny(str(tmp_path / "a"), tiny_scenario(cases=two_cases(5.0)))
    b = build_tiny(str(tmp_path / "b"), tiny_scenario(cases=two_cases(25.0)))
    found = diff(a.address, b.address)
    assert [(one.field, one.a, one.b) for one in found.scenario] == [
        ("cases.noise.degradations.noise.snr_db.high", "5.0", "25.0")
    ]
    assert not found.same_digest and not found.sources and not found.cases
    assert {one.case for one in found.measured} == {"noise"}
    snr = next(one for one in found.measured if one.name == "snr_db")
    assert snr.a is not None and snr.b is not None
    assert snr.a.high <= 5.0 < snr.b.high and snr.a.median < snr.b.median


def test_seed_size_and_sources_are_compared(
    tmp_path: Path, build_tiny: Build, material: Any, tiny_scenario: Callable[..., Any]
) -> None:
    """Another seed, more hours, one voice more: each is told, the recordings by name."""
    import shutil

    more = tmp_path / "speech"
    shutil.copytree(material.speech, more)
    (more / "train" / "newcomer").mkdir()
    shutil.copy(more / "train" / "train-s0" / "0.flac", more / "train" / "newcomer" / "0.flac")
    (more / "test" / "test-s0" / "0.flac").unlink()
    a = build_tiny(str(tmp_path / "a"))
    b = build_tiny(str(tmp_path / "b"), seed=8, hours=12.0 / 3600, speech=str(more))
    found = diff(a.address, b.address)
    assert {"seed", "size.train_hours", "speech"} <= {one.field for one in found.scenario}
    (speech,) = found.sources
    assert (speech.kind, speech.added, speech.removed, speech.changed) == ("speech", 1, 1, 0)
    assert speech.examples == ("+speech/train/newcomer/0.flac", "-speech/test/test-s0/0.flac")
    assert all(case.a and case.b and case.b.hours > case.a.hours for case in found.cases)
    assert len(found.cases) == 4


def test_a_recording_that_changed_is_not_one_that_is_new(tmp_path: Path, build_tiny: Build) -> None:
    """The same id with other bytes, or in another split."""
    manifest = kept_sources(build_tiny(str(tmp_path / "store")).address)
    first, *rest = manifest.recordings
    other = manifest.model_copy(update={"recordings": (first.model_copy(update={"sha256": "f" * 64}), *rest)})
    (change,) = source_changes(manifest, other)
    assert (change.kind, change.added, change.removed, change.changed) == (first.kind, 0, 0, 1)
    assert change.examples == (f"~{first.id}",)


def test_members_of_lists_are_compared_by_name() -> None:
    """A case put in front shifts nobody: it is new, and the others are as they were."""
    a = {"cases": [{"name": "x", "share": 1}, {"name": "y", "share": 2}], "values": [1, 2]}
    b = {"cases": [{"name": "z", "share": 1}, {"name": "x", "share": 1}, {"name": "y", "share": 3}], "values": [1, 3]}
    found = {one.field: (one.a, one.b) for one in changes(a, b)}
    assert found == {
        "cases.y.share": ("2", "3"),
        "values": ("[1,2]", "[1,3]"),
        "cases.z.name": ("", '"z"'),
        "cases.z.share": ("", "1"),
    }


def test_the_command_tells_it_as_tables_and_as_json(tmp_path: Path, build_tiny: Build) -> None:
    """`unmuffle corpus diff A B`; equal corpora are said to be equal."""
    import json

    from typer.testing import CliRunner

    from pipelines.cli import app

    a, b = build_tiny(str(tmp_path / "a")), build_tiny(str(tmp_path / "b"), seed=8)
    told = CliRunner().invoke(app, ["corpus", "diff", a.address, b.address])
    assert told.exit_code == 0 and "seed" in told.output and "snr_db" in told.output
    facts = CliRunner().invoke(app, ["corpus", "diff", a.address, b.address, "--json"])
    assert json.loads(facts.stdout)["scenario"][0] == {"field": "seed", "a": "7", "b": "8"}
    assert "Equal" in CliRunner().invoke(app, ["corpus", "diff", a.address, a.address]).output
