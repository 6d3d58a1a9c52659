from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException

from serving import deployer
from serving.deployer import Beside, LocalServe
from serving.messages import Limits, ServiceConfig
from serving.service import announced
from simulation.errors import VerificationFailed
from simulation.home import Home
from training.registry import Version

Versions = tuple[Version, Version]


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServe]:
    """The deployer of a home in which no service runs."""
    from simulation.cluster import cluster

    home = Home(tmp_path_factory.mktemp("idle"))
    with cluster(home, cpus=2):
        yield LocalServe(home)


def test_without_a_service_a_candidate_answers_from_a_temporary_replica(idle: LocalServe, versions: Versions) -> None:
    """Deployed, verified, asked for its facts, taken away; nothing serves before or after, and no Serve was started."""
    from ray import serve

    handle = idle.deploy_beside(versions[0])
    idle.verify(handle, versions[0])
    assert handle.facts().version.weights_sha256 == versions[0].weights_sha256
    idle.switch(versions[0])
    idle.discard(handle)
    assert idle.serving() is None and not serve.status().applications


def test_another_version_than_the_one_that_was_meant_is_not_verified(idle: LocalServe, versions: Versions) -> None:
    """What counts is the version that answers, not that something does; and no answer is no traceback of Ray."""
    handle = idle.deploy_beside(versions[0])
    try:
        with pytest.raises(VerificationFailed, match="found denoise-16k/1"):
            idle.verify(handle, versions[1])
    finally:
        idle.discard(handle)
    with pytest.raises(VerificationFailed, match="does not answer"):
        idle.verify(handle, versions[0])


def test_a_corrupt_version_is_not_deployed(idle: LocalServe, corrupt: Version) -> None:
    """Its own reason is in the message, not Ray's."""
    with pytest.raises(VerificationFailed, match=r"denoise-16k/3 was not deployed: The weights at .* have the digest"):
        idle.deploy_beside(corrupt)


def test_a_version_that_is_not_there_is_not_deployed(idle: LocalServe, versions: Versions, tmp_path: Path) -> None:
    """A folder that was removed, say."""
    gone = replace(versions[0], address=f"file://{tmp_path}/gone")
    with pytest.raises(VerificationFailed, match="There is no model at"):
        idle.deploy_beside(gone)


def test_a_service_that_is_too_busy_to_answer_keeps_its_limits(
    tmp_path: Path, versions: Versions, config_of: Callable[[Version], ServiceConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing answers at its port; what it is switched to is told the limits that it was started with all the same."""
    home, config, deployed = Home(tmp_path), config_of(versions[0]), []
    monkeypatch.setattr(LocalServe, "_is_here", lambda self: True)
    monkeypatch.setattr(LocalServe, "_verify_over_http", lambda self, wanted: None)
    monkeypatch.setattr(deployer, "deploy", lambda name, wanted, route: deployed.append(wanted))
    with announced(home, 9, config):
        LocalServe(home).switch(versions[1])
    assert [each.limits for each in deployed] == [config.limits] != [Limits()]


def test_a_judge_that_ended_is_no_traceback(
    tmp_path: Path, versions: Versions, config_of: Callable[[Version], ServiceConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The canary ends with a reason, as it does when the service ends."""

    def ended(*_: object, **__: object) -> None:
        raise RayActorError

    home = Home(tmp_path)
    here = LocalServe(home)
    monkeypatch.setattr(here, "_judge", SimpleNamespace(evidence=SimpleNamespace(remote=lambda: None)))
    monkeypatch.setattr(deployer.ray, "get", ended)
    with announced(home, 9, config_of(versions[0])), pytest.raises(VerificationFailed, match="judge of the canary"):
        here.evidence()
    with pytest.raises(VerificationFailed, match="The service ended"):
        here.evidence()


def test_whatever_serve_says_instead_of_an_answer_is_no_traceback(tmp_path: Path, versions: Versions) -> None:
    """A replica that was taken away answers with an error of Serve's own."""

    def gone() -> None:
        raise RayServeException("the deployment is unavailable")

    with pytest.raises(VerificationFailed, match="deployment is unavailable"):
        LocalServe(Home(tmp_path)).verify(Beside(gone, gone, gone), versions[0])  # type: ignore[arg-type]
