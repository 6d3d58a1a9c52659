import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from serving import lease, ray_service, wire
from serving.canary import Rules
from serving.lease import promotion_lock
from serving.messages import Limits, ModelFacts, Models, ServedVersion
from serving.ray_service import BESIDE_ROUTE, RayServiceDeployer
from serving.reconcile import reconcile
from serving.verification import PROBE_RATE, probe
from simulation.errors import StoreUnreachable, VerificationFailed
from simulation.home import Home
from training.registry import Version

Versions = tuple[Version, Version]
USE = "denoise-16k"


class FakeService:
    """A RayService object, its operator, and the replicas behind its address, as far as a deployer can see them.

    A patched config is taken up after `delay` looks at the object; `faults` says what befalls it then.
    """

    def __init__(self, version: Version, delay: int = 2) -> None:
        deployment = {"name": "enhance", "user_config": {"version": ServedVersion.of(version).model_dump(mode="json")}}
        deployment["user_config"]["limits"] = Limits(max_seconds=42.0).model_dump(mode="json")
        application = {"name": "unmuffle", "route_prefix": "/", "import_path": "serving.app:app"}
        config = {"http_options": {"port": 8000}, "applications": [application | {"deployments": [deployment]}]}
        self.object: dict[str, Any] = {
            "metadata": {"generation": 1},
            "spec": {"serveConfigV2": yaml.safe_dump(config)},
            "status": {"observedGeneration": 1},
        }
        self.delay, self.left = delay, 0
        self.patches: list[dict[str, Any]] = []
        self.running = {each["name"]: each for each in self.config["applications"]}
        self.refused: dict[str, str] = {}
        self.silent = False
        self.deleted = False
        self.away = 0
        self.stale: list[dict[str, Any]] = []

    @property
    def config(self) -> dict[str, Any]:
        """What the object says now."""
        return dict(yaml.safe_load(self.object["spec"]["serveConfigV2"]))

    def get(self) -> dict[str, Any] | None:
        """Time passes with every look."""
        if self.away:
            self.away -= 1
            raise StoreUnreachable("the API server is away")
        if self.deleted:
            return None
        self._operate()
        return json.loads(json.dumps(self.object))

    def patch(self, change: dict[str, Any]) -> dict[str, Any] | None:
        """Nothing but the Serve config is ever changed."""
        assert list(change) == ["spec"] and list(change["spec"]) == ["serveConfigV2"]
        self.patches.append(change)
        self.object["spec"] |= change["spec"]
        self.object["metadata"]["generation"] += 1
        self.left = self.delay
        return self.object

    def _operate(self) -> None:
        self.left -= 1
        if self.left > 0:
            return
        applications = {each["name"]: each for each in self.config["applications"]}
        statuses = {}
        for name, wanted in applications.items():
            message = self.refused.get(wanted["deployments"][0]["user_config"]["version"]["version"], "")
            statuses[name] = {"status": "DEPLOY_FAILED" if message else "RUNNING", "message": message}
            if not message:
                self.running[name] = wanted
        self.running = {name: each for name, each in self.running.items() if name in applications}
        self.object["status"] = {
            "observedGeneration": self.object["metadata"]["generation"],
            "activeServiceStatus": {"applicationStatuses": statuses},
        }

    def answer(self, request: httpx.Request) -> httpx.Response:
        """HTTP of whichever application has the longest route."""
        routes = {each["route_prefix"]: each for each in self.running.values()}
        beside = request.url.path.startswith(BESIDE_ROUTE)
        if beside and BESIDE_ROUTE not in routes:
            return httpx.Response(404)
        config = routes[BESIDE_ROUTE if beside else "/"]["deployments"][0]["user_config"]
        if not beside and self.stale:
            config = self.stale.pop(0)
        version = ServedVersion.parse(config["version"], "version")
        if request.url.path.endswith("/v1/models"):
            facts = ModelFacts(name=version.name, version=version, kind="gru", sample_rate=16_000, causal=True,
                               latency_samples=0, parameters=1)  # fmt: skip
            return httpx.Response(200, content=Models(models=(facts,), limits=Limits()).canonical())
        heard = probe() * np.float32(not self.silent)
        return httpx.Response(200, content=wire.encode(heard, PROBE_RATE, flac=False)[0])


@pytest.fixture
def service(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """With the first version."""
    monkeypatch.setattr(ray_service, "POLL_S", 0.0)
    return FakeService(versions[0])


@pytest.fixture
def deployer(service: FakeService) -> RayServiceDeployer:
    """Of this service."""
    client = httpx.Client(base_url="http://enhance:8000", transport=httpx.MockTransport(service.answer))
    return RayServiceDeployer(service, client)


def names(service: FakeService) -> list[str]:
    """Of the applications in the config."""
    return [each["name"] for each in service.config["applications"]]


def test_a_version_is_deployed_beside_verified_switched_to_and_cleared_up(
    service: FakeService, deployer: RayServiceDeployer, versions: Versions
) -> None:
    """By patches of the Serve config alone; limits, ports and everything else in it stay as they were."""
    before = service.config
    handle = deployer.deploy_beside(versions[1])
    assert names(service) == ["unmuffle", "unmuffle-beside"] and deployer.left_behind()
    assert deployer.serving() == ServedVersion.of(versions[0])
    deployer.verify(handle, versions[1])
    deployer.switch(versions[1])
    deployer.discard(handle)
    assert deployer.serving() == ServedVersion.of(versions[1]) and names(service) == ["unmuffle"]
    after = service.config
    told = after["applications"][0]["deployments"][0]["user_config"]
    assert told["limits"]["max_seconds"] == 42.0 and told["version"]["weights_sha256"] == versions[1].weights_sha256
    told["version"] = before["applications"][0]["deployments"][0]["user_config"]["version"]
    assert after == before


def test_a_candidate_that_cannot_be_deployed_is_taken_away_again(
    service: FakeService, deployer: RayServiceDeployer, versions: Versions
) -> None:
    """The reason is the operator's; the service goes on."""
    service.refused = {"2": "the weights have another digest"}
    with pytest.raises(VerificationFailed, match="unmuffle-beside was not deployed: the weights have another digest"):
        deployer.deploy_beside(versions[1])
    assert names(service) == ["unmuffle"] and deployer.serving() == ServedVersion.of(versions[0])


def test_a_candidate_that_answers_silence_is_not_verified(
    service: FakeService, deployer: RayServiceDeployer, versions: Versions
) -> None:
    """Nor is one that is not there."""
    handle = deployer.deploy_beside(versions[1])
    service.silent = True
    with pytest.raises(VerificationFailed, match="silence"):
        deployer.verify(handle, versions[1])
    with pytest.raises(VerificationFailed, match="another version"):
        deployer.verify(handle, versions[0])


def test_a_switch_that_fails_writes_back_the_config_that_was_there(
    service: FakeService, deployer: RayServiceDeployer, versions: Versions
) -> None:
    """To the byte."""
    before = service.object["spec"]["serveConfigV2"]
    service.refused = {"2": "out of memory"}
    with pytest.raises(VerificationFailed, match="unmuffle was not deployed: out of memory"):
        deployer.switch(versions[1])
    assert service.object["spec"]["serveConfigV2"] == before
    assert deployer.serving() == ServedVersion.of(versions[0])


def test_a_switch_counts_when_no_replica_answers_with_the_old_version(
    service: FakeService, deployer: RayServiceDeployer, versions: Versions
) -> None:
    """One answer of the new version among old ones is not enough."""
    old = {"version": ServedVersion.of(versions[0]).model_dump(mode="json")}
    new = {"version": ServedVersion.of(versions[1]).model_dump(mode="json")}
    service.stale = [old, new, new, old, new, new, new, new, old]
    deployer.switch(versions[1])
    assert not service.stale and deployer.serving() == ServedVersion.of(versions[1])


def test_an_api_server_that_is_away_for_a_while_is_waited_for(
    service: FakeService, deployer: RayServiceDeployer, versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not longer than an application may take."""
    service.delay = 10
    monkeypatch.setattr(service, "patch", _then_away(service, 5))
    deployer.deploy_beside(versions[1])
    monkeypatch.setattr(ray_service, "READY_S", 0.0)
    with pytest.raises(VerificationFailed, match="not ready within 0 s"):
        deployer.switch(versions[1])


def _then_away(service: FakeService, looks: int) -> Callable:
    patch = service.patch

    def patched(change: dict[str, Any]) -> dict[str, Any] | None:
        service.away = looks
        return patch(change)

    return patched


def test_a_service_that_is_not_ours_is_left_alone(
    service: FakeService, deployer: RayServiceDeployer, versions: Versions
) -> None:
    """Another config, or none: the answer says what was expected, and nothing is patched."""
    service.object["spec"]["serveConfigV2"] = "applications: [{name: other, deployments: [{name: a}]}]"
    service.left = 100  # its operator is another's
    with pytest.raises(VerificationFailed, match=r"application 'unmuffle'.*found the applications \['other'\]"):
        deployer.switch(versions[1])
    for text, told in (("[1]", r"found the applications \[\]"), ("a: [", "no YAML"), ("applications:", "Expected a")):
        service.object["spec"]["serveConfigV2"] = text
        with pytest.raises(VerificationFailed, match=told):
            deployer.switch(versions[1])
    service.deleted = True
    with pytest.raises(VerificationFailed, match="no such RayService"):
        deployer.deploy_beside(versions[1])
    assert not service.patches


def test_a_canary_is_refused_in_words(deployer: RayServiceDeployer, versions: Versions) -> None:
    """There is none in a RayService, and nobody is told that there was."""
    with pytest.raises(VerificationFailed, match="without --canary"):
        deployer.let_in(versions[1], 5.0, Rules())


class Pointing:
    """A registry that knows its champion."""

    def __init__(self, champion: Version) -> None:
        self.champion = champion

    def alias(self, use: str, alias: str) -> Version:
        """The champion."""
        return self.champion


def test_a_service_is_brought_back_to_the_alias_and_cleared_of_what_a_killed_promotion_left(
    service: FakeService, deployer: RayServiceDeployer, versions: Versions, home: Home
) -> None:
    """Not while a promotion is under way; a second time there is nothing to do."""
    deployer.deploy_beside(versions[1])
    champion: Any = Pointing(versions[1])
    with promotion_lock(home.store, USE):
        assert not reconcile(home.store, USE, champion, deployer)
        assert names(service) == ["unmuffle", "unmuffle-beside"]
    assert reconcile(home.store, USE, champion, deployer)
    assert names(service) == ["unmuffle"] and deployer.serving() == ServedVersion.of(versions[1])
    patches = len(service.patches)
    assert reconcile(home.store, USE, champion, deployer) and len(service.patches) == patches


def test_a_promotion_that_ends_while_the_lock_is_looked_at_is_not_taken_back(
    service: FakeService,
    deployer: RayServiceDeployer,
    versions: Versions,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The alias is read once nobody is about to move it: its new champion goes on answering."""
    registry: Any = Pointing(versions[0])

    def ends_meanwhile(store: str, use: str) -> bool:
        registry.champion = versions[1]
        deployer.switch(versions[1])
        return False

    monkeypatch.setattr(lease, "held", ends_meanwhile)
    assert reconcile(home.store, USE, registry, deployer)
    assert deployer.serving() == ServedVersion.of(versions[1])
    assert len(service.patches) == 1
