"""The compiled pipelines: what a cluster is given, held against a golden file and KFP's own messages."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

from components.compute import IMAGE
from pipelines.compile import PIPELINES, compiled, faults
from pipelines.request import Request
from simulation.errors import BadSetting

GOLDEN = Path(__file__).parent / "retrain.golden.yaml"


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every pipeline, compiled."""
    return {pipeline: compiled(pipeline=pipeline) for pipeline in PIPELINES}


def documents(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """PipelineSpec and PlatformSpec."""
    spec, platform = yaml.safe_load_all(text)
    return spec, platform


def test_the_compiled_pipeline_is_the_golden_one(texts: dict[str, str]) -> None:
    """A change of the pipeline is seen; if it is meant: unmuffle pipeline compile --out tests/pipelines/<the file>."""
    assert texts["retrain"] == GOLDEN.read_text()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_pipeline_is_what_kfp_reads(texts: dict[str, str], pipeline: str) -> None:
    """KFP's own message types know every key in it, those for Kubernetes too."""
    spec, platform = documents(texts[pipeline])
    json_format.ParseDict(spec, PipelineSpec())
    json_format.ParseDict(platform, PlatformSpec())
    for config in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        json_format.ParseDict(config, KubernetesExecutorConfig())


def test_retraining_stands_between_its_beginning_and_its_end(texts: dict[str, str]) -> None:
    """The steps of a laptop inside an exit handler; the last task runs whatever happened before."""
    spec, _ = documents(texts["retrain"])
    assert set(spec["root"]["dag"]["tasks"]) == {"exit-handler-1", "notify"}
    assert spec["root"]["dag"]["tasks"]["notify"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert set(spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]) == {"begin", "retrain"}
    steps = set(spec["components"]["comp-retrain"]["dag"]["tasks"])
    assert steps == {"simulate", "train-each", "distil", "evaluate", "promote"}


def test_the_loop_is_not_directly_inside_the_exit_handler(texts: dict[str, str]) -> None:
    """That fails on KFP's backend (kubeflow/pipelines#12390)."""
    spec, _ = documents(texts["retrain"])
    inside = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"].values()
    assert not any("parameterIterator" in task for task in inside)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_nothing_wrong_is_given_to_a_cluster(texts: dict[str, str], pipeline: str) -> None:
    """No task installs anything, holds a secret, or runs an image that can change; each is tried again."""
    assert faults(texts[pipeline]) == []


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("from components.steps", "pip install kfp; from components.steps", "installs something"),
        ("unmuffle-store", "AKIAIOSFODNN7EXAMPLE", "like a secret"),
        ("unmuffle-store", "postgresql://mlflow:hunter22@db/mlflow", "like a secret"),
        ("unmuffle-store", "https://hooks.slack.com/services/T0/B0/x", "like a secret"),
        ("unmuffle-python@sha256:" + "0" * 64, "registry.example/unmuffle:latest", "not named by digest"),
        ("retryPolicy:", "retryPolicies:", "no retry policy"),
    ],
)
def test_each_fault_of_compiled_yaml_is_seen(texts: dict[str, str], right: str, wrong: str, message: str) -> None:
    """Planted one at a time."""
    text = texts["retrain"]
    right = right if right in text else "from components"
    assert right in text
    assert any(message in fault for fault in faults(text.replace(right, wrong)))


def test_settings_and_secrets_come_from_the_cluster(texts: dict[str, str]) -> None:
    """By name: every task learns where the store is, and which run it belongs to."""
    _, platform = documents(texts["retrain"])
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(documents(texts["retrain"])[0]["deploymentSpec"]["executors"])
    for config in executors.values():
        assert {one["secretName"] for one in config["secretAsEnv"]} == {
            "unmuffle-store",
            "unmuffle-mlflow",
            "unmuffle-notify",
        }
        assert config["fieldPathAsEnv"] == [
            {"name": "UNMUFFLE_KFP_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}
        ]


def test_every_image_is_the_one_asked_for_by_digest() -> None:
    """A tag could change under a schedule."""
    image = "registry.example/team/unmuffle@sha256:" + "1" * 64
    text = compiled(image, "simulate-only")
    spec, _ = documents(text)
    executors = spec["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {image}
    assert IMAGE not in text


@pytest.mark.parametrize("image", ["unmuffle:latest", "unmuffle", "unmuffle@sha256:123"])
def test_an_image_without_a_digest_is_refused(image: str) -> None:
    """The answer says how to name it."""
    with pytest.raises(BadSetting, match="REF@sha256"):
        compiled(image)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_no_result_is_taken_from_kfps_cache(texts: dict[str, str], pipeline: str) -> None:
    """KFP's cache cannot see the store: every task asks it for its own result instead."""
    assert "enableCache" not in texts[pipeline]


def test_every_parameter_of_a_request_reaches_the_cluster(texts: dict[str, str]) -> None:
    """A field that was added to a request and forgotten in a pipeline would be left at its default in silence."""
    spec, _ = documents(texts["retrain"])
    asked = {*Request.model_fields, "store"}
    assert set(spec["root"]["inputDefinitions"]["parameters"]) == asked | {"reason"}
    assert set(spec["components"]["comp-begin"]["inputDefinitions"]["parameters"]) == asked | {"reason"}
    assert set(spec["components"]["comp-retrain"]["inputDefinitions"]["parameters"]) == asked | {"run_key"}
