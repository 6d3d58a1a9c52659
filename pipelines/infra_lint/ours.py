"""The RayJobs that a bundle's own settings make: checked like objects that were written by hand."""

from components import rayjob
from components.compute import Compute
from components.specs import EvaluateSpec, Input, TrainSpec
from pipelines.infra_lint.finding import Manifest

INPUT = Input(address="s3://unmuffle/store/corpora/any", sha256="0" * 64)
SPECS = (
    TrainSpec(recipe={"name": "any"}, corpus=INPUT),
    EvaluateSpec(models=(INPUT,), corpus=INPUT, use="denoise-16k", metric_versions={}),
)


def generated(objects: list[Manifest]) -> list[Manifest]:
    """One RayJob with the workers of training, one with those of evaluation, for each ConfigMap with a profile."""
    jobs = []
    for one in objects:
        text = one.get("data", {}).get("UNMUFFLE_COMPUTE") if one["kind"] == "ConfigMap" else None
        if text and one["metadata"].get("namespace") == "unmuffle":
            compute = Compute.parse(text, "UNMUFFLE_COMPUTE")
            jobs += [rayjob.manifest(spec, "s3://store/spec.json", "s3://store", compute) for spec in SPECS]
    return jobs
