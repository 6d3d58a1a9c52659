from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serving.deployer import LocalServe
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
