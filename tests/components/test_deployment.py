"""Where promotions go: Serve on this machine, or the RayService that the compute profile names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components import compute, stage
from components.cluster_profile import ClusterProfile
from components.compute import Compute, launch
from components.deployment import deployer
from components.kube import NEEDED, RAY_SERVICES, Kube, One
from components.specs import Input, PromoteSpec
from serving.ray_service import RayServiceDeployer
from simulation import storage
from simulation.errors import BadSetting
from tests.components.fake_kube import FakeKube, kubeconfig, serving
from training.profile import ComputeProfile

PROFILE = ClusterProfile(image="registry.example/unmuffle@sha256:" + "1" * 64, service="unmuffle")


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKube]:
    """The server, KUBECONFIG that leads to it, and a profile with a service."""
    with serving(FakeKube()) as server:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(server, tmp_path / "kubeconfig")))
        settings = Compute(workers=1, training=ComputeProfile(), cluster=PROFILE)
        monkeypatch.setenv("UNMUFFLE_COMPUTE", settings.model_dump_json())
        yield server


def test_a_service_is_read_and_patched_by_name(kube: FakeKube) -> None:
    """A patch is merged into what is there; it calls what the promoter's Role names, in the service's namespace."""
    kube.put("rayservices", "unmuffle", spec={"serveConfigV2": "old", "suspend": True})
    service = One(Kube.connect("unmuffle-serving"), RAY_SERVICES, "unmuffle")
    service.patch({"spec": {"serveConfigV2": "new"}})
    found = service.get()
    assert found is not None
    assert found["spec"] == {"serveConfigV2": "new", "suspend": True}
    called = {(group, resource, verb) for verb, group, resource in kube.calls}
    wanted = {(*what, verb) for what, verbs in NEEDED["promoter"].items() for verb in verbs}
    assert called == wanted
    assert all("/namespaces/unmuffle-serving/" in path for path in kube.paths)


def test_a_service_that_is_not_there_is_nothing(kube: FakeKube) -> None:
    """Neither to read nor to patch."""
    service = One(Kube.connect("unmuffle-serving"), RAY_SERVICES, "unmuffle")
    assert service.get() is None
    assert service.patch({"spec": {}}) is None


def test_promotions_go_to_the_service_of_the_profile(kube: FakeKube) -> None:
    """No Ray is started where they are made."""
    with deployer() as service:
        assert isinstance(service, RayServiceDeployer)


def test_the_stage_that_promotes_runs_where_it_is_asked_for(
    kube: FakeKube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's pods may not change the service; the task may."""

    def ran(name: str, address: str) -> Any:
        raise BadSetting(f"{name} runs here")

    monkeypatch.setattr(compute.stage, "run", ran)
    card = Input(address="a", sha256="0" * 64)
    spec = PromoteSpec(scorecard=card, candidates=(card,), use="denoise-16k", policy={})
    with pytest.raises(BadSetting, match="promote runs here"):
        launch(spec, storage.normal(str(tmp_path)))
    assert kube.calls == []
    assert stage.result_of(storage.normal(str(tmp_path)), spec) is None
