from dataclasses import replace

import pytest

from serving import deployer
from serving.canary import Rules
from serving.deployer import LocalServe
from serving.messages import Limits, ModelFacts, Models, ServedVersion, ServiceConfig
from serving.service import serve
from serving.side_by_side import Others
from simulation.errors import BadSetting, NoChampion, VerificationFailed
from simulation.home import Home
from training.registry import Version

FIRST = Version("fullband-48k", "1", "dm", "file:///1", "a" * 64, run_id="", tags={"number": "1"})


def test_each_further_use_follows_its_own_champion() -> None:
    """Deployed once for each champion, at its own route; a use without one is said."""
    champions, deployed = {"fullband-48k": FIRST, "dereverberate-16k": replace(FIRST, use="dereverberate-16k")}, []

    class Registry:
        def resolve(self, name: str, use: str) -> Version:
            if name != "champion" or use not in champions:
                raise NoChampion(f"There is no {name} of {use}.")
            return champions[use]

    def deploy(name: str, config: ServiceConfig, route: str | None) -> None:
        deployed.append((name, config.version.name, route, config.limits.threads))

    others = Others(tuple(champions), Limits(threads=7), Registry(), deploy)
    others.follow()
    others.follow()
    champions["fullband-48k"] = replace(FIRST, version="2")
    others.follow()
    assert deployed == [
        ("unmuffle-fullband-48k", "fullband-48k/1", "/fullband-48k", 7),
        ("unmuffle-dereverberate-16k", "dereverberate-16k/1", "/dereverberate-16k", 7),
        ("unmuffle-fullband-48k", "fullband-48k/2", "/fullband-48k", 7),
    ]
    with pytest.raises(NoChampion):
        Others(("nothing",), Limits(), Registry(), deploy).follow()


def test_a_version_that_was_not_deployed_is_tried_again() -> None:
    """At the next look."""
    attempts = []

    class Registry:
        def resolve(self, name: str, use: str) -> Version:
            return FIRST

    def deploy(name: str, config: ServiceConfig, route: str | None) -> None:
        attempts.append(name)
        if len(attempts) == 1:
            raise BadSetting("not now")

    others = Others(("fullband-48k",), Limits(), Registry(), deploy)
    with pytest.raises(BadSetting):
        others.follow()
    others.follow()
    others.follow()
    assert len(attempts) == 2


def test_a_use_is_served_once(tmp_path) -> None:
    """What is named twice is refused before anything starts."""
    with pytest.raises(BadSetting, match="--also"):
        serve(Home(tmp_path), use="denoise-16k", also=("denoise-16k",))


def test_a_promotion_of_another_use_leaves_the_service_alone(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not switched to a version of that use, and no candidate of it meets its requests."""
    deployed: list[object] = []
    version = ServedVersion.of(replace(FIRST, use="denoise-16k"))
    facts = ModelFacts(
        name=version.name, version=version, kind="dm", sample_rate=16_000, causal=False, latency_samples=0, parameters=1
    )
    monkeypatch.setattr(LocalServe, "_is_here", lambda self: True)
    monkeypatch.setattr(LocalServe, "_models", lambda self: Models(models=(facts,), limits=Limits()))
    monkeypatch.setattr(deployer, "deploy", lambda *told: deployed.append(told))
    local = LocalServe(Home(tmp_path))
    local.switch(FIRST)
    with pytest.raises(VerificationFailed, match="--use fullband-48k"):
        local.let_in(FIRST, 5.0, Rules())
    assert deployed == []
