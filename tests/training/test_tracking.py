import json
import logging
import math
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from simulation import storage
from simulation.errors import BadSetting, NoChampion, TrackingProblem, UnknownName
from simulation.home import Home
from training.registry import DEFAULT_USE, USES
from training.tracking import PENDING, Tracking
from training.tracking.connection import Unreachable

DIGEST = "0123456789abcdef" * 4


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in them; making one takes seconds, copying it does not."""
    folder = tmp_path_factory.mktemp("mlflow")
    Tracking(f"sqlite:///{folder}/mlflow.db", journal=f"file://{folder}").aliases(DEFAULT_USE)
    return folder / "mlflow.db"


@pytest.fixture
def tracking(home: Home, empty_database: Path) -> Tracking:
    """The tracking of an empty home."""
    home.path.mkdir()
    shutil.copy(empty_database, home.path / "mlflow.db")
    return Tracking()


def reading(tracking: Tracking) -> Any:
    """MLflow's own client on the same server: what a person would see."""
    from mlflow import MlflowClient

    return MlflowClient(tracking.uri)


def history(tracking: Tracking, run_id: str, metric: str) -> list[tuple[int, float]]:
    """(step, value) of every point MLflow holds."""
    return sorted((point.step, point.value) for point in reading(tracking).get_metric_history(run_id, metric))


def waiting(home: Home) -> list[dict[str, Any]]:
    """The journal's entries, oldest first."""
    stored = storage.listing(storage.join(home.store, "journal"))
    return [json.loads(storage.read(each.address)) for each in stored if "/waiting/" in each.address]


@contextmanager
def outage(tracking: Tracking) -> Iterator[None]:
    """MLflow answers nothing while the block lasts."""
    from mlflow.exceptions import MlflowException

    class Away:
        def __getattr__(self, name: str) -> Callable[..., None]:
            def refuse(*args: object, **named: object) -> None:
                raise MlflowException("Connection refused")

            return refuse

    client = tracking._client
    tracking.__dict__["_client"] = Away()
    try:
        yield
    finally:
        tracking.__dict__["_client"] = client


def registered(tracking: Tracking, stage_key: str = "stage-1", network: str = "dm", use: str = DEFAULT_USE) -> Any:
    """A version of its own run."""
    run_id = tracking.run(stage_key, f"train {network}")
    tags = {"stage_key": stage_key, "recipe": network, "corpus_digest": DIGEST}
    return tracking.register(use, network, f"s3://bucket/versions/{stage_key}", DIGEST, run_id, tags)


def test_importing_tracking_does_not_import_mlflow() -> None:
    """Importing is free: MLflow, which takes seconds, waits for the first contact."""
    code = "import sys, training.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_is_found_again_by_its_key_and_belongs_to_its_parent(tracking: Tracking) -> None:
    """A retried stage continues the run it began, under the run of its pipeline."""
    child = tracking.run("stage-1", "train dm", parent_key="pipeline-1", tags={"seed": "1"})
    tracking.finish(child, ok=False)
    again = Tracking().run("stage-1", "train dm", parent_key="pipeline-1", tags={"seed": "1"})
    parent = tracking.run("pipeline-1", "nightly")
    run = reading(tracking).get_run(child)
    assert again == child
    assert run.info.status == "RUNNING"
    assert run.data.tags["mlflow.parentRunId"] == parent != child
    assert run.data.tags["seed"] == "1"


def test_a_finished_run_says_how_it_ended(tracking: Tracking) -> None:
    """finish(ok) is MLflow's FINISHED or FAILED."""
    good, bad = tracking.run("good", "good"), tracking.run("bad", "bad")
    tracking.finish(good, ok=True)
    tracking.finish(bad, ok=False)
    statuses = [reading(tracking).get_run(run_id).info.status for run_id in (good, bad)]
    assert statuses == ["FINISHED", "FAILED"]


def test_the_run_id_of_kfp_becomes_a_tag_and_nothing_else(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_RUN_ID in the environment is never the run we log into."""
    monkeypatch.setenv("MLFLOW_RUN_ID", "of-kfp")
    run_id = tracking.run("stage-1", "train dm")
    assert run_id != "of-kfp"
    assert reading(tracking).get_run(run_id).data.tags["kfp_mlflow_run_id"] == "of-kfp"


def test_a_param_logged_with_another_value_becomes_a_tag(tracking: Tracking) -> None:
    """MLflow's params never change; a retry with another setting is recorded and does not crash."""
    run_id = tracking.run("stage-1", "train dm")
    tracking.params(run_id, {"model": {"width": 8, "depth": 2}, "learning_rate": 0.001})
    tracking.params(run_id, {"model": {"width": 16, "depth": 2}, "seed": 3})
    data = reading(tracking).get_run(run_id).data
    assert data.params == {"model.width": "8", "model.depth": "2", "learning_rate": "0.001", "seed": "3"}
    assert {name: value for name, value in data.tags.items() if name.startswith("changed.")} == {
        "changed.model.width": "16"
    }


def test_a_step_is_logged_once_even_by_another_process(tracking: Tracking) -> None:
    """Steps replayed after a resume leave no second point behind; other metrics at that step still arrive."""
    run_id = tracking.run("stage-1", "train dm")
    tracking.metrics(run_id, {"loss": 1.0}, step=10)
    tracking.metrics(run_id, {"loss": 0.5}, step=20)
    resumed = Tracking()
    resumed.metrics(run_id, {"loss": 9.0, "valid_si_sdr": 3.0}, step=20)
    resumed.metrics(run_id, {"loss": 0.25}, step=30)
    assert history(tracking, run_id, "loss") == [(10, 1.0), (20, 0.5), (30, 0.25)]
    assert history(tracking, run_id, "valid_si_sdr") == [(20, 3.0)]


def test_more_metrics_than_mlflow_takes_at_once_all_arrive(tracking: Tracking) -> None:
    """A batch holds a thousand metrics; the caller need not know."""
    run_id = tracking.run("stage-1", "train dm")
    tracking.metrics(run_id, {f"layer{index}": float(index) for index in range(1001)}, step=1)
    assert reading(tracking).get_run(run_id).data.metrics["layer1000"] == 1000.0


def test_the_corpus_is_recorded_as_the_dataset_of_the_run(tracking: Tracking) -> None:
    """Address and whole digest of the corpus stand in the run's inputs, with what it was used for."""
    run_id = tracking.run("stage-1", "train dm")
    tracking.dataset(run_id, "s3://bucket/corpora/sample@01234567/train", DIGEST, "training")
    (used,) = reading(tracking).get_run(run_id).inputs.dataset_inputs
    assert json.loads(used.dataset.source) == {"uri": "s3://bucket/corpora/sample@01234567/train"}
    assert json.loads(used.dataset.profile) == {"digest": DIGEST}
    assert DIGEST.startswith(used.dataset.digest)
    assert [tag.value for tag in used.tags] == ["training"]


def test_nothing_is_written_outside_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Home, empty_database: Path
) -> None:
    """The database, its artifacts and the journal lie under UNMUFFLE_HOME; the working folder stays empty."""
    elsewhere, user, scratch = (tmp_path / name for name in ("elsewhere", "user", "scratch"))
    for folder in (elsewhere, user, scratch):
        folder.mkdir()
    code = (
        "from training.tracking import Tracking\n"
        "tracking = Tracking()\n"
        "run_id = tracking.run('stage-1', 'train')\n"
        "tracking.metrics(run_id, {'loss': 1.0}, 1)\n"
        "tracking.artifact(run_id, b'page', 'report/report.html')\n"
        "tags = {'stage_key': 'stage-1'}\n"
        "tracking.register('denoise-16k', 'dm', 's3://bucket/version', '0' * 64, run_id, tags)\n"
    )
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("TMPDIR", str(scratch))
    subprocess.run([sys.executable, "-c", code], cwd=elsewhere, check=True)
    assert [path for folder in (elsewhere, user, scratch) for path in folder.rglob("*")] == []
    assert [path.read_bytes() for path in home.path.rglob("report.html")] == [b"page"]
    assert (home.path / "mlflow.db").is_file()


def test_writes_during_an_outage_wait_in_the_journal_and_arrive_in_order(tracking: Tracking, home: Home) -> None:
    """An outage never stops a training run, and afterwards MLflow shows the same run as if it had not happened."""
    run_id = tracking.run("stage-1", "train dm")
    tracking.metrics(run_id, {"loss": 1.0}, step=1)
    with outage(tracking):
        tracking.params(run_id, {"seed": 1})
        tracking.metrics(run_id, {"loss": 0.5, "broken": math.nan}, step=2)
        tracking.artifact(run_id, b"page", "report.html")
        tracking.finish(run_id, ok=True)
    assert [entry["do"] for entry in waiting(home)] == ["params", "metrics", "artifact", "finish"]
    tracking.metrics(run_id, {"loss": 0.25}, step=3)
    run = reading(tracking).get_run(run_id)
    assert waiting(home) == []
    assert history(tracking, run_id, "loss") == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert (run.info.status, run.data.params) == ("FINISHED", {"seed": "1"})
    assert [file.path for file in reading(tracking).list_artifacts(run_id)] == ["report.html"]


def test_a_store_that_fails_too_costs_the_number_and_not_the_training(
    tracking: Tracking, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    """With MLflow and the journal's store both away, a write is lost, loudly; the caller goes on."""
    run_id = tracking.run("stage-1", "train dm")
    Path(home.store.removeprefix("file://")).parent.joinpath("store").write_text("a file where the store should be")
    with outage(tracking):
        tracking.metrics(run_id, {"loss": 1.0}, step=1)
    tracking.metrics(run_id, {"loss": 0.5}, step=2)
    assert "lost for MLflow" in caplog.text
    assert history(tracking, run_id, "loss") == [(2, 0.5)]


def test_a_run_begun_during_an_outage_appears_afterwards(tracking: Tracking, home: Home) -> None:
    """Not even the beginning of a stage needs MLflow; a later process replays what an earlier one left."""
    tracking.run("pipeline-1", "nightly")
    with outage(tracking):
        run_id = tracking.run("stage-1", "train dm", parent_key="pipeline-1")
        tracking.metrics(run_id, {"loss": 1.0}, step=1)
    assert run_id == PENDING + "stage-1"
    later = Tracking()
    later.metrics(run_id, {"loss": 0.5}, step=2)
    real = later.run("stage-1", "train dm", parent_key="pipeline-1")
    assert not real.startswith(PENDING)
    assert history(tracking, real, "loss") == [(1, 1.0), (2, 0.5)]
    assert waiting(home) == []


def test_an_entry_that_mlflow_refuses_is_set_aside_and_blocks_nothing(
    tracking: Tracking, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    """One impossible write costs itself only, and is said."""
    run_id = tracking.run("stage-1", "train dm")
    with outage(tracking):
        tracking.metrics("no-such-run", {"loss": 1.0}, step=1)
        tracking.metrics(run_id, {"loss": 1.0}, step=1)
    with caplog.at_level(logging.ERROR):
        tracking.replay()
    assert history(tracking, run_id, "loss") == [(1, 1.0)]
    assert waiting(home) == []
    assert "refuses a journalled write" in caplog.text
    assert any("/refused/" in stored.address for stored in storage.listing(storage.join(home.store, "journal")))


def test_an_entry_that_two_processes_replay_arrives_once(tracking: Tracking, home: Home) -> None:
    """After an outage every process finds the same journal; MLflow ends up with one point of each step."""
    run_id = tracking.run("stage-1", "train dm")
    late = Tracking()
    late.metrics(run_id, {"loss": 1.0}, step=1)
    with outage(tracking):
        tracking.metrics(run_id, {"loss": 0.5}, step=2)
    (entry,) = waiting(home)
    late._apply(entry)
    late._last_steps.clear()
    late._last_steps[run_id, "loss"] = 1  # what a process knows that has looked before the other one wrote
    late._apply(entry)
    tracking.replay()
    assert history(tracking, run_id, "loss") == [(1, 1.0), (2, 0.5)]


def test_a_server_that_is_slow_to_refuse_is_asked_half_of_the_time_at_most(
    tracking: Tracking, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for timeouts must not hold up whoever logs: what is logged meanwhile goes straight to the journal."""
    run_id = tracking.run("stage-1", "train dm")
    asked: list[float] = []

    def slow(entry: dict[str, Any]) -> None:
        asked.append(time.monotonic())
        time.sleep(0.3)
        raise Unreachable("no answer")

    monkeypatch.setattr(tracking, "_apply", slow)
    for step in range(20):
        tracking.metrics(run_id, {"loss": float(step)}, step=step + 1)
    assert len(asked) == 1
    assert len(waiting(home)) == 20
    monkeypatch.undo()
    time.sleep(0.35)
    tracking.metrics(run_id, {"loss": 20.0}, step=21)
    assert [step for step, _ in history(tracking, run_id, "loss")] == list(range(1, 22))


def test_a_question_to_a_server_that_is_away_says_what_to_type(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry cannot wait: one paragraph with the address, without the password, and the way out."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    with pytest.raises(TrackingProblem, match=r"does not answer.*MLFLOW_TRACKING_URI.*unmuffle doctor") as caught:
        Tracking().resolve("champion")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_database_that_cannot_be_made_is_named_as_it_was_given() -> None:
    """Four slashes are an absolute path."""
    with pytest.raises(TrackingProblem, match=r"MLflow at sqlite:////proc/nowhere/mlflow\.db does not answer"):
        Tracking("sqlite:////proc/nowhere/mlflow.db").resolve("champion")


def test_a_stage_key_is_registered_once(tracking: Tracking) -> None:
    """A repeated stage gets the version it registered before."""
    first, again, other = registered(tracking), registered(tracking), registered(tracking, "stage-2")
    assert (first.version, again.version, other.version) == ("1", "1", "2")
    assert first.tags | {"recipe": "dm", "corpus_digest": DIGEST, "stage_key": "stage-1"} == first.tags
    assert (first.address, first.weights_sha256) == ("s3://bucket/versions/stage-1", DIGEST)


def test_a_registration_that_was_killed_half_way_is_finished_by_the_next(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its logged model is found and completed; there is one, and one point of each figure."""

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    run_id = tracking.run("stage-1", "train dm")
    given = (DEFAULT_USE, "dm", "s3://bucket/versions/stage-1", DIGEST, run_id, {"stage_key": "stage-1"})
    facts = {"card": "# dm", "figures": {"si_sdr_db": 3.0}}
    client = tracking._client
    for step in ("finalize_logged_model", "create_model_version"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(client, step, killed)
            tracking.register(*given, **facts)
    version = tracking.register(*given, **facts)
    shown = reading(tracking).get_model_version(DEFAULT_USE, version.version)
    (logged,) = reading(tracking).search_logged_models([tracking._experiment])
    assert (shown.tags["logged_model"], shown.description, str(logged.status)) == (logged.model_id, "# dm", "READY")
    assert history(tracking, run_id, "released/si_sdr_db") == [(0, 3.0)]
    assert [metric.value for metric in logged.metrics] == [3.0]


def test_two_registered_at_once_get_numbers_of_their_own(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs that end in the same moment both see an empty registry; `dm/1` must still mean one of them."""
    first = registered(tracking, "first")
    seen = tracking.versions
    looks = iter([lambda use: []])  # what the second one sees before it registers; afterwards the truth
    monkeypatch.setattr(tracking, "versions", lambda use: next(looks, seen)(use))
    second = registered(tracking, "second")
    assert {first.name, second.name} == {"dm/1", "dm/2"}
    assert [version.name for version in seen(first.use)] == ["dm/1", "dm/2"]


def test_models_are_found_by_the_names_people_use(tracking: Tracking) -> None:
    """An alias, an alias of a use, and the n-th version of a network."""
    first, gru, second = registered(tracking), registered(tracking, "g", "gru"), registered(tracking, "stage-2")
    full = registered(tracking, "full", use="fullband-48k")
    tracking.set_alias(DEFAULT_USE, "champion", second.version)
    tracking.set_alias("fullband-48k", "champion", full.version)
    assert tracking.resolve("champion") == tracking.resolve(f"{DEFAULT_USE}/champion") == second
    assert tracking.resolve("fullband-48k/champion") == tracking.resolve("champion", "fullband-48k") == full
    assert [tracking.resolve(name).name for name in ("dm/1", "dm/2", "gru/1")] == ["dm/1", "dm/2", "gru/1"]
    assert tracking.resolve("dm/2") == tracking.resolve(f"{DEFAULT_USE}/dm/2") == second
    assert tracking.resolve("gru/1") == gru
    assert tracking.resolve("fullband-48k/dm/1") == full
    assert tracking.versions(DEFAULT_USE) == [first, gru, second]


def test_aliases_move_and_go(tracking: Tracking) -> None:
    """An alias answers its last version, or nothing."""
    first, second = registered(tracking), registered(tracking, "stage-2")
    assert tracking.alias(DEFAULT_USE, "champion") is None
    tracking.set_alias(DEFAULT_USE, "champion", first.version)
    tracking.set_alias(DEFAULT_USE, "champion", second.version)
    assert tracking.alias(DEFAULT_USE, "champion") == second
    tracking.delete_alias(DEFAULT_USE, "champion")
    tracking.delete_alias(DEFAULT_USE, "champion")
    assert tracking.aliases(DEFAULT_USE) == {}


def test_tags_reach_versions_and_runs(tracking: Tracking) -> None:
    """What the gate says is written on the version and on its run."""
    version = registered(tracking)
    tracking.tag_version(version, {"gate_reason": "tied"})
    tracking.tag(version.run_id, {"gate_reason": "tied"})
    assert tracking.version(DEFAULT_USE, version.version).tags["gate_reason"] == "tied"
    assert reading(tracking).get_run(version.run_id).data.tags["gate_reason"] == "tied"


def test_a_checkpoint_folder_is_a_model_too(tracking: Tracking, tmp_path: Path) -> None:
    """By path or address, registered or not, with the digest its config.json states."""
    folder = tmp_path / "version"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model": {"kind": "dm"}, "weights_sha256": DIGEST}))
    by_path, by_address = tracking.resolve(str(folder)), tracking.resolve(f"file://{folder}")
    assert by_path == by_address
    assert (by_path.version, by_path.network, by_path.weights_sha256) == ("", "dm", DIGEST)
    assert by_path.name == by_path.address == f"file://{folder}"


def test_without_a_champion_the_answer_says_how_to_get_one(tracking: Tracking) -> None:
    """NoChampion names the use and the commands."""
    with pytest.raises(NoChampion, match=r"promoted for denoise-16k yet.*`unmuffle run`.*`unmuffle models`"):
        tracking.resolve("champion")


@pytest.mark.parametrize("name", ["dm/9", "challenger", "dmm", "no-use/champion", "s3:", "./nowhere", "dm/0"])
def test_a_model_that_does_not_exist_is_answered_with_those_that_do(tracking: Tracking, name: str) -> None:
    """UnknownName lists the versions and aliases there are."""
    version = registered(tracking)
    tracking.set_alias(DEFAULT_USE, "champion", version.version)
    with pytest.raises(UnknownName, match=r"Known: champion, dm/1\."):
        tracking.resolve(name)


def test_a_use_that_does_not_exist_is_refused_before_mlflow_is_asked(home: Home) -> None:
    """The uses are ours, not whatever somebody registered."""
    with pytest.raises(UnknownName, match="no use named 'denoise'"):
        Tracking().versions("denoise")
    assert not home.path.exists()
    assert {use.sample_rate for use in USES.values()} == {16_000, 48_000}


def test_a_tracking_address_that_mlflow_does_not_know_is_refused(home: Home) -> None:
    """A misspelt scheme is said at once, with what to type."""
    with pytest.raises((TrackingProblem, BadSetting), match="MLFLOW_TRACKING_URI"):
        Tracking("htp://127.0.0.1:5000").versions(DEFAULT_USE)
