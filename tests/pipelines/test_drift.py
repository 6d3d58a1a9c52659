"""Drift: told where it was planted and nowhere else, answered by other shares, and asked for once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import drift, trigger
from pipelines.drift import answering_drift, reweighted
from pipelines.kubeflow import Kubeflow
from pipelines.request import Request
from pipelines.trigger import request_training
from serving.fingerprints import Counts, address
from simulation import storage
from simulation.degradations import AddNoise
from simulation.errors import BadSetting, NothingNew
from simulation.scenario import Case, Scenario, Size
from simulation.schema import Range
from tests.pipelines.fake_kfp import FakeKfp, serving
from training.tracking import Tracking

NOW_S = 1_800_000_000.0
TODAY = "2027-01-15"
MEAN_SNR_DB = {"quiet": 30.0, "loud": 5.0}


def recordings(count: int, snr_db: float, seed: int = 0) -> Counts:
    """Around an SNR, at one level, bandwidth and room."""
    rng = np.random.default_rng(seed)
    counts = Counts()
    for _ in range(count):
        found = {"snr_db": rng.normal(snr_db, 4.0), "level_db": rng.normal(-30.0, 5.0)}
        counts = counts.added({**found, "bandwidth_hz": rng.normal(6500.0, 500.0), "rt60_s": rng.normal(0.3, 0.05)})
    return counts


def scenario(quiet: int = 3, loud: int = 1) -> Scenario:
    """Two cases with these shares."""
    noise = (AddNoise(snr_db=Range(low=0.0, high=40.0)),)
    cases = (Case(name="quiet", share=quiet, degradations=noise), Case(name="loud", share=loud, degradations=noise))
    return Scenario(name="two", cases=cases, size=Size(train_hours=1.0, valid_rows=1, test_rows=1))


class Service:
    """A use whose requests are counted, and whose champion was trained on three quiet rows to a loud one."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.request = Request(scenario=storage.join(store, "two.json"))
        storage.replace(self.request.scenario, scenario().canonical())

    def asked(self, quiet: int, loud: int, day: str = TODAY, seed: int = 1) -> None:
        """So many requests of either kind on a day."""
        both = [recordings(quiet, MEAN_SNR_DB["quiet"], seed), recordings(loud, MEAN_SNR_DB["loud"], seed)]
        where = address(self.store, self.request.use, day, f"replica{seed}")
        storage.replace(where, Counts.together(both).canonical())

    def answer(self) -> Request:
        """What a trigger for drift asks for."""
        return answering_drift(self.request, self.store, Tracking(), NOW_S)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Without a registry: the champion's corpus is at hand."""
    cases = {"quiet": recordings(300, MEAN_SNR_DB["quiet"]), "loud": recordings(100, MEAN_SNR_DB["loud"])}
    monkeypatch.setattr(drift, "_of_champion", lambda use, store, tracking: ("c" * 64, cases))
    return Service(storage.normal(str(tmp_path)))


def test_requests_like_the_corpus_are_no_drift(service: Service) -> None:
    """Three quiet ones to a loud one, as it was trained on: nothing is asked for."""
    service.asked(quiet=300, loud=100)
    with pytest.raises(NothingNew, match="No drift: 400 recordings since 2027-01-08"):
        service.answer()


def test_a_planted_drift_is_answered_by_other_shares(service: Service) -> None:
    """Nearly all requests are loud now: so are nearly all rows of the scenario; the other case is not forgotten."""
    service.asked(quiet=20, loud=380)
    proposed = Scenario.parse(storage.read(service.answer().scenario), "proposed")
    assert proposed.name == "two_reweighted"
    shares = {case.name: case.share for case in proposed.cases}
    assert shares == {"quiet": 1, "loud": 19}
    assert proposed.model_copy(update={"name": "two", "cases": scenario().cases}) == scenario()


def test_one_run_is_asked_for_however_often_somebody_looks(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are a little quieter the next day; the proposal stays, and the trigger refuses the second run."""
    monkeypatch.setattr(trigger, "data_digest", lambda request: "d" * 64)
    monkeypatch.setattr(trigger, "checked", lambda request: request)
    with serving(FakeKfp()) as kfp:
        server = Kubeflow.connect(kfp.address)

        def start(request: Request, name: str) -> Any:
            return server.submit("retrain", "pipelineInfo: {name: retrain}\n", name, {"scenario": request.scenario})

        service.asked(quiet=20, loud=380)
        request_training(service.answer(), service.store, "drift", server, start)
        first = service.answer().scenario
        service.asked(quiet=50, loud=390, seed=2)
        assert service.answer().scenario == first
        with pytest.raises(NothingNew, match=r"\(drift\) is under way"):
            request_training(service.answer(), service.store, "drift", server, start)
        (run,) = kfp.runs
    assert "two_reweighted" in run["runtime_config"]["parameters"]["scenario"]


def test_another_drift_is_another_proposal(service: Service) -> None:
    """First nearly all loud, later seven of ten."""
    service.asked(quiet=20, loud=380)
    first = service.answer().scenario
    service.asked(quiet=0, loud=0)
    service.asked(quiet=300, loud=700, seed=2)
    assert service.answer().scenario != first


def test_few_requests_say_nothing_and_old_ones_do_not_count(service: Service) -> None:
    """All loud, but too few; and many of a month ago."""
    service.asked(quiet=0, loud=150)
    service.asked(quiet=0, loud=500, day="2026-12-15", seed=2)
    with pytest.raises(NothingNew, match=r"150 recordings .* 200 are needed"):
        service.answer()


def test_a_drift_that_no_shares_answer_is_said(service: Service) -> None:
    """The cases are as near as they get, and the requests are elsewhere: somebody has to write a scenario."""
    storage.replace(service.request.scenario, scenario(quiet=1, loud=19).canonical())
    service.asked(quiet=0, loud=400)
    with pytest.raises(BadSetting, match=r"left the champion's corpus \(snr_db by 0\.\d\d\).* no other shares"):
        service.answer()


def test_the_shares_come_near_to_what_was_asked() -> None:
    """Half and half, from three to one."""
    cases = {name: recordings(400, mean) for name, mean in MEAN_SNR_DB.items()}
    half = Counts.together([recordings(200, mean, seed=3) for mean in MEAN_SNR_DB.values()])
    proposed = reweighted(scenario(), cases, half)
    assert proposed is not None
    assert [case.share for case in proposed.cases] == pytest.approx([10, 10], abs=1)
    assert reweighted(proposed, cases, half) is None
