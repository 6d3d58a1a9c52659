"""Planted faults of a set-up: the doctor says which, each in its own words, and finds nothing else wrong."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines import doctor, doctor_cluster
from pipelines.doctor import Check, examine
from simulation import storage
from simulation.place import Stored
from tests.components.fake_kube import FakeKube, kubeconfig
from tests.components.fake_kube import serving as serving_kube
from tests.pipelines.fake_kfp import FakeKfp
from tests.pipelines.fake_kfp import serving as serving_kfp

COMPUTE: dict[str, Any] = {
    "workers": 2,
    "training": {"workers": 1},
    "cluster": {"image": "registry.example/unmuffle@sha256:" + "1" * 64},
}


@dataclass
class Setup:
    """A set-up in which nothing is wrong."""

    patch: pytest.MonkeyPatch
    kube: FakeKube
    kfp: FakeKfp
    port: int

    def compute(self, **changes: Any) -> None:
        self.patch.setenv("UNMUFFLE_COMPUTE", json.dumps(COMPUTE | changes))

    def wrong(self) -> dict[str, Check]:
        """The checks that fail."""
        return {check.name: check for check in examine(self.port, cluster=True) if not check.ok}


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    """Stubs of Kubernetes and Kubeflow; MLflow answers where a test does not look at it."""
    with serving_kube(FakeKube()) as kube, serving_kfp(FakeKfp()) as kfp, socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        monkeypatch.setenv("UNMUFFLE_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(kube, tmp_path / "kubeconfig")))
        monkeypatch.setenv("UNMUFFLE_KFP_HOST", kfp.address)
        monkeypatch.setattr(doctor, "loading", lambda: Check("loading", True, ""))
        monkeypatch.setattr(doctor, "tracking", lambda uri: Check("mlflow", True, uri))
        made = Setup(monkeypatch, kube, kfp, held.getsockname()[1])
        made.compute()
        yield made


def _away(setup: Setup) -> None:
    setup.kube.outage = [503] * 50


def _no_kuberay(setup: Setup) -> None:
    setup.kube.refused["list", "rayjobs"] = 404


def _no_right(setup: Setup) -> None:
    setup.kube.forbidden.add(("delete", "rayjobs"))


def _kubeflow_refuses(setup: Setup) -> None:
    setup.kfp.refuse = 401


def _placeholder(setup: Setup) -> None:
    setup.compute(cluster={"image": "registry.example/unmuffle@sha256:" + "0" * 64})


def _other_ray(setup: Setup) -> None:
    setup.patch.setattr(doctor_cluster, "RAY_VERSION", "2.59.0")


def _tag(setup: Setup) -> None:
    setup.compute(cluster={"image": "registry.example/unmuffle:latest"})


def _bad_secret(setup: Setup) -> None:
    setup.patch.setenv("UNMUFFLE_NOTIFY", '{"webhok": "https://hooks.example/abc"}')


def _clock_is_late(setup: Setup) -> None:
    def an_hour_ago(address: str) -> Stored | None:
        found = real(address)
        return Stored(found.address, found.size, found.modified - 3600) if found else None

    real = storage.stored
    setup.patch.setattr(storage, "stored", an_hour_ago)


def _one_writer(setup: Setup) -> None:
    setup.patch.setattr(storage, "honours_conditional_writes", lambda address: False)


def _no_bucket(setup: Setup) -> None:
    setup.patch.setenv("UNMUFFLE_STORE", "s3://a-bucket-that-is-not-there/store")
    setup.patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    setup.patch.setenv("AWS_ACCESS_KEY_ID", "a")
    setup.patch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    setup.patch.setenv("AWS_MAX_ATTEMPTS", "1")


def _no_gpu(setup: Setup) -> None:
    setup.patch.setenv("UNMUFFLE_COMPUTE", json.dumps({"workers": 1, "training": {"gpus_per_worker": 1}}))
    setup.patch.setattr("torch.cuda.is_available", lambda: False)


def _port_taken(setup: Setup) -> None:
    setup.port = int(setup.kfp.address.rpartition(":")[2])


def _mlflow_down(setup: Setup) -> None:
    from training.tracking import Tracking

    def refuse(self: Any, use: str) -> Any:
        from simulation.errors import TrackingProblem

        raise TrackingProblem("MLflow at http://mlflow:5000 does not answer.")

    setup.patch.setattr(Tracking, "aliases", refuse)
    setup.patch.setattr(doctor, "tracking", TRACKING)


TRACKING = doctor.tracking

CASES: dict[Callable[[Setup], None], tuple[set[str], str, str]] = {
    _away: ({"kubernetes", "rights"}, "kubernetes", "did not answer"),
    _no_kuberay: ({"kubernetes"}, "kubernetes", "no RayJobs here"),
    _no_right: ({"rights"}, "rights", "may not: delete rayjobs"),
    _kubeflow_refuses: ({"kubeflow"}, "kubeflow", "401"),
    _placeholder: ({"image"}, "image", "is a placeholder"),
    _other_ray: ({"versions"}, "versions", "2.59.0 in manifests"),
    _tag: ({"settings", "kubernetes", "rights", "image"}, "settings", "is not by digest"),
    _bad_secret: ({"settings"}, "settings", "did you mean 'webhook'?"),
    _clock_is_late: ({"clock"}, "clock", "3600 s from the store's"),
    _one_writer: ({"store"}, "store", "one writer at a time"),
    _no_bucket: ({"store", "clock"}, "store", "a-bucket-that-is-not-there"),
    _no_gpu: ({"gpu", "kubernetes", "rights", "image"}, "gpu", "0 that torch can use"),
    _port_taken: ({"port"}, "port", "is taken"),
    _mlflow_down: ({"mlflow"}, "mlflow", "does not answer"),
}
"""Fault -> the checks that see it, the one that names it, and its words. What cannot be looked at fails too."""


def test_a_sound_set_up_has_nothing_wrong(setup: Setup) -> None:
    """On a laptop and before a cluster."""
    assert setup.wrong() == {}


@pytest.mark.parametrize("plant", CASES, ids=lambda plant: plant.__name__[1:].replace("_", " "))
def test_a_planted_fault_is_named(setup: Setup, plant: Callable[[Setup], None]) -> None:
    """By the check it belongs to, with something to type."""
    seen, name, words = CASES[plant]
    plant(setup)
    wrong = setup.wrong()
    assert set(wrong) == seen
    assert words in wrong[name].found
    assert wrong[name].mend


def test_every_fault_has_words_of_its_own() -> None:
    """Ten faults, ten answers, and some more."""
    answers = [(name, words) for _, name, words in CASES.values()]
    assert len(set(answers)) == len(CASES) >= 10


def test_a_server_that_never_answers_is_named_in_time(setup: Setup) -> None:
    """A firewall that drops packets in silence: the doctor does not wait as long as each client would."""
    never = threading.Event()
    setup.patch.setattr(doctor, "tracking", lambda uri: Check("mlflow", never.wait(40), uri))
    setup.patch.setattr(doctor, "ANSWER_S", 1.0)
    begun = time.monotonic()
    answer = setup.wrong()["mlflow"]
    never.set()
    assert time.monotonic() - begun < 30
    assert "no answer within 1 s" in answer.found and "firewall" in answer.mend
