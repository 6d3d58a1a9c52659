"""The reaper removes what nobody waits for, and nothing else."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components import rayjob
from components.kube import NEEDED, Kube
from components.reaper import reap
from simulation import storage
from tests.components.fake_kube import FakeKube, complete, failed, kubeconfig, running, serving

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LONG_AGO = (NOW - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
JUST_NOW = (NOW - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKube]:
    """The server, and KUBECONFIG that leads to it."""
    with serving(FakeKube()) as server:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(server, tmp_path / "kubeconfig")))
        yield server


def job(
    kube: FakeKube, name: str, status: dict[str, Any], run: str = "", created: str = LONG_AGO, **labels: str
) -> None:
    """A RayJob of ours that is there."""
    metadata = {
        "labels": {"app.kubernetes.io/part-of": "unmuffle", rayjob.RUN: run} | labels,
        "creationTimestamp": created,
    }
    kube.put("rayjobs", name, metadata=metadata, status=status)


def workflow(kube: FakeKube, run: str, phase: str, **spec: Any) -> None:
    """KFP's Workflow of a run."""
    kube.put("workflows", f"w-{run}", metadata={"labels": {"pipeline/runid": run}}, spec=spec, status={"phase": phase})


def test_only_what_nobody_waits_for_is_removed(kube: FakeKube) -> None:
    """Runs that go on, young jobs, and other people's jobs stay."""
    workflow(kube, "alive", "Running")
    workflow(kube, "over", "Failed")
    workflow(kube, "ended", "Running", activeDeadlineSeconds=0)
    job(kube, "of-a-living-run", running(), "alive")
    job(kube, "of-a-run-that-is-over", running(), "over")
    job(kube, "of-a-terminated-run", running(), "ended")
    job(kube, "of-a-run-that-is-gone", running(), "gone")
    job(kube, "of-a-run-about-to-be-seen", running(), "gone", created=JUST_NOW)
    job(kube, "launched-by-hand", running())
    job(kube, "ended-long-ago", complete() | {"endTime": LONG_AGO}, "alive")
    job(kube, "ended-just-now", complete() | {"endTime": JUST_NOW}, "alive")
    job(kube, "somebody-elses", complete() | {"endTime": LONG_AGO}, **{"app.kubernetes.io/part-of": "other"})
    before = set(kube.jobs)
    told = reap(Kube.connect("unmuffle"), now=lambda: NOW, dry=True)
    assert set(kube.jobs) == before
    reaped = reap(Kube.connect("unmuffle"), now=lambda: NOW)
    assert reaped == told
    assert {one.name: one.reason for one in reaped} == {
        "of-a-run-that-is-over": "its run over is over",
        "of-a-terminated-run": "its run ended was terminated",
        "of-a-run-that-is-gone": "its run gone is gone",
        "ended-long-ago": "succeeded and nobody took it away",
    }
    assert set(kube.jobs) == before - {one.name for one in reaped}


def test_what_a_reaped_job_leaves_is_kept(kube: FakeKube, tmp_path: Path) -> None:
    """Its log goes with its pod; why it failed is asked afterwards."""
    base = storage.normal(str(tmp_path / "stages/train/0123"))
    job(kube, "lost", failed("AppFailed") | {"endTime": LONG_AGO})
    kube.objects["rayjobs", "lost"]["metadata"]["annotations"] = {rayjob.ADDRESS: f"{base}/spec.json"}
    kube.put("pods", "submitter", metadata={"labels": {"batch.kubernetes.io/job-name": "lost"}})
    kube.log = "2026-11-21T10:00:00Z out of memory\n"
    reap(Kube.connect("unmuffle"), now=lambda: NOW)
    assert kube.jobs == []
    assert b"out of memory" in storage.read(f"{base}/post-mortem/lost/submitter.log")


def test_a_reaper_calls_nothing_that_its_role_does_not_name(kube: FakeKube, tmp_path: Path) -> None:
    """As for the launcher."""
    test_what_a_reaped_job_leaves_is_kept(kube, tmp_path)
    job(kube, "other", running(), "gone")
    reap(Kube.connect("unmuffle"), now=lambda: NOW)
    called: dict[tuple[str, str], set[str]] = {}
    for verb, group, resource in kube.calls:
        called.setdefault((group, resource), set()).add(verb)
    assert called == {what: set(verbs) for what, verbs in NEEDED["reaper"].items()}


def test_without_argo_nothing_is_concluded_from_a_run_that_is_not_found(kube: FakeKube) -> None:
    """A cluster that knows no Workflows has no runs to lose."""
    job(kube, "of-a-run", running(), "gone")
    kube.refused["list", "workflows"] = 404
    assert reap(Kube.connect("unmuffle"), now=lambda: NOW) == []
