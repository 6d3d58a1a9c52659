"""What is given to Kubernetes: every overlay passes, and every rule is seen to fire on a fault that it is there for."""

import copy
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from pipelines.infra_lint import RULES, check, generated, lint, render
from pipelines.infra_lint.metrics import OURS, RAY, unknown
from pipelines.infra_lint.render import documents
from simulation.errors import BadSetting

INFRA = Path(__file__).parents[2] / "infra"
OVERLAYS = sorted(path.name for path in (INFRA / "overlays").iterdir())
Objects = list[dict[str, Any]]


@pytest.fixture(scope="module")
def bundle() -> Objects:
    """The overlay with queues and GPUs, and the RayJobs that its settings make."""
    objects = render(INFRA / "overlays" / "gpu-spot")
    return objects + generated(objects)


def one(objects: Objects, kind: str, name: str = "", namespace: str = "") -> dict[str, Any]:
    """The first object of this kind and name."""
    return next(
        each
        for each in objects
        if each["kind"] == kind
        and name in ("", each["metadata"]["name"])
        and namespace in ("", each["metadata"].get("namespace"))
    )


def job(objects: Objects) -> dict[str, Any]:
    """Spec of a RayJob that the launcher makes."""
    return dict(one(objects, "RayJob"))["spec"]


def service(objects: Objects) -> dict[str, Any]:
    """The Ray cluster of the service."""
    return dict(one(objects, "RayService"))["spec"]["rayClusterConfig"]


def head(objects: Objects) -> dict[str, Any]:
    """The pod of the service's head."""
    return dict(service(objects)["headGroupSpec"]["template"]["spec"])


def worker(objects: Objects) -> dict[str, Any]:
    """The pod of the service's workers."""
    return service(objects)["workerGroupSpecs"][0]["template"]["spec"]  # type: ignore[no-any-return]


def mlflow(objects: Objects) -> dict[str, Any]:
    """The pod of MLflow."""
    return one(objects, "Deployment", "mlflow")["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def put(place: Callable[[Objects], dict[str, Any]], **values: Any) -> Callable[[Objects], None]:
    """A fault: these values there."""
    return lambda objects: place(objects).update(values)


def variable(place: Callable[[Objects], dict[str, Any]], name: str, value: str) -> Callable[[Objects], None]:
    """A fault: this variable in the first container."""
    return lambda objects: place(objects)["containers"][0].setdefault("env", []).append({"name": name, "value": value})


def take(place: Callable[[Objects], dict[str, Any]], key: str) -> Callable[[Objects], None]:
    """A fault: this key is missing."""
    return lambda objects: place(objects).pop(key)


def config(old: str, new: str) -> Callable[[Objects], None]:
    """A fault: serveConfigV2 with this instead of that."""

    def plant(objects: Objects) -> None:
        spec = one(objects, "RayService")["spec"]
        assert old in spec["serveConfigV2"]
        spec["serveConfigV2"] = spec["serveConfigV2"].replace(old, new)

    return plant


def container(place: Callable[[Objects], dict[str, Any]]) -> Callable[[Objects], dict[str, Any]]:
    """The first container of a pod."""
    return lambda objects: place(objects)["containers"][0]  # type: ignore[no-any-return]


def of(kind: str, name: str = "", namespace: str = "") -> Callable[[Objects], dict[str, Any]]:
    """An object's spec."""
    return lambda objects: one(objects, kind, name, namespace)["spec"]  # type: ignore[no-any-return]


def meta(kind: str, name: str = "") -> Callable[[Objects], dict[str, Any]]:
    """An object's metadata."""
    return lambda objects: one(objects, kind, name)["metadata"]  # type: ignore[no-any-return]


def groups(objects: Objects) -> None:
    """Eighteen worker groups."""
    cluster = job(objects)["rayClusterSpec"]
    cluster["workerGroupSpecs"] = [cluster["workerGroupSpecs"][0] | {"groupName": f"g{n}"} for n in range(18)]


def verb(change: Callable[[list[str]], Any]) -> Callable[[Objects], None]:
    """A fault in the launcher's verbs on RayJobs."""
    return lambda objects: change(one(objects, "Role", "unmuffle-launcher")["rules"][0]["verbs"])


def redis(objects: Objects) -> None:
    """GCS fault tolerance, asked for twice."""
    service(objects)["gcsFaultToleranceOptions"] = {"redisAddress": "redis:6379"}
    variable(head, "RAY_REDIS_ADDRESS", "redis:6379")(objects)


FAULTS: list[tuple[str, str, Callable[[Objects], None]]] = [
    ("shape", "misspelt key of a pod", put(mlflow, restartPolcy="Never")),
    ("shape", "misspelt key of KubeRay", put(job, shutDownAfterJobFinishes=True)),
    ("shape", "number in quotes", put(of("Deployment", "mlflow"), replicas="2")),
    ("shape", "kind nobody knows", lambda objects: objects.append({"kind": "Widget", "metadata": {"name": "w"}})),
    ("twice", "same name", lambda objects: objects.append(one(objects, "Service", "mlflow"))),
    ("ray-name", "48 characters", put(meta("RayJob"), name="train-" + "x" * 42)),
    ("ray-name", "upper case", put(meta("RayService"), name="Unmuffle")),
    ("ray-container-first", "sidecar", lambda o: head(o)["containers"].insert(0, {"name": "proxy"})),
    ("ray-start-params", "labels", lambda o: service(o)["headGroupSpec"]["rayStartParams"].update(labels="a=b")),
    ("ray-start-params", "resources twice", lambda o: service(o)["headGroupSpec"].update(resources={"CPU": "1"})),
    ("ray-head-takes-no-work", "CPUs", lambda o: service(o)["headGroupSpec"]["rayStartParams"].pop("num-cpus")),
    ("ray-autoscaler", "restarted", put(worker, restartPolicy="Always")),
    ("ray-autoscaler", "version twice", variable(head, "RAY_enable_autoscaler_v2", "1")),
    ("ray-authentication", "default", take(service, "authOptions")),
    ("ray-authentication", "old Ray", put(service, rayVersion="2.51.0")),
    ("ray-authentication", "Kubernetes token", lambda o: service(o)["authOptions"].update(enableK8sTokenAuth=True)),
    ("ray-fault-tolerance", "Redis twice", redis),
    ("ray-drain", "default grace", take(worker, "terminationGracePeriodSeconds")),
    ("ray-drain", "default drain", lambda o: worker(o)["containers"][0]["env"].pop(0)),
    ("ray-drain", "drain as long as grace", put(worker, terminationGracePeriodSeconds=90)),
    ("rayjob-ends", "cluster stays", put(job, shutdownAfterJobFinishes=False)),
    ("rayjob-ends", "no deadline", take(job, "activeDeadlineSeconds")),
    ("rayjob-ends", "rules beside shutdown", put(job, deletionStrategy={"deletionRules": []})),
    ("rayjob-ends", "not suspended under Kueue", take(job, "suspend")),
    ("rayjob-ends", "eighteen groups", groups),
    ("rayjob-ends", "autoscaling under Kueue", lambda o: job(o)["rayClusterSpec"].update(enableInTreeAutoscaling=True)),
    ("serve-config", "misspelt on top", config("proxy_location", "proxy_locations")),
    ("serve-config", "misspelt in a deployment", config("max_queued_requests", "max_queue_requests")),
    ("serve-config", "misspelt in autoscaling", config("min_replicas", "minimum_replicas")),
    ("serve-config", "wrong type", config("max_ongoing_requests: 4", "max_ongoing_requests: many")),
    ("serve-config", "version without weights", config("weights_sha256", "weights_sha25")),
    ("image-by-digest", "tag", put(container(mlflow), image="registry.example/unmuffle:latest")),
    ("restricted", "root", lambda o: mlflow(o)["securityContext"].update(runAsUser=0)),
    ("restricted", "seccomp", lambda o: mlflow(o)["securityContext"].pop("seccompProfile")),
    ("restricted", "host network", put(mlflow, hostNetwork=True)),
    ("restricted", "host path", lambda o: mlflow(o)["volumes"].append({"name": "h", "hostPath": {"path": "/"}})),
    ("restricted", "privileges", take(container(worker), "securityContext")),
    ("no-token", "default", take(mlflow, "automountServiceAccountToken")),
    ("limits", "memory", lambda o: container(mlflow)(o)["resources"].pop("limits")),
    ("limits", "requests", lambda o: container(mlflow)(o)["resources"]["requests"].pop("cpu")),
    ("no-secret", "Secret", lambda o: o.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})),
    ("no-secret", "variable", variable(mlflow, "AWS_SECRET_ACCESS_KEY", "abc")),
    ("no-secret", "address", variable(mlflow, "MLFLOW_BACKEND_STORE_URI", "postgresql://mlflow:abc@db/mlflow")),
    ("no-secret", "ConfigMap", lambda o: one(o, "ConfigMap")["data"].update(DB_PASSWORD="abc")),
    ("references", "account", put(mlflow, serviceAccountName="nobody")),
    ("references", "Secret", lambda o: o.remove(one(o, "ExternalSecret", "unmuffle-mlflow-database"))),
    ("references", "Role", lambda o: o.remove(one(o, "Role", "unmuffle-reaper"))),
    ("selectors", "Service", put(of("Service", "mlflow"), selector={"app.kubernetes.io/name": "mlflw"})),
    ("selectors", "policy", put(of("NetworkPolicy", "ray"), podSelector={"matchLabels": {"ray.io/node": "yes"}})),
    ("selectors", "monitor", put(of("PodMonitor"), selector={"matchLabels": {"ray.io/node-type": "heads"}})),
    ("default-deny", "missing", lambda o: o.remove(one(o, "NetworkPolicy", "deny", "unmuffle"))),
    ("default-deny", "open", put(of("NetworkPolicy", "deny", "unmuffle"), egress=[{}])),
    ("default-deny", "credentials", lambda o: of("NetworkPolicy", "outside")(o)["egress"][1]["to"][0].update(
        ipBlock={"cidr": "0.0.0.0/0"})),
    ("pod-security", "label", lambda o: meta("Namespace", "unmuffle")(o)["labels"].clear()),
    ("roles", "too few", verb(lambda verbs: verbs.remove("delete"))),
    ("roles", "too many", verb(lambda verbs: verbs.append("patch"))),
    ("cron-jobs", "overlap", put(of("CronJob", "reaper"), concurrencyPolicy="Allow")),
    ("cron-jobs", "no end", lambda o: of("CronJob", "reaper")(o)["jobTemplate"]["spec"].pop("activeDeadlineSeconds")),
    ("disruption", "missing", lambda o: o.remove(one(o, "PodDisruptionBudget", "serve"))),
    ("metrics", "alert", lambda o: of("PrometheusRule")(o)["groups"][0]["rules"][0].update(expr="ray_serve_rtf > 1")),
    ("metrics", "dashboard", lambda o: one(o, "ConfigMap", "dashboard-cost")["data"].update(
        {"cost.json": '{"panels": [{"title": "t", "targets": [{"expr": "sum(unmuffle_cost_total)"}]}]}'})),
]  # fmt: skip


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_passes(overlay: str) -> None:
    """With the RayJobs that its settings make."""
    objects = render(INFRA / "overlays" / overlay)
    assert check(objects + generated(objects)) == []


@pytest.mark.parametrize(("rule", "what", "plant"), FAULTS, ids=[f"{rule}: {what}" for rule, what, _ in FAULTS])
def test_a_rule_fires_on_its_fault(bundle: Objects, rule: str, what: str, plant: Callable[[Objects], None]) -> None:
    """And on that alone: the bundle without the fault passes."""
    faulty = copy.deepcopy(bundle)
    plant(faulty)
    found = [finding for finding in RULES[rule](faulty)]
    assert found, f"{rule} did not see: {what}"
    assert list(RULES[rule](bundle)) == []


def test_no_rule_is_without_a_fault() -> None:
    """A rule that was never seen to fire may as well not be there."""
    assert {rule for rule, _, _ in FAULTS} == set(RULES)


def test_a_fault_in_an_overlay_is_said_with_its_name(tmp_path: Path) -> None:
    """The command's answer: which overlay, which object, what is expected, which rule."""
    shutil.copytree(INFRA, tmp_path / "infra")
    path = tmp_path / "infra/base/cron.yaml"
    path.write_text(path.read_text().replace("concurrencyPolicy: Forbid", "concurrencyPolicy: Allow"))
    _, findings = lint(tmp_path / "infra")
    said = "air-gapped: CronJob unmuffle/reaper: expected concurrencyPolicy: Forbid [cron-jobs]"
    assert said in [str(one) for one in findings]


def test_a_key_that_stands_twice_is_refused() -> None:
    """YAML readers keep the last one."""
    with pytest.raises(BadSetting, match="replicas stands there twice"):
        documents("spec: {replicas: 1, replicas: 2}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resources: []\nnamePrefix: a-\n", "namePrefix is not understood"),
        ("resources: []\npatches: [{target: {kind: Pod}, patch: '[]'}]\n", "no such object"),
    ],
)
def test_what_would_be_built_differently_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Only the part of kustomize that ours use is understood."""
    (tmp_path / "kustomization.yaml").write_text(text)
    with pytest.raises(BadSetting, match=message):
        render(tmp_path)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_our_reading_of_an_overlay_is_kustomizes(overlay: str) -> None:
    """Object by object."""
    command = ["kubectl", "kustomize", str(INFRA / "overlays" / overlay)]
    built = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def by_name(objects: Objects) -> dict[tuple[str, str, str], dict[str, Any]]:
        metadata = [each["metadata"] for each in objects]
        keys = [(each["kind"], m.get("namespace", ""), m["name"]) for each, m in zip(objects, metadata, strict=True)]
        return dict(zip(keys, objects, strict=True))

    assert by_name(render(INFRA / "overlays" / overlay)) == by_name(list(yaml.safe_load_all(built)))


def test_rays_metrics_are_in_the_ray_that_is_installed() -> None:
    """Names change between releases; an alert on an old one never fires."""
    root = Path(ray.__file__).parent
    sources = [*(root / "serve/_private").glob("*.py"), *(root / "train/v2/_internal/metrics").glob("*.py")]
    sources += [root / "data/_internal/stats.py", root / "dashboard/modules/reporter/reporter_agent.py"]
    text = "\n".join(path.read_text() for path in sources).replace("{protocol_name}", "http")
    missing = {name for name in RAY if not re.search(rf"\b{name}\b", text)}
    assert missing == set()


def test_names_of_metrics_are_told_from_labels() -> None:
    """A label that looks like a metric is none."""
    expression = "sum by (ray_train_run_name) (rate(ray_train_controller_state{ray_x='1'}[5m])) / ray_nothing_total"
    assert unknown(expression) == ["ray_nothing_total"]


def test_our_own_metrics_are_those_of_the_service() -> None:
    """By the names that a replica registers them under."""
    text = (INFRA.parent / "serving/telemetry.py").read_text()
    assert {name for name in OURS if f'"{name}"' not in text} == set()
