"""The compiled pipeline: what a cluster is given, held against a golden file."""

from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from components.compute import IMAGE
from pipelines.compile import compiled
from simulation.errors import BadSetting

GOLDEN = Path(__file__).parent / "retrain.golden.yaml"


def test_the_compiled_pipeline_is_the_golden_one() -> None:
    """A change of the pipeline is seen; if it is meant: unmuffle pipeline compile --out tests/pipelines/<the file>."""
    assert compiled() == GOLDEN.read_text()


def test_the_compiled_pipeline_is_a_pipeline_spec() -> None:
    """KFP's own message type knows every key in it."""
    spec = json_format.ParseDict(yaml.safe_load(compiled()), PipelineSpec())
    tasks = set(spec.root.dag.tasks)
    assert tasks == {"simulate", "train-each", "distil", "evaluate", "promote"}


def test_no_task_installs_anything() -> None:
    """A task starts with what its image holds; air-gapped clusters and laptops need no index."""
    assert "pip install" not in compiled()


def test_every_image_is_the_one_asked_for_by_digest() -> None:
    """A tag could change under a schedule."""
    image = "registry.example/team/unmuffle@sha256:" + "1" * 64
    spec = yaml.safe_load(compiled(image))
    executors = spec["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {image}
    assert IMAGE not in compiled(image)


@pytest.mark.parametrize("image", ["unmuffle:latest", "unmuffle", "unmuffle@sha256:123"])
def test_an_image_without_a_digest_is_refused(image: str) -> None:
    """The answer says how to name it."""
    with pytest.raises(BadSetting, match="REF@sha256"):
        compiled(image)


def test_no_result_is_taken_from_kfps_cache() -> None:
    """KFP's cache cannot see the store: every task asks it for its own result instead."""
    spec = yaml.safe_load(compiled())
    assert "enableCache" not in str(spec)
