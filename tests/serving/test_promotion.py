import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from serving import lease, steps
from serving.audit import events
from serving.canary import CHECKS, Evidence, Rules
from serving.lease import held, promotion_lock
from serving.policy import policy_for
from serving.promotion import Promotion, promote, rollback
from serving.verdict import UNPROCESSED, Judgement, Verdict
from simulation import storage
from simulation.errors import NoChampion, PromotionBusy, VerificationFailed
from simulation.home import Home
from training.registry import DEFAULT_USE as USE
from training.registry import Version
from training.tracking import Tracking

DIGEST = "0123456789abcdef" * 4
FIRST_PROMOTION = ["deploy beside dm/1", "verify dm/1", "champion -> 1", "switch to dm/1", "discard dm/1"]


class Killed(BaseException):
    """The process ends here, as far as the code under test can tell."""


class Diary:
    """What happened, in order; `deadly` names the event after which the process is killed."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.deadly = ""

    def write(self, event: str) -> None:
        """Note an event, then perhaps die of it."""
        self.events.append(event)
        if event == self.deadly:
            raise Killed(event)


class RecordingTracking(Tracking):
    """The real registry, which notes every move of an alias."""

    diary: Diary

    def set_alias(self, use: str, alias: str, version: str) -> None:
        """Move, then note."""
        super().set_alias(use, alias, version)
        self.diary.write(f"{alias} -> {version}")


class RecordingDeployer:
    """Deploys nothing; notes what it is asked, and can find fault with what it deployed."""

    def __init__(self, diary: Diary) -> None:
        self.diary = diary
        self.faulty = False
        self.stuck = False
        self.meanwhile: Callable[[], None] = lambda: None
        self.finds: dict[str, str] = {check.name: "" for check in CHECKS}
        self.seen = Evidence(percent=0.0)

    def let_in(self, version: Version, percent: float, rules: Rules) -> None:
        """Note, and count from zero."""
        self.seen = Evidence(percent=percent)
        self.diary.write(f"let in {version.name} at {percent:g}")

    def evidence(self) -> Evidence:
        """Another mirrored request with the same findings."""
        self.meanwhile()
        self.seen = self.seen.with_one_more(self.finds)
        return self.seen

    def let_out(self) -> None:
        """Note only."""
        self.diary.write("let out")

    def candidate(self) -> str:
        """Whoever was let in last."""
        return "dm/2" if self.diary.events[-1:] == ["let in dm/2 at 5"] else ""

    def deploy_beside(self, version: Version) -> str:
        """The name serves as the handle."""
        self.diary.write(f"deploy beside {version.name}")
        return version.name

    def verify(self, handle: str, version: Version) -> None:
        """Fails if told so."""
        assert handle == version.name
        self.diary.write(f"verify {version.name}")
        self.meanwhile()
        if self.faulty:
            raise VerificationFailed(f"{version.name} answers with silence.")

    def switch(self, version: Version) -> None:
        """Fails if told so."""
        self.diary.write(f"switch to {version.name}")
        if self.stuck:
            raise VerificationFailed(f"{version.name} does not answer over HTTP.")

    def discard(self, handle: str) -> None:
        """Note only."""
        self.diary.write(f"discard {handle}")


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in them."""
    folder = tmp_path_factory.mktemp("registry")
    Tracking(f"sqlite:///{folder}/mlflow.db", journal=f"file://{folder}").aliases(USE)
    return folder / "mlflow.db"


class House:
    """A registry with four versions, a deployer, and the diary both write."""

    def __init__(self, home: Home) -> None:
        self.store = home.store
        self.diary = Diary()
        self.tracking = RecordingTracking()
        self.tracking.diary = self.diary
        self.deployer = RecordingDeployer(self.diary)
        self.versions = {}
        for number in (1, 2, 3, 4):
            run_id = self.tracking.run(f"stage-{number}", "train dm")
            address, tags = f"s3://bucket/versions/{number}", {"stage_key": f"stage-{number}"}
            version = self.tracking.register(USE, "dm", address, DIGEST, run_id, tags)
            self.versions[version.name] = version

    def promote(self, verdict: Verdict, canary: Rules | None = None) -> Promotion:
        """With everything of this house."""
        return promote(verdict, self.versions, self.tracking, self.deployer, self.store, USE, canary)

    def audit(self) -> list[str]:
        """The audit log: what happened to whom."""
        return [f"{event.what} {event.version}" for event in events(self.store, USE)]

    def rollback(self) -> Promotion:
        """With everything of this house."""
        return rollback(self.tracking, self.deployer, self.store, USE)

    def aliases(self) -> dict[str, str]:
        """As the registry has them."""
        return self.tracking.aliases(USE)

    def tags(self, name: str) -> dict[str, str]:
        """Of a version, as the registry has them."""
        return self.tracking.version(USE, self.versions[name].version).tags


@pytest.fixture
def house(home: Home, empty_registry: Path) -> House:
    """A new one."""
    home.path.mkdir()
    shutil.copy(empty_registry, home.path / "mlflow.db")
    return House(home)


def says(winner: str | None, *others: str, opponent: str = UNPROCESSED) -> Verdict:
    """A verdict; the others are ranked behind the winner in the order given."""

    def judged(name: str) -> Judgement:
        wins = name == winner
        reason = f"{'wins over' if wins else 'is tied with'} {opponent}"
        return Judgement(candidate=name, wins=wins, confidence=0.95, gain=None, others=(), slices=(), reason=reason)

    ranking = ([winner] if winner else []) + list(others)
    return Verdict(
        policy=policy_for(USE),
        opponent=opponent,
        slices=("noise",),
        judgements=tuple(judged(name) for name in ranking),
        ranking=tuple(ranking),
        winner=winner,
        reason=f"{winner or 'nobody'} wins over {opponent}",
    )


def test_the_alias_moves_only_after_what_was_deployed_has_been_verified(house: House) -> None:
    """Deploy beside, verify, alias, switch; the replica beside goes."""
    done = house.promote(says("dm/1"))
    assert house.diary.events == FIRST_PROMOTION
    assert house.aliases() == {"champion": "1"}
    assert (done.champion, done.previous, done.moved) == ("1", None, True)


def test_the_verdict_lies_with_the_version_and_its_run(house: House) -> None:
    """Reason, policy and warnings as tags, all numbers as JSON and as a page, where people look for a version."""
    verdict = says("dm/1").model_copy(update={"warnings": ("the gate corpus wears out",)})
    house.promote(verdict)
    version = house.versions["dm/1"]
    tags = house.tracking._client.get_run(version.run_id).data.tags
    for found in (tags, house.tags("dm/1")):
        assert found["gate_outcome"] == "won" and found["gate_reason"] == f"wins over {UNPROCESSED}"
        assert found["gate_policy"].startswith("denoise-16k, revision ")
        assert found["gate_warnings"] == "the gate corpus wears out"
        assert Verdict.parse(storage.read(found["gate_verdict"]), "verdict") == verdict
    kept = {artifact.path for artifact in house.tracking._client.list_artifacts(version.run_id, "gate")}
    assert kept == {"gate/verdict.json", "gate/verdict.html"}


def test_the_champion_is_remembered_before_it_is_replaced(house: House) -> None:
    """previous_champion first: at no moment is the way back unknown."""
    house.promote(says("dm/1"))
    house.diary.events.clear()
    house.promote(says("dm/2", opponent="dm/1"))
    assert house.diary.events[:4] == ["deploy beside dm/2", "verify dm/2", "previous_champion -> 1", "champion -> 2"]
    assert house.aliases() == {"champion": "2", "previous_champion": "1"}


def test_a_version_that_fails_verification_is_discarded_and_the_champion_stays(house: House) -> None:
    """No alias moves, no traffic moves, and the version says why."""
    house.promote(says("dm/1"))
    house.diary.events.clear()
    house.deployer.faulty = True
    with pytest.raises(VerificationFailed, match="silence"):
        house.promote(says("dm/2", opponent="dm/1"))
    assert house.diary.events == ["deploy beside dm/2", "verify dm/2", "discard dm/2"]
    assert house.aliases() == {"champion": "1"}
    assert house.tags("dm/2")["gate_outcome"] == "won, but failed verification"
    assert not held(house.store, USE)


def test_a_service_that_does_not_follow_leaves_the_champion_champion(house: House) -> None:
    """The alias has moved by then: nobody is told that verification failed, and the next run switches the service."""
    house.promote(says("dm/1"))
    house.deployer.stuck = True
    with pytest.raises(VerificationFailed, match="over HTTP"):
        house.promote(says("dm/2", opponent="dm/1"))
    assert house.aliases() == {"champion": "2", "previous_champion": "1"}
    assert house.tags("dm/2")["gate_outcome"] == "won, but the service does not follow"
    house.deployer.stuck = False
    house.promote(says("dm/2", opponent="dm/1"))
    assert house.diary.events[-2:] == ["switch to dm/2", "discard dm/2"]
    assert house.tags("dm/2")["gate_outcome"] == "won"


@pytest.mark.parametrize(
    "deadly",
    [
        *("deploy beside dm/2", "verify dm/2", "previous_champion -> 1", "champion -> 2", "switch to dm/2"),
        *("discard dm/2", "challenger -> 3"),
    ],
)
def test_a_promotion_killed_anywhere_is_completed_by_running_it_again(house: House, deadly: str) -> None:
    """Whatever was done already, the second attempt ends where one attempt would have."""
    house.promote(says("dm/1"))
    house.diary.deadly = deadly
    with pytest.raises(Killed):
        house.promote(says("dm/2", "dm/3", opponent="dm/1"))
    house.diary.deadly = ""
    house.diary.events.clear()
    house.promote(says("dm/2", "dm/3", opponent="dm/1"))
    assert house.aliases() == {"champion": "2", "previous_champion": "1", "challenger": "3"}
    assert "switch to dm/2" in house.diary.events
    assert house.diary.events.index("verify dm/2") < house.diary.events.index("switch to dm/2")


def test_without_a_winner_nothing_is_deployed_and_the_best_stays_challenger(house: House) -> None:
    """A tied or lost candidate keeps its reason, on the version and on its run; the verdict lies in the store."""
    house.promote(says("dm/1"))
    house.diary.events.clear()
    verdict = says(None, "dm/3", "dm/2", opponent="dm/1")
    done = house.promote(verdict)
    assert house.diary.events == ["challenger -> 3"]
    assert (done.champion, done.moved) == ("1", False)
    assert house.aliases() == {"champion": "1", "challenger": "3"}
    run = house.tracking._client.get_run(house.versions["dm/2"].run_id)
    for tags in (house.tags("dm/2"), run.data.tags):
        assert (tags["gate_outcome"], tags["gate_reason"]) == ("challenger", "is tied with dm/1")
    assert Verdict.parse(storage.read(house.tags("dm/3")["gate_verdict"]), "verdict") == verdict


def test_a_challenger_that_becomes_champion_is_no_challenger_any_more(house: House) -> None:
    """The aliases never name one version twice."""
    house.promote(says("dm/1"))
    house.promote(says(None, "dm/2", opponent="dm/1"))
    house.promote(says("dm/2", opponent="dm/1"))
    assert house.aliases() == {"champion": "2", "previous_champion": "1"}


@pytest.mark.parametrize("opponent", [UNPROCESSED, "dm/3", "dm/9"])
def test_a_verdict_about_another_champion_is_refused(house: House, opponent: str) -> None:
    """Of two promotions that were judged side by side only one counts; the other is judged again."""
    house.promote(says("dm/1"))
    house.diary.events.clear()
    with pytest.raises(PromotionBusy, match=r"champion of denoise-16k is now dm/1.*`unmuffle promote` again"):
        house.promote(says("dm/2", opponent=opponent))
    assert house.diary.events == []
    assert house.aliases() == {"champion": "1"}


def test_a_promotion_whose_lock_was_taken_over_moves_nothing(house: House) -> None:
    """A holder that was silent for too long finds out before it touches the alias."""
    taken = storage.join(house.store, "promotions", USE, "locks", "00000002.json")
    house.deployer.meanwhile = lambda: storage.replace(taken, b"{}")
    with pytest.raises(PromotionBusy, match="took over"):
        house.promote(says("dm/1"))
    assert house.diary.events == ["deploy beside dm/1", "verify dm/1", "discard dm/1"]
    assert house.aliases() == {}


def test_rolling_back_verifies_before_it_moves_the_alias(house: House) -> None:
    """The same walk towards the previous champion, one step only."""
    house.promote(says("dm/1"))
    house.promote(says("dm/2", opponent="dm/1"))
    house.diary.events.clear()
    done = house.rollback()
    assert house.diary.events == FIRST_PROMOTION
    assert house.aliases() == {"champion": "1"}
    assert (done.champion, done.previous, done.moved) == ("1", "2", True)
    assert house.tags("dm/2")["gate_outcome"] == "rolled back"
    with pytest.raises(NoChampion, match=r"no previous champion to go back to.*`unmuffle models`"):
        house.rollback()


@pytest.mark.parametrize("deadly", [*FIRST_PROMOTION])
def test_a_rollback_killed_anywhere_is_completed_by_running_it_again(house: House, deadly: str) -> None:
    """It never goes back further than asked."""
    house.promote(says("dm/1"))
    house.promote(says("dm/2", opponent="dm/1"))
    house.diary.deadly = deadly
    with pytest.raises(Killed):
        house.rollback()
    house.diary.deadly = ""
    house.rollback()
    assert house.aliases() == {"champion": "1"}
    assert house.diary.events[-2:] == ["switch to dm/1", "discard dm/1"]


def test_a_rollback_to_a_version_that_does_not_answer_changes_nothing(house: House) -> None:
    """The present champion, whatever is wrong with it, is better than silence."""
    house.promote(says("dm/1"))
    house.promote(says("dm/2", opponent="dm/1"))
    house.deployer.faulty = True
    with pytest.raises(VerificationFailed):
        house.rollback()
    assert house.aliases() == {"champion": "2", "previous_champion": "1"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence is looked at without a pause."""
    monkeypatch.setattr(steps, "POLL_S", 0.0)


CANARY = ["let in dm/2 at 5", "let in dm/2 at 25", "let out", "previous_champion -> 1", "champion -> 2"]


def test_a_canary_is_walked_up_before_the_alias_moves(house: House, impatient: None) -> None:
    """Deployed, verified, let in step by step, let out, and only then champion; the log has every step with counts."""
    house.promote(says("dm/1"))
    house.diary.events.clear()
    house.promote(says("dm/2", opponent="dm/1"), Rules())
    assert house.diary.events[2:-2] == CANARY
    assert house.aliases() == {"champion": "2", "previous_champion": "1"}
    began, passed = "canary began dm/2", "stepped up dm/2"
    assert house.audit() == ["promoted dm/1", began, passed, began, passed, "promoted dm/2"]
    stepped = [event for event in events(house.store, USE) if event.what == "stepped up"]
    assert [(event.percent, event.evidence.mirrored) for event in stepped] == [(5.0, 55), (25.0, 55)]


def test_a_canary_that_finds_a_fault_leaves_the_champion_champion(house: House, impatient: None) -> None:
    """The reason is in the message, on the version and in the audit log; the candidate is gone."""
    house.promote(says("dm/1"))
    house.diary.events.clear()
    house.deployer.finds["level"] = "+6.0 dB"
    with pytest.raises(steps.RolledBack, match=r"dm/2 back at 5 %: level: failed on \d of \d.*unmuffle status"):
        house.promote(says("dm/2", opponent="dm/1"), Rules())
    assert house.diary.events[2:] == ["let in dm/2 at 5", "let out", "discard dm/2"]
    assert house.aliases() == {"champion": "1"}
    assert house.tags("dm/2")["gate_outcome"] == "won, but the canary rolled it back"
    last = events(house.store, USE)[-1]
    assert (last.what, last.percent) == ("rolled back by the canary", 5.0)
    assert last.reason.endswith("the latest: +6.0 dB") and last.evidence.tallies["level"].failed <= 5


def test_a_canary_without_requests_ends_as_a_no(house: House, impatient: None) -> None:
    """Patience is part of the rules."""
    house.promote(says("dm/1"))
    house.deployer.finds = {}
    with pytest.raises(steps.RolledBack, match=r"not decided within 0\.05 s"):
        house.promote(says("dm/2", opponent="dm/1"), Rules(patience_s=0.05))
    assert house.aliases() == {"champion": "1"}


def test_rolling_back_during_a_canary_ends_the_canary(house: House, impatient: None) -> None:
    """From another terminal; the champion stays, and the one before it too."""
    house.promote(says("dm/1"))
    ended: list[Promotion] = []
    person = threading.Thread(target=lambda: ended.append(house.rollback()))

    def meanwhile() -> None:
        if house.deployer.candidate() and not person.ident:
            person.start()
        time.sleep(0.1 * bool(person.ident))

    house.deployer.meanwhile = meanwhile
    with pytest.raises(PromotionBusy, match="ended by `unmuffle rollback`"):
        house.promote(says("dm/2", opponent="dm/1"), Rules())
    person.join()
    assert not ended[0].moved and ended[0].champion == "1" and "canary of dm/2 was ended" in ended[0].reason
    assert house.aliases() == {"champion": "1"}
    assert house.diary.events[-3:] == ["let in dm/2 at 5", "let out", "discard dm/2"], "heard at the next look"
    assert house.tags("dm/2")["gate_outcome"] == "won, but its promotion was ended"


SOON = [CANARY[1], CANARY[-1]]
"""While the candidate is let in, and right after the alias moved; the other points are of `make test-long`."""
LATER = ["deploy beside dm/2", "verify dm/2", *CANARY[:1], *CANARY[2:-1], "switch to dm/2", "discard dm/2"]


@pytest.mark.parametrize("deadly", [*SOON, *(pytest.param(event, marks=pytest.mark.long) for event in LATER)])
def test_a_canary_killed_anywhere_is_completed_by_running_it_again(house: House, impatient: None, deadly: str) -> None:
    """Before the alias moved the candidate is let in anew; afterwards only the service is switched."""
    house.promote(says("dm/1"))
    house.diary.deadly = deadly
    with pytest.raises(Killed):
        house.promote(says("dm/2", opponent="dm/1"), Rules())
    crowned = house.aliases()["champion"] == "2"
    house.diary.deadly = ""
    house.diary.events.clear()
    house.promote(says("dm/2", opponent="dm/1"), Rules())
    assert house.aliases() == {"champion": "2", "previous_champion": "1"}
    assert ("let in dm/2 at 5" in house.diary.events) is not crowned
    assert house.diary.events[-2:] == ["switch to dm/2", "discard dm/2"]


def test_a_second_promotion_of_the_same_use_is_refused_and_named(house: House) -> None:
    """One at a time for a use; other uses do not wait."""
    with promotion_lock(house.store, USE):
        assert held(house.store, USE)
        with pytest.raises(PromotionBusy, match=r"under way on .*, process \d+.*run the same command again"):
            house.promote(says("dm/1"))
        with promotion_lock(house.store, "fullband-48k"):
            pass
    assert house.diary.events == []
    assert not held(house.store, USE)
    house.promote(says("dm/1"))


def lock_of(store: str, number: int, **changes: object) -> None:
    """Leave a lock behind as another process would have, alive but for the changes."""
    record = {"host": "elsewhere", "process": 1, "since_s": 0.0, "expires_s": time.time() + 60, "released": False}
    address = storage.join(store, "promotions", USE, "locks", f"{number:08d}.json")
    storage.create(address, json.dumps(record | changes).encode())


def test_the_lock_of_a_lost_holder_is_free_once_it_expires(house: House) -> None:
    """A machine that vanished blocks promotions for two minutes, not for ever."""
    lock_of(house.store, 1)
    with pytest.raises(PromotionBusy, match="under way on elsewhere"):
        house.promote(says("dm/1"))
    lock_of(house.store, 2, expires_s=time.time() - 1)
    house.promote(says("dm/1"))
    assert house.aliases() == {"champion": "1"}


def test_the_lock_of_a_process_that_died_here_need_not_expire(tmp_path: Path) -> None:
    """The same command, run again at once after a crash, is not kept waiting."""
    store = f"file://{tmp_path}"
    lock_of(store, 1, host=lease.socket.gethostname(), process=2**22 - 1)
    with promotion_lock(store, USE):
        assert held(store, USE)


def test_a_holder_at_work_does_not_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow verification keeps its lock: it is refreshed while it is held."""
    monkeypatch.setattr(lease, "EXPIRY_S", 0.5)
    monkeypatch.setattr(lease, "REFRESH_S", 0.05)
    with promotion_lock(f"file://{tmp_path}", USE):
        time.sleep(0.8)
        assert held(f"file://{tmp_path}", USE)


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_of_many_promoters_at_once_exactly_one_holds_the_lock(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The lock is exact on a folder and on a bucket, also when it has to be taken over from a lost holder."""
    store = f"file://{tmp_path}" if where == "folder" else str(request.getfixturevalue("s3_store"))
    lock_of(store, 1, expires_s=time.time() - 1)
    together, decided, holders = threading.Barrier(8), threading.Barrier(8), []

    def contend(name: int) -> None:
        together.wait()
        try:
            with promotion_lock(store, USE):
                holders.append(name)
                decided.wait()
        except PromotionBusy:
            decided.wait()

    threads = [threading.Thread(target=contend, args=(name,)) for name in range(8)]
    _run_all(threads)
    assert len(holders) == 1


def _run_all(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
