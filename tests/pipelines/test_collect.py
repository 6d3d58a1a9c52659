"""`unmuffle corpus gc`: shows first, removes when asked, and never what may be somebody's work."""

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from simulation.home import Home

TAR = f"shard-000003-{'0' * 64}.tar"


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A split with a tar and a temporary file of two days ago, and a temporary file of now."""
    folder = tmp_path / "corpus" / "train"
    folder.mkdir(parents=True)
    for name in (TAR, ".unmuffle-partial-old", ".unmuffle-partial-new"):
        (folder / name).write_bytes(b"x" * 2000)
        if not name.endswith("new"):
            os.utime(folder / name, (time.time() - 48 * 3600,) * 2)
    return folder


def _ask(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["corpus", "gc", *words], env={"COLUMNS": "400"})
    return result.exit_code, result.output


def test_orphans_are_shown_and_nothing_is_removed_unless_asked(left: Path, home: Home) -> None:
    """A table with kinds, bytes and ages; --delete removes just those; then there are none."""
    code, shown = _ask(str(left.parent))
    assert code == 0 and TAR in shown and "48 h" in shown and "2 orphans, 4,000 bytes" in shown
    assert "--delete" in shown and "partial-new" not in shown
    assert len(list(left.iterdir())) == 3
    assert "Removed 2 orphans, 4,000 bytes." in _ask(str(left.parent), "--delete")[1]
    assert [path.name for path in left.iterdir()] == [".unmuffle-partial-new"]
    assert _ask(str(left.parent))[1].startswith("No orphans older than 24h")


def test_machines_read_the_same(left: Path, home: Home) -> None:
    """Addresses, kinds, bytes and times as JSON."""
    data = json.loads(_ask(str(left), "--older-than", "1d", "--json")[1])
    assert [(one["kind"], one["bytes"]) for one in data["orphans"]] == [("temporary", 2000), ("tar", 2000)]
    assert (data["deleted"], data["bytes"], data["older_than_s"]) == (False, 4000, 86400.0)
    assert json.loads(_ask(str(left), "--older-than", "72h", "--json")[1])["orphans"] == []


@pytest.mark.parametrize(
    ("age", "words"), [("soon", "such as 90m, 24h or 7d"), ("30m", "at least 1h"), ("-2h", "such as 90m")]
)
def test_an_age_that_is_none_or_too_short_is_answered(left: Path, home: Home, age: str, words: str) -> None:
    """Exit code 2, and nothing is removed."""
    code, shown = _ask(str(left), "--delete", f"--older-than={age}")
    assert code == 2 and words in shown
    assert len(list(left.iterdir())) == 3
