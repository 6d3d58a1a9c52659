"""The doctor answers on a machine that lacks something; that is what it is for."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import doctor


def examined(folder: Path, lacking: tuple[str, ...], home: Path) -> dict[str, dict[str, Any]]:
    """What `unmuffle doctor --json` says where these libraries cannot be imported, by the name of the check."""
    for name in lacking:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name={name!r})")
    variables = dict(os.environ) | {"PYTHONPATH": str(folder), "UNMUFFLE_HOME": str(home)}
    command = [sys.executable, "-m", "pipelines", "doctor", "--json"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    return {check["name"]: check for check in json.loads(done.stdout)}


@pytest.mark.parametrize("lacking", [("boto3", "pyarrow"), ("mlflow", "soundfile")], ids=" and ".join)
def test_a_missing_library_is_said_whatever_needs_it(lacking: tuple[str, ...], tmp_path: Path) -> None:
    """Every other check is answered all the same."""
    checks = examined(tmp_path, lacking, tmp_path / "home")
    assert list(checks) == [
        "python", "libraries", "packages", "loading", "home", "store", "clock", "mlflow", "settings", "gpu", "port",
    ]  # fmt: skip
    assert any(lacking[0] in check["found"] and "make setup" in check["mend"] for check in checks.values())


def test_a_home_that_is_a_file_is_said(tmp_path: Path) -> None:
    """And what to type."""
    (tmp_path / "home").write_text("")
    checks = examined(tmp_path, (), tmp_path / "home")
    assert not checks["home"]["ok"]
    assert checks["home"]["mend"].startswith("export UNMUFFLE_HOME=")


def test_a_library_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, but a system library it needs is not there."""

    def load(name: str) -> None:
        if name == "soundfile":
            raise OSError("sndfile library not found")

    monkeypatch.setattr(doctor, "import_module", load)
    assert doctor.loading().found == "soundfile: sndfile library not found"
