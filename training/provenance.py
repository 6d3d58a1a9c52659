"""Which code a run was made by, and in which environment: what a person needs to make it again."""

import hashlib
import json
import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution, distributions, version
from pathlib import Path
from typing import Any

import torch

from simulation.cluster import PACKAGES

ROOT = Path(__file__).resolve().parent.parent
"""Holds the packages: a checkout, or the folder of installed packages."""


def code(root: Path = ROOT) -> dict[str, str]:
    """Tags: our version, the digest of our sources, and the git revision where there is one to be known.

    A wheel has the digest of the checkout that it was built from. The revision of a checkout is `HEAD`'s, with
    `git_changed` where its sources differ from that; of an installation from a repository, the one that pip noted.
    """
    return {"unmuffle_version": installed_version(), "code_sha256": code_digest(root), **_revision(root)}


def installed_version() -> str:
    """Of our distribution."""
    try:
        return version("unmuffle")
    except PackageNotFoundError:
        return "not installed"


@lru_cache(maxsize=2)
def code_digest(root: Path = ROOT) -> str:
    """sha256 over names and contents of the source files of our packages."""
    digest = hashlib.sha256()
    for file in sorted(file for name in PACKAGES for file in Path(root, name).rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _revision(root: Path) -> dict[str, str]:
    tracked = _git(root, "ls-files", "--error-unmatch", "training/provenance.py")  # not some project around us
    head = _git(root, "rev-parse", "HEAD") if tracked else ""
    if head:
        changed = {"git_changed": "true"} if _git(root, "status", "--porcelain", "--", *PACKAGES) else {}
        return {"git_revision": head, "mlflow.source.git.commit": head, **changed}
    noted = _noted_by_pip() if root == ROOT else ""
    return {"git_revision": noted, "mlflow.source.git.commit": noted} if noted else {}


def _git(root: Path, *words: str) -> str:
    """What git says; nothing where there is no git, or no repository."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        said = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""


def _noted_by_pip() -> str:
    try:
        noted = distribution("unmuffle").read_text("direct_url.json")
    except PackageNotFoundError:
        return ""
    return str(json.loads(noted or "{}").get("vcs_info", {}).get("commit_id", ""))


def environment() -> dict[str, Any]:
    """Interpreter, machine, what torch was built with, and every installed package, in the process that asks."""
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "torch": {"version": torch.__version__, "cuda": torch.version.cuda, "devices": devices},
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """Every installed distribution and its version."""
    found = {str(one.metadata["Name"]).lower(): one.version for one in distributions() if one.metadata["Name"]}
    return dict(sorted(found.items()))


def requirements() -> str:
    """The same as pip reads it."""
    return "".join(f"{name}=={version}\n" for name, version in packages().items())
