"""What Kubeflow is sent: versions by content, runs and schedules by name, triggers once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import trigger
from pipelines.kubeflow import Kubeflow, KubeflowProblem, six_fields
from pipelines.request import Request
from pipelines.trigger import request_training
from simulation import storage
from simulation.errors import BadSetting, NothingNew
from tests.pipelines.fake_kfp import FakeKfp, serving

YAML = "pipelineInfo: {name: retrain}\n"
CRON = "0 3 * * 1"


@pytest.fixture
def kfp() -> Iterator[FakeKfp]:
    """The stub."""
    with serving(FakeKfp()) as server:
        yield server


def scheduled(kfp: FakeKfp, text: str = YAML, cron: str = CRON, recreate: bool = False, **parameters: Any) -> str:
    """Ask for the schedule `nightly`; its id."""
    server = Kubeflow.connect(kfp.address)
    return server.schedule("retrain", text, "nightly", cron, parameters or {"seed": 1}, recreate).recurring_id


def test_a_run_names_a_version_that_is_uploaded_once(kfp: FakeKfp) -> None:
    """Equal YAML is one version, whoever submits; the parameters and the account of the pods go along."""
    server = Kubeflow.connect(kfp.address)
    first = server.submit("retrain", YAML, "one", {"seed": 1, "recipes": ["dm_smoke"]})
    server.submit("retrain", YAML, "two", {"seed": 2})
    assert (len(kfp.pipelines), len(kfp.versions), len(kfp.runs)) == (1, 1, 2)
    sent = kfp.runs[0]
    assert sent["run_id"] == first.run_id
    assert sent["service_account"] == "unmuffle-launcher"
    assert sent["runtime_config"]["parameters"] == {"seed": 1, "recipes": ["dm_smoke"]}
    assert sent["pipeline_version_reference"] == {"pipeline_id": "pipeline-1", "pipeline_version_id": "version-1"}


def test_a_run_that_is_going_is_not_started_again(kfp: FakeKfp) -> None:
    """The same name means the same work; once it has ended, it may be asked for again."""
    server = Kubeflow.connect(kfp.address)
    first = server.submit("retrain", YAML, "one", {})
    assert server.submit("retrain", YAML, "one", {}).run_id == first.run_id
    kfp.runs[0]["state"] = "FAILED"
    assert server.submit("retrain", YAML, "one", {}).run_id != first.run_id


def test_a_schedule_neither_overlaps_nor_catches_up(kfp: FakeKfp) -> None:
    """One run at a time, and of missed times only the latest; five fields of cron are given their seconds."""
    scheduled(kfp)
    (sent,) = kfp.recurringruns
    assert (sent["max_concurrency"], sent["no_catchup"], sent["mode"]) == (1, True, "ENABLE")
    assert sent["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"
    assert sent["service_account"] == "unmuffle-launcher"


def test_asking_for_a_schedule_twice_leaves_it_alone(kfp: FakeKfp) -> None:
    """KFP itself would make a second one of the same name, and train twice a night."""
    assert scheduled(kfp) == scheduled(kfp)
    assert len(kfp.recurringruns) == 1


@pytest.mark.parametrize(
    "change",
    [{"text": YAML + "#\n"}, {"cron": "0 4 * * *"}, {"seed": 2}, {"recreate": True}],
    ids=["version", "cron", "parameters", "asked"],
)
def test_a_changed_schedule_replaces_the_old_one(kfp: FakeKfp, change: dict[str, Any]) -> None:
    """The new one is there before the old one goes."""
    before = scheduled(kfp)
    after = scheduled(kfp, **change)
    assert [one["id"] for one in kfp.recurringruns] == [after]
    assert after != before
    made = [what for method, what in kfp.calls if method == "POST" and what == "recurringruns"]
    assert len(made) == 2
    assert kfp.calls[-2:] == [("POST", f"recurringruns/{before}:disable"), ("DELETE", f"recurringruns/{before}")]


def test_a_schedule_that_was_made_twice_by_a_crash_becomes_one(kfp: FakeKfp) -> None:
    """Killed between making the new one and removing the old one: the next call tidies up."""
    scheduled(kfp)
    kfp.recurringruns.append(kfp.recurringruns[0] | {"id": "old", "recurring_run_id": "old", "description": "other"})
    kept = scheduled(kfp)
    assert [one["id"] for one in kfp.recurringruns] == [kept]


@pytest.mark.parametrize("cron", ["", "3 * *", "0 0 0 3 * * 1"])
def test_a_cron_expression_of_another_length_is_refused(cron: str) -> None:
    """Seven fields, or three, would be taken for something else."""
    with pytest.raises(BadSetting, match="minute, hour, day, month, weekday"):
        six_fields(cron)


def test_a_token_is_sent_and_a_refusal_is_said(kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch) -> None:
    """From outside the cluster a token comes from the environment."""
    monkeypatch.setenv("UNMUFFLE_KFP_TOKEN", "a-token")
    server = Kubeflow.connect(kfp.address)
    kfp.refuse = 403
    with pytest.raises(KubeflowProblem, match="403"):
        server.runs()
    assert kfp.tokens == {"Bearer a-token"}


def test_a_server_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting that names it."""
    with pytest.raises(BadSetting, match="UNMUFFLE_KFP_HOST"):
        Kubeflow.connect()
    with pytest.raises(KubeflowProblem, match="did not answer"):
        Kubeflow.connect("http://127.0.0.1:9")


# ---- triggers -------------------------------------------------------------------------------------------------------

REQUEST = Request(scenario="sample", recipes=("gru_smoke",), use="denoise-16k")


class Trigger:
    """Asks for retrainings of data whose digest the test chooses."""

    def __init__(self, kfp: FakeKfp, store: str) -> None:
        self.kfp, self.store, self.now_s = kfp, store, 1000.0
        self.server = Kubeflow.connect(kfp.address)

    def ask(self, reason: Any = "new-data") -> str:
        """The id of the run that was started."""
        return request_training(
            REQUEST,
            self.store,
            reason,
            self.server,
            lambda request, name: self.server.submit("retrain", YAML, name, {"seed": request.seed}),
            lambda: self.now_s,
        ).run_id


@pytest.fixture
def asking(kfp: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trigger:
    """Data that are as they were."""
    monkeypatch.setattr(trigger, "data_digest", lambda request: "d" * 64)
    monkeypatch.setattr(trigger, "checked", lambda request: request)
    return Trigger(kfp, storage.normal(str(tmp_path)))


def test_the_same_data_are_trained_on_once(asking: Trigger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks, and why: while it goes on and after it was done. Other data are another run."""
    asking.ask()
    with pytest.raises(NothingNew, match="is under way"):
        asking.ask("drift")
    asking.kfp.runs[0]["state"] = "SUCCEEDED"
    with pytest.raises(NothingNew, match="was done"):
        asking.ask("manual")
    monkeypatch.setattr(trigger, "data_digest", lambda request: "e" * 64)
    asking.ask()
    assert len(asking.kfp.runs) == 2


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "SKIPPED"])
def test_a_run_that_came_to_nothing_may_be_asked_for_again(asking: Trigger, state: str) -> None:
    """It left no version behind."""
    first = asking.ask()
    asking.kfp.runs[0]["state"] = state
    assert asking.ask() != first


def test_a_request_that_was_never_started_blocks_nobody_for_long(asking: Trigger) -> None:
    """Killed between writing down and starting: after ten minutes somebody else may."""
    asking.kfp.refuse = 500
    with pytest.raises(KubeflowProblem):
        asking.ask()
    asking.kfp.refuse = 0
    with pytest.raises(NothingNew, match="a moment ago"):
        asking.ask()
    asking.now_s += trigger.ABANDONED_S
    asking.ask()
    assert len(asking.kfp.runs) == 1


def test_a_run_that_kubeflow_lost_may_be_asked_for_again(asking: Trigger) -> None:
    """Its database was made anew."""
    asking.ask()
    asking.kfp.runs.clear()
    asking.ask()
    assert len(asking.kfp.runs) == 1
