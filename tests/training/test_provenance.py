"""Which code made a run, and where."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from simulation.cluster import PACKAGES
from training.provenance import ROOT, code, code_digest, environment, packages, requirements


def git(folder: Path, *words: str) -> str:
    """What git says in a folder, whoever runs the test."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    said = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, check=True, env=environment)
    return said.stdout.decode().strip()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources somewhere else, with caches that interpreters leave."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__", "*.flac"))
    (tmp_path / "copy" / "training" / "__pycache__").mkdir()
    (tmp_path / "copy" / "training" / "__pycache__" / "loop.pyc").write_bytes(b"cache")
    return tmp_path / "copy"


def test_the_same_sources_elsewhere_are_the_same_code(copy: Path) -> None:
    """A wheel that was installed, or an image, says what its checkout said; one changed letter does not."""
    before = code_digest(copy)
    assert before == code_digest.__wrapped__(ROOT)
    (copy / "training" / "loop.py").write_text((copy / "training" / "loop.py").read_text() + "#")
    assert code_digest.__wrapped__(copy) != before


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
def test_a_checkout_names_its_revision_and_says_when_it_was_changed(copy: Path) -> None:
    """As MLflow's own tag too, which its page shows."""
    git(copy, "init", "--quiet")
    git(copy, "add", ".")
    git(copy, "commit", "--quiet", "-m", "all")
    tags = code(copy)
    assert tags["git_revision"] == tags["mlflow.source.git.commit"] == git(copy, "rev-parse", "HEAD")
    assert "git_changed" not in tags
    (copy / "training" / "loop.py").write_text("pass")
    assert code(copy)["git_changed"] == "true"


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
def test_a_repository_around_the_installation_is_not_ours(copy: Path) -> None:
    """Somebody installs us into a virtual environment inside a project of their own: its revision says nothing."""
    (copy / "notes.txt").write_text("their project")
    git(copy, "init", "--quiet")
    git(copy, "add", "notes.txt")
    git(copy, "commit", "--quiet", "-m", "theirs")
    assert "git_revision" not in code(copy)
    assert code(copy)["code_sha256"]


def test_without_git_the_sources_still_have_their_digest(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim image has none."""
    monkeypatch.setenv("PATH", "")
    assert set(code(copy)) == {"unmuffle_version", "code_sha256"}


def test_the_environment_can_be_made_again() -> None:
    """Interpreter, platform, torch, and a requirement for every package that is installed."""
    here = environment()
    assert here["python"] == platform.python_version()
    assert here["torch"]["version"].startswith(packages()["torch"].partition("+")[0])
    lines = requirements().splitlines()
    assert f"torch=={packages()['torch']}" in lines
    assert len(lines) == len(here["packages"]) > 50
