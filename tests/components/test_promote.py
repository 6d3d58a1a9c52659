"""The step that decides: which earlier decision still answers, and what a version costs is asked once."""

import types
from pathlib import Path
from typing import Any

import pytest

from components import promote, stage
from components.promote import against_the_champion, facts_beside
from components.specs import Input, PromoteSpec
from components.stage import Result
from serving.judgement import Facts, Verdict
from serving.policy import policy_for
from simulation import storage
from simulation.errors import PromotionBusy
from training.registry import Version

OLD, NEW = "a" * 64, "b" * 64
SPEC = PromoteSpec(
    scorecard=Input(address="file:///scorecard.json", sha256="c" * 64),
    candidates=(Input(address="file:///new", sha256=NEW),),
    use="denoise-16k",
    policy=policy_for("denoise-16k").model_dump(mode="json"),
)


class Registry:
    """Two versions, and the aliases that a test gives them."""

    def __init__(self) -> None:
        self.versions = {
            "1": Version("denoise-16k", "1", "dm", "file:///old", OLD, "", {"number": "1"}),
            "2": Version("denoise-16k", "2", "dm", "file:///new", NEW, "", {"number": "2"}),
        }
        self.aliases: dict[str, str] = {}

    def alias(self, use: str, alias: str) -> Version | None:
        """As Tracking has it."""
        return self.versions.get(self.aliases.get(alias, ""))


@pytest.fixture
def store(tmp_path: Path) -> str:
    """An empty one."""
    return storage.normal(str(tmp_path))


def finish(spec: PromoteSpec, store: str, champion: str | None) -> None:
    """As if this spec had been carried out, and had left this champion."""
    found = Result(
        stage="promote", key=spec.key(), spec_digest="", attempt=1, seconds=0.0, outputs={"champion": champion}
    )
    storage.create(storage.join(stage.folder(store, "promote", spec.key()), "result.json"), found.canonical())


def test_the_opponent_is_part_of_the_key(store: str) -> None:
    """A decision against one champion does not answer for another."""
    registry = Registry()
    first = against_the_champion(SPEC, store, registry)
    registry.aliases = {"champion": "1"}
    second = against_the_champion(SPEC, store, registry)
    assert (first.champion, second.champion) == ("", OLD)
    assert first.key() != second.key()


def test_a_promotion_that_stands_answers_for_itself(store: str) -> None:
    """The same run asked for again finds its own winner as champion: that is its result, and no new comparison."""
    registry = Registry()
    registry.aliases = {"champion": "1"}
    done = against_the_champion(SPEC, store, registry)
    finish(done, store, champion="2")
    registry.aliases = {"champion": "2", "previous_champion": "1"}
    assert against_the_champion(SPEC, store, registry) == done


def test_after_a_rollback_the_gate_decides_anew(store: str) -> None:
    """The old result says that a version is champion which is none any more; a third time it stands again."""
    registry = Registry()
    registry.aliases = {"champion": "1"}
    first = against_the_champion(SPEC, store, registry)
    finish(first, store, champion="2")
    second = against_the_champion(SPEC, store, registry)
    assert second.key() != first.key()
    assert second.champion == OLD
    finish(second, store, champion="2")
    registry.aliases = {"champion": "2", "previous_champion": "1"}
    assert against_the_champion(SPEC, store, registry) in (first, second)


def test_a_refusal_stands_while_the_champion_stays(store: str) -> None:
    """Asked again, the gate answers from its result: nothing was moved that could have been moved back."""
    registry = Registry()
    registry.aliases = {"champion": "1"}
    first = against_the_champion(SPEC, store, registry)
    finish(first, store, champion="1")
    assert against_the_champion(SPEC, store, registry) == first


def test_a_promotion_that_was_killed_after_the_alias_moved_is_completed(store: str) -> None:
    """Its verdict is there and its winner is champion, but it never wrote a result: the same stage goes on."""
    registry = Registry()
    registry.aliases = {"champion": "1"}
    begun = against_the_champion(SPEC, store, registry)
    verdict = Verdict(
        policy=policy_for("denoise-16k"),
        opponent="dm/1",
        slices=("noise",),
        judgements=(),
        ranking=("dm/2",),
        winner="dm/2",
        reason="dm/2 wins over dm/1",
    )
    storage.create(storage.join(stage.folder(store, "promote", begun.key()), promote.VERDICT), verdict.canonical())
    registry.aliases = {"champion": "2", "previous_champion": "1"}
    assert against_the_champion(SPEC, store, registry) == begun


def test_a_champion_that_changed_meanwhile_is_not_judged_against(store: str) -> None:
    """Between the question and the answer somebody else promoted: nothing is compared, and it says what to do."""
    spec = SPEC.model_copy(update={"champion": OLD})
    here = stage.Stage("promote", spec.key(), store, attempt=1)
    with pytest.raises(PromotionBusy, match="is now nobody, no longer the one"):
        promote._kept_verdict(spec, here, {}, None)


def test_what_a_version_costs_is_measured_once(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies beside the scores; what could not be measured is tried again the next time."""
    answers: list[Any] = [Facts(), Facts(size_mb=1.0, machine="here"), Facts(size_mb=2.0)]
    monkeypatch.setattr("serving.facts.measured", lambda address: answers.pop(0))
    version = types.SimpleNamespace(address="file:///new", weights_sha256=NEW, name="dm/2")
    scorecard = storage.join(store, "scores", "scorecard.json")
    found = [facts_beside(scorecard, version) for _ in range(3)]
    assert found == [Facts(), Facts(size_mb=1.0, machine="here"), Facts(size_mb=1.0, machine="here")]
