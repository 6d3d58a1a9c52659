"""What a person reads at the end of a training run, and of doctor: no password, and a command that works."""

import io

import pytest
from rich.console import Console

from components.stage import Result
from pipelines import doctor
from pipelines.summary import training_outcome
from simulation.home import Home
from training.tracking import Tracking

SECRET = "http://ann:s3cret@mlflow:5000"


def test_the_end_of_a_training_run_keeps_mlflows_password(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Terminals are logged; the address of the server stays."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SECRET)
    outputs = {"version": "file:///v#d", "name": "gru_mask/3", "run_id": "abc"}
    result = Result(stage="train", key="k" * 64, spec_digest="", attempt=1, seconds=1.0, outputs=outputs)
    assert training_outcome(result, "file:///store", "CORPUS").data["tracking"] == "http://mlflow:5000"


def test_doctor_keeps_mlflows_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is what people paste into issues."""
    monkeypatch.setattr(Tracking, "aliases", lambda tracking, use: {})
    assert doctor.tracking(SECRET).found == "http://mlflow:5000"


def test_what_to_type_next_takes_the_corpus_without_its_digest(home: Home) -> None:
    """`train` may be given one, `evaluate` knows none."""
    outputs = {"version": "file:///v#d", "name": "gru_mask/3", "run_id": "abc"}
    result = Result(stage="train", key="k" * 64, spec_digest="", attempt=1, seconds=1.0, outputs=outputs)
    answer = training_outcome(result, "file:///store", f"s3://b/corpus#{'a' * 64}")
    shown = io.StringIO()
    Console(file=shown, width=200).print(answer)
    assert "unmuffle evaluate gru_mask/3 --corpus s3://b/corpus --out scores" in shown.getvalue()
