"""The distil stage: who teaches whom, what identifies it, what it leaves, and that a second student asks nobody."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import torch

from components import distil
from components.distil import check_pair, pair_of, run, with_student
from components.specs import DistilSpec, Input
from components.stage import Stage
from simulation import storage
from simulation.build import Built
from simulation.cluster import ClusterInfo
from simulation.errors import BadSetting, NotThere, UnknownName
from simulation.home import Home
from training.checkpoint import load_version, save_version, version_record
from training.distillation_report import DistillationReport, impression
from training.models import GruMask
from training.recipe import Recipe
from training.tracking import Tracking

CORPUS = Input(address="file:///corpus", sha256="c" * 64)
TEACHER = Input(address="file:///teacher", sha256="a" * 64)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("champion:gru_smoke", (("champion",), "gru_smoke")),
        ("dm/3, dm/4:mine.json", (("dm/3", "dm/4"), "mine.json")),
        ("s3://bucket/version:file:///mine.json", (("s3://bucket/version",), "file:///mine.json")),
    ],
)
def test_a_pair_names_teachers_and_a_student(text: str, found: object) -> None:
    """The colon of an address is none between them."""
    assert pair_of(text) == found


@pytest.mark.parametrize("text", ["champion", "champion:", ":gru_smoke", "a:b:c", ""])
def test_what_is_no_pair_is_answered(text: str) -> None:
    """With what one looks like."""
    with pytest.raises(BadSetting, match="is not TEACHER:STUDENT"):
        pair_of(text)


def test_a_pipeline_run_without_a_pair_has_no_student(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its versions go on as they are; with one, a recipe of this very run may teach, and the student joins them."""
    trained = {"dm_smoke": TEACHER, "gru_smoke": CORPUS}
    assert with_student("", trained, CORPUS, "denoise-16k", "file:///store") == [TEACHER, CORPUS]
    asked: list[Any] = []

    def distilled(*given: Any) -> Any:
        asked.append(given)
        return type("Result", (), {"outputs": {"version": f"file:///student#{'b' * 64}"}})

    monkeypatch.setattr(distil, "distilled", distilled)
    versions = with_student("dm_smoke:gru_smoke", trained, CORPUS, "denoise-16k", "file:///store", "run", 2)
    assert versions == [TEACHER, CORPUS, Input(address="file:///student", sha256="b" * 64)]
    assert asked == [((TEACHER,), "gru_smoke", CORPUS, "file:///store", "run", 2)]


def test_a_pair_that_cannot_be_is_known_before_anything_is_trained(home: Home) -> None:
    """A recipe that is not there or for another use, one that no teacher can stand beside, a teacher nobody knows."""
    check_pair("gru_smoke:gru_causal_smoke", ("gru_smoke",), "denoise-16k")
    with pytest.raises(UnknownName, match="no recipe named 'gru_smok'"):
        check_pair("gru_smoke:gru_smok", ("gru_smoke",), "denoise-16k")
    with pytest.raises(BadSetting, match="give --use fullband-48k"):
        check_pair("gru_smoke:rad_net2_repairing", ("gru_smoke",), "denoise-16k")
    with pytest.raises(BadSetting, match="no teacher can stand beside"):
        check_pair("gru_smoke:mp_senet_2024", ("gru_smoke",), "denoise-16k")
    with pytest.raises((NotThere, UnknownName)):
        check_pair("dm/7:gru_smoke", ("gru_smoke",), "denoise-16k")


def test_a_teacher_counts_by_its_weights_wherever_they_lie() -> None:
    """Another place is the same distillation; other weights, another recipe or another corpus are others."""
    settings = {"teachers": (TEACHER,), "recipe": {"name": "r"}, "corpus": CORPUS}
    spec = DistilSpec.model_validate(settings)
    moved = TEACHER.model_copy(update={"address": "s3://bucket/teacher"})
    assert DistilSpec.model_validate(settings | {"teachers": (moved,)}).key() == spec.key()
    changes = ({"teachers": (CORPUS,)}, {"recipe": {"name": "s"}}, {"corpus": TEACHER}, {"teachers": (TEACHER, CORPUS)})
    assert len({spec.key(), *(DistilSpec.model_validate(settings | each).key() for each in changes)}) == 5
    assert DistilSpec.parse(spec.canonical(), "here") == spec


def test_a_student_that_says_something_else_is_noticed() -> None:
    """By words where a recogniser hears them, by loudness, by a spectrum that moved away from the teachers'."""
    alike = {"content_lsd": 5.0, "input_lsd": 9.0, "content_loudness_error": 0.5, "content_dwer": None}
    assert impression(alike) == ""
    for change, why in (
        ({"content_dwer": 0.5}, "words differ"),
        ({"content_loudness_error": 4.0}, "loudness differs by 4.0 LU"),
        ({"content_loudness_error": None}, "silent"),
        ({"content_lsd": 10.0}, "farther from the teachers'"),
    ):
        assert why in impression(alike | change)


# ---- the stage itself


class Two(NamedTuple):
    """Two students of one teacher, one after the other."""

    outputs: list[dict[str, Any]]
    tracking: Tracking


@pytest.fixture(scope="module")
def two(
    ray_cluster: ClusterInfo,
    built_here: Callable[..., Built],
    small_recipe: Callable[..., Recipe],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Two]:
    """The stage, run for both, in a home of their own."""
    folder = tmp_path_factory.mktemp("distil")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMUFFLE_HOME", str(folder / "home"))
        for module in ("simulation.cluster", "training.distillation_report"):
            patch.setattr(f"{module}.cluster", nullcontext)
        patch.setenv("UNMUFFLE_COMPUTE", json.dumps({"workers": 1, "training": {"workers": 1, "cpus_per_worker": 1}}))
        corpus = built_here(str(folder / "store"))
        torch.manual_seed(0)
        teacher = f"file://{folder}/teacher"
        save_version(GruMask.Config(width=12, layers=1, sees_both_sides=True).build(), teacher, {})
        named = Input(address=teacher, sha256=version_record(teacher).weights_sha256)
        given, outputs = Input(address=corpus.address, sha256=corpus.digest), []
        for seed in (0, 1):
            recipe = small_recipe(steps=4, validate_every=4, checkpoint_every=2, seed=seed).model_dump(mode="json")
            spec = DistilSpec(teachers=(named,), recipe=recipe, corpus=given)
            stage = Stage(name="distil", key=spec.key(), store=f"file://{folder}/store", attempt=1)
            outputs.append(run(spec, stage))
        yield Two(outputs, Tracking())
        shutil.rmtree(folder)


@pytest.mark.long
def test_a_second_student_asks_no_teacher(two: Two) -> None:
    """The first one's lessons are there: teachers were asked for every row of train and valid once, then for none."""
    first, second = (each["asked"] for each in two.outputs)
    assert first["train"] > 0 and first["valid"] > 0
    assert second == {"train": 0, "valid": 0}


@pytest.mark.long
def test_students_are_registered_and_compared_with_their_teacher(two: Two) -> None:
    """A version each, whose record names the teacher; and a report on quality lost and time saved."""
    names = [each["name"] for each in two.outputs]
    assert names == ["gru_mask/1", "gru_mask/2"]
    versions = [Input.of(each["version"]) for each in two.outputs]
    assert versions[0].sha256 != versions[1].sha256
    facts = version_record(versions[0].address).facts
    assert facts["recipe"]["objective"]["distillation"]["teacher"].endswith("/teacher")
    assert facts["history"][-1]["train/taught_output"] != 0
    assert load_version(versions[0].address).causal
    report = DistillationReport.parse(storage.read(two.outputs[0]["report"]), "report")
    assert report.rows > 0 and set(report.lost) == {"si_sdr", "pesq", "estoi", "lsd", "loudness_error"}
    assert report.real_time_factor["student"] > 0 and report.saved.low <= report.saved.mean <= report.saved.high
    logged = two.tracking.versions("denoise-16k")
    assert [version.name for version in logged] == names
