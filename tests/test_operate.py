"""docs/operate.md: every command of it, in order, against stubs of Kubernetes and Kubeflow."""

import json
import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components import deployment
from pipelines import doctor
from pipelines.cli import app
from pipelines.doctor import Check
from tests.components.fake_kube import FakeKube, kubeconfig
from tests.components.fake_kube import serving as serving_kube
from tests.pipelines.fake_kfp import FakeKfp
from tests.pipelines.fake_kfp import serving as serving_kfp
from training.registry import Version
from training.tracking import Tracking

ROOT = Path(__file__).parent.parent
IMAGE = "registry.example/unmuffle@sha256:" + "1" * 64
COMPUTE = {"workers": 1, "training": {}, "cluster": {"image": IMAGE, "service": "unmuffle"}}
CHAMPION = Version("denoise-16k", "1", "dm", "file:///nowhere/runs/0/version", "a" * 64, "", {"number": "1"})


def commands() -> list[str]:
    """Every line of the page that a person types."""
    text = (ROOT / "docs/operate.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line.strip()[2:] for block in blocks for line in block.splitlines() if line.strip().startswith("$ ")]


def test_the_page_leads_from_an_empty_cluster_to_a_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command ends well and leaves what the next one needs; kubectl is a stand-in that writes down its words."""
    monkeypatch.chdir(ROOT)
    told: list[str] = []
    with serving_kube(FakeKube()) as kube, serving_kfp(FakeKfp()) as kfp:
        _set_up(monkeypatch, tmp_path, kube, kfp, told)
        for line in commands():
            program, *words = shlex.split(line)
            if program == "kubectl":
                folder = words[words.index("-k") + 1]
                subprocess.run([str(tmp_path / "kubectl"), *words], check=True)
                assert (ROOT / folder / "kustomization.yaml").exists()
                kube.put("rayservices", "unmuffle", spec={"suspend": True})
                continue
            assert program == "unmuffle"
            outcome = CliRunner().invoke(app, words)
            assert outcome.exit_code == 0, f"{line}\n{outcome.output}\n{outcome.exception}"
    assert (tmp_path / "said").read_text().split() == ["apply", "-k", "infra/overlays/single-node"]
    first, triggered = kfp.runs
    assert first["runtime_config"]["parameters"]["reason"] == "manual"
    assert triggered["runtime_config"]["parameters"]["reason"] == "new-data"
    (schedule,) = kfp.recurringruns
    assert (schedule["display_name"], schedule["trigger"]["cron_schedule"]["cron"]) == ("weekly", "0 0 3 * * 1")
    assert kube.objects["rayservices", "unmuffle"]["spec"]["suspend"] is False
    assert told == ["dm/1"]


def _set_up(patch: pytest.MonkeyPatch, folder: Path, kube: FakeKube, kfp: FakeKfp, told: list[str]) -> None:
    """A machine with the settings of the cluster; MLflow and the service are stood in for."""
    script = folder / "kubectl"
    script.write_text(f'#!/bin/sh\necho "$@" >>{folder / "said"}\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    for name, value in {
        "UNMUFFLE_HOME": str(folder / "home"),
        "KUBECONFIG": str(kubeconfig(kube, folder / "kubeconfig")),
        "UNMUFFLE_KFP_HOST": kfp.address,
        "UNMUFFLE_IMAGE": IMAGE,
        "UNMUFFLE_COMPUTE": json.dumps(COMPUTE),
    }.items():
        patch.setenv(name, value)
    patch.setattr(doctor, "tracking", lambda uri: Check("mlflow", True, uri))
    patch.setattr(doctor, "loading", lambda: Check("loading", True, ""))
    patch.setattr(doctor, "free_port", lambda port: Check("port", True, ""))
    patch.setattr(Tracking, "resolve", lambda self, what, use="": CHAMPION)
    patch.setattr(Tracking, "versions", lambda self, use: [])

    class Service:
        def switch(self, version: Version) -> None:
            told.append(version.name)

    class Opened:
        def __enter__(self) -> Service:
            return Service()

        def __exit__(self, *why: object) -> None:
            pass

    patch.setattr(deployment, "service_of", lambda profile: Opened())
