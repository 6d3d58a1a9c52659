"""The rules: each looks at a whole bundle and says what will not work, or will not hold, though its schema is right.

Sources: KubeRay's validation and CI (what a schema cannot say), Kubernetes' "restricted" pod security, and what went
wrong for others: clusters that were stopped before they could drain, schedules that overlapped, settings with a typo
that were deployed with defaults.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from components.cluster_profile import BY_DIGEST
from components.kube import NEEDED
from components.rayjob import DRAIN_S, GRACE_S
from pipelines.infra_lint.finding import Finding, Manifest, named
from pipelines.infra_lint.metrics import unknown
from pipelines.infra_lint.pods import cluster_of, groups_of, pods_of, selected
from pipelines.infra_lint.serve_config import unknown_keys
from pipelines.infra_lint.shapes import wrong_shapes

Rule = Callable[[list[Manifest]], Iterator[Finding]]
RULES: dict[str, Rule] = {}

NAME = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
LONGEST = {"RayJob": 47, "RayService": 47, "RayCluster": 53}
MOST_GROUPS = 17
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|API_KEY|CREDENTIAL", re.IGNORECASE)
WITH_PASSWORD = re.compile(r"://[^/\s:@]+:[^/\s@]+@")
FIRST_WITH_TOKEN, FIRST_WITH_KUBERNETES_TOKEN = (2, 52, 0), (2, 55, 0)
DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
MAY_CALL = {"unmuffle-reaper"}
"""Accounts whose pods may hold a token."""


def rule(check: Callable[[list[Manifest]], Iterator[tuple[str, str]]]) -> Rule:
    """Register a check under its own name, with dashes."""
    name = check.__name__.replace("_", "-")

    def run(objects: list[Manifest]) -> Iterator[Finding]:
        for about, message in check(objects):
            yield Finding(name, about, message)

    RULES[name] = run
    return run


def ray_of(objects: list[Manifest]) -> Iterator[tuple[str, Manifest, dict[str, Any]]]:
    """Objects with a Ray cluster in them."""
    for one in objects:
        cluster = cluster_of(one)
        if cluster is not None:
            yield named(one), one, cluster


@rule
def shape(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Keys that do not exist, values of another type."""
    for one in objects:
        for wrong in wrong_shapes(one):
            yield named(one), wrong


@rule
def twice(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Two objects of one name: the later would replace the earlier."""
    seen = set()
    for one in objects:
        if named(one) in seen and one["kind"] != "RayJob":
            yield named(one), "stands there twice"
        seen.add(named(one))


@rule
def ray_name(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """KubeRay appends to names; what grows too long is refused when pods are made."""
    for one in objects:
        name = one["metadata"]["name"]
        if one["kind"] in LONGEST and (len(name) > LONGEST[one["kind"]] or not NAME.match(name)):
            yield named(one), f"expected a DNS label of at most {LONGEST[one['kind']]} characters"


@rule
def ray_container_first(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """KubeRay takes the first container for Ray's."""
    for pods in pods_of(objects):
        if pods.ray and (not pods.containers or not str(pods.containers[0].get("name", "")).startswith("ray-")):
            yield pods.about, "its first container must be Ray's (ray-head, ray-worker)"


@rule
def ray_start_params(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Resources in both places, or labels in the wrong one, make KubeRay refuse the object."""
    for about, _, cluster in ray_of(objects):
        for name, group in groups_of(cluster):
            given = group.get("rayStartParams", {})
            if {"num-cpus", "num-gpus", "memory", "resources"} & set(given) and "resources" in group:
                yield f"{about} {name}", "resources stand in rayStartParams and in the group; give one"
            if "labels" in given:
                yield f"{about} {name}", "labels belong to the group, not to rayStartParams"


@rule
def ray_head_takes_no_work(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """A head that also trains dies with it."""
    for about, _, cluster in ray_of(objects):
        if cluster.get("headGroupSpec", {}).get("rayStartParams", {}).get("num-cpus") != "0":
            yield about, 'the head must give no CPUs: rayStartParams {num-cpus: "0"}'


@rule
def ray_autoscaler(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Autoscaler v2 needs pods that are not restarted, and its version said once."""
    for about, _, cluster in ray_of(objects):
        if not cluster.get("enableInTreeAutoscaling"):
            continue
        for name, group in groups_of(cluster):
            spec = group.get("template", {}).get("spec", {})
            if spec.get("restartPolicy", "Never") != "Never":
                yield f"{about} {name}", "restartPolicy must be Never, or not set, under autoscaler v2"
            variables = {one["name"] for each in spec.get("containers", ()) for one in each.get("env", ())}
            if "RAY_enable_autoscaler_v2" in variables and "version" in cluster.get("autoscalerOptions", {}):
                yield f"{about} {name}", "RAY_enable_autoscaler_v2 and autoscalerOptions.version exclude each other"


@rule
def ray_authentication(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Whoever reaches a Ray without a token runs code on it; the default differs between releases, so it is said."""
    for about, one, cluster in ray_of(objects):
        options = cluster.get("authOptions", {})
        version = tuple(int(part) for part in str(cluster.get("rayVersion", "0")).split(".") if part.isdigit())
        if options.get("mode") != "token":
            yield about, "expected authOptions {mode: token}"
        if version < FIRST_WITH_TOKEN:
            yield about, f"rayVersion {cluster.get('rayVersion')} has no token authentication; expected 2.52.0 or later"
        if options.get("enableK8sTokenAuth"):
            if one["kind"] in ("RayJob", "RayService"):
                yield about, "enableK8sTokenAuth is refused for RayJob and RayService"
            elif version < FIRST_WITH_KUBERNETES_TOKEN or "secretName" in options:
                yield about, "enableK8sTokenAuth needs Ray 2.55.0 and excludes secretName"


@rule
def ray_fault_tolerance(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """gcsFaultToleranceOptions must be the one place that says where Redis is."""
    for about, one, cluster in ray_of(objects):
        if "gcsFaultToleranceOptions" not in cluster:
            continue
        if "ray.io/ft-enabled" in one["metadata"].get("annotations", {}):
            yield about, "annotation ray.io/ft-enabled excludes gcsFaultToleranceOptions"
        if "redis-password" in cluster.get("headGroupSpec", {}).get("rayStartParams", {}):
            yield about, "redis-password in rayStartParams excludes gcsFaultToleranceOptions"
        for name, group in groups_of(cluster):
            for container in group.get("template", {}).get("spec", {}).get("containers", ()):
                for variable in container.get("env", ()):
                    if variable["name"] in ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD"):
                        yield f"{about} {name}", f"{variable['name']} excludes gcsFaultToleranceOptions"


@rule
def ray_drain(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Time to move work away before a pod is killed: KubeRay sets none, and both defaults are half a minute."""
    for pods in pods_of(objects):
        if not pods.ray:
            continue
        if pods.spec.get("terminationGracePeriodSeconds", 30) < GRACE_S:
            yield pods.about, f"expected terminationGracePeriodSeconds of {GRACE_S} or more"
        for container in pods.containers[:1]:
            drain = {one["name"]: one.get("value") for one in container.get("env", ())}.get(DRAIN)
            if drain is None or not DRAIN_S <= int(drain) < pods.spec.get("terminationGracePeriodSeconds", 30):
                yield pods.about, f"expected {DRAIN} of at least {DRAIN_S}, and less than the grace period"


@rule
def rayjob_ends(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Every job has deadlines and takes its cluster along; Kueue refuses those that do not."""
    for about, one, cluster in ray_of(objects):
        if one["kind"] != "RayJob":
            continue
        spec = one["spec"]
        if not spec.get("shutdownAfterJobFinishes"):
            yield about, "expected shutdownAfterJobFinishes: true"
        if spec.get("deletionStrategy") and spec.get("shutdownAfterJobFinishes"):
            yield about, "deletionStrategy excludes shutdownAfterJobFinishes"
        for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
            if not spec.get(name):
                yield about, f"expected {name}: without it a lost job runs for ever"
        if "clusterSelector" in spec and spec.get("backoffLimit"):
            yield about, "clusterSelector excludes backoffLimit"
        if "kueue.x-k8s.io/queue-name" in one["metadata"].get("labels", {}):
            if "clusterSelector" in spec or not spec.get("suspend"):
                yield about, "under Kueue: suspend: true, and no clusterSelector"
            if len(cluster.get("workerGroupSpecs", ())) > MOST_GROUPS:
                yield about, f"Kueue takes at most {MOST_GROUPS} worker groups"
            if cluster.get("enableInTreeAutoscaling"):
                yield about, "under Kueue the number of workers must be fixed"


@rule
def serve_config(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Ray Serve takes keys that it does not know without a word, and deploys with defaults."""
    for one in objects:
        if one["kind"] == "RayService":
            for wrong in unknown_keys(one["spec"].get("serveConfigV2", "")):
                yield named(one), f"serveConfigV2: {wrong}"


@rule
def image_by_digest(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """A tag can mean another image tomorrow."""
    for pods in pods_of(objects):
        for container in pods.containers + pods.spec.get("initContainers", []):
            if not BY_DIGEST.match(str(container.get("image", ""))):
                yield pods.about, f"image {container.get('image')!r} is not named by digest"


@rule
def restricted(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Kubernetes' "restricted" pod security."""
    for pods in pods_of(objects):
        security = pods.spec.get("securityContext", {})
        if not security.get("runAsNonRoot") or security.get("runAsUser") == 0:
            yield pods.about, "expected securityContext.runAsNonRoot, with a user that is not root"
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield pods.about, "expected seccompProfile {type: RuntimeDefault}"
        if any(pods.spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            yield pods.about, "nothing of the host may be shared"
        if any("hostPath" in volume for volume in pods.spec.get("volumes", ())):
            yield pods.about, "no hostPath volumes"
        for container in pods.containers:
            own = container.get("securityContext", {})
            if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
                yield pods.about, f"{container.get('name')}: expected allowPrivilegeEscalation: false"
            if own.get("capabilities", {}).get("drop") != ["ALL"]:
                yield pods.about, f"{container.get('name')}: expected capabilities {{drop: [ALL]}}"


@rule
def no_token(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """A pod that calls no API holds no token; the autoscaler's head gets its own account from KubeRay."""
    for pods in pods_of(objects):
        if pods.ray == "head" and "serviceAccountName" not in pods.spec:
            continue
        if pods.spec.get("serviceAccountName") in MAY_CALL:
            continue
        if pods.spec.get("automountServiceAccountToken") is not False:
            yield pods.about, "expected automountServiceAccountToken: false"


@rule
def limits(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Memory has a limit, and what is asked for is what may be used; CPU is asked for."""
    for pods in pods_of(objects):
        for container in pods.containers:
            resources = container.get("resources", {})
            if "cpu" not in resources.get("requests", {}) or "memory" not in resources.get("requests", {}):
                yield pods.about, f"{container.get('name')}: expected requests for cpu and memory"
            if "memory" not in resources.get("limits", {}):
                yield pods.about, f"{container.get('name')}: expected a limit for memory"


@rule
def no_secret(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Secrets are referred to, never written down."""
    for one in objects:
        if one["kind"] == "Secret":
            yield named(one), "a Secret with its content; expected an ExternalSecret"
        for key, value in one.get("data", {}).items() if one["kind"] == "ConfigMap" else ():
            if SECRET_NAME.search(key) or WITH_PASSWORD.search(value):
                yield named(one), f"{key} looks like a secret"
    for pods in pods_of(objects):
        for container in pods.containers:
            for variable in container.get("env", ()):
                value = str(variable.get("value", ""))
                if value and (SECRET_NAME.search(variable["name"]) or WITH_PASSWORD.search(value)):
                    yield pods.about, f"{variable['name']} is a secret with its value; expected valueFrom.secretKeyRef"


@rule
def references(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """What a pod names is in the bundle: its account, ConfigMaps, Secrets; a binding's account and Role."""
    there = {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in objects}
    there |= {
        ("Secret", one["metadata"]["namespace"], one["spec"]["target"]["name"])
        for one in objects
        if one["kind"] == "ExternalSecret"
    }
    for pods in pods_of(objects):
        wanted = [("ServiceAccount", pods.spec["serviceAccountName"])] if "serviceAccountName" in pods.spec else []
        for container in pods.containers:
            for source in container.get("envFrom", ()):
                for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                    if key in source and not source[key].get("optional"):
                        wanted.append((kind, source[key]["name"]))
        for kind, name in wanted:
            if (kind, pods.namespace, name) not in there:
                yield pods.about, f"there is no {kind} {name} in {pods.namespace}"
    for one in objects:
        if one["kind"] == "RoleBinding":
            role = ("Role", one["metadata"]["namespace"], one["roleRef"]["name"])
            accounts = [("ServiceAccount", each["namespace"], each["name"]) for each in one["subjects"]]
            for kind, namespace, name in [role, *accounts]:
                if (kind, namespace, name) not in there:
                    yield named(one), f"there is no {kind} {name} in {namespace}"


@rule
def selectors(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """A selector that meets nothing protects, exposes and measures nothing."""
    pods = list(pods_of(objects))
    for one in objects:
        spec, namespace = one.get("spec", {}), one["metadata"].get("namespace", "")
        if one["kind"] == "Service":
            selector: Any = {"matchLabels": spec.get("selector", {})}
        elif one["kind"] == "NetworkPolicy":
            selector = spec.get("podSelector")
        elif one["kind"] in ("PodDisruptionBudget", "PodMonitor", "Deployment"):
            selector = spec.get("selector")
        else:
            continue
        places = spec.get("namespaceSelector", {}).get("matchNames", [namespace])
        if not any(each.namespace in places and selected(selector, each.labels) for each in pods):
            yield named(one), f"its selector {selector} meets no pod in {', '.join(places)}"


@rule
def default_deny(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Every namespace of ours is closed both ways before anything is opened; no way to the credentials of a cloud."""
    policies = [one for one in objects if one["kind"] == "NetworkPolicy"]
    for one in objects:
        name = one["metadata"]["name"]
        if one["kind"] != "Namespace":
            continue
        closed = [each for each in policies if each["metadata"]["namespace"] == name and _closes(each["spec"])]
        if not closed:
            yield named(one), "expected a NetworkPolicy for all its pods, of both types, that opens nothing"
    for one in policies:
        for rule_ in one["spec"].get("egress", ()):
            for peer in rule_.get("to", ()):
                block = peer.get("ipBlock", {})
                if block.get("cidr") == "0.0.0.0/0" and "169.254.169.254/32" not in block.get("except", ()):
                    yield named(one), "169.254.169.254, where clouds answer with credentials, must be left out"


def _closes(spec: dict[str, Any]) -> bool:
    both = set(spec.get("policyTypes", ())) == {"Ingress", "Egress"}
    return both and not spec.get("podSelector") and not spec.get("ingress") and not spec.get("egress")


@rule
def pod_security(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """The cluster itself holds our namespaces to it."""
    for one in objects:
        labels = one["metadata"].get("labels", {})
        if one["kind"] == "Namespace" and labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            yield named(one), "expected the label pod-security.kubernetes.io/enforce: restricted"


@rule
def roles(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Roles allow what the code calls, and nothing more: a verb too few fails at night, one too many is a way in."""
    for who, needed in NEEDED.items():
        ours = [
            one
            for one in objects
            if one["kind"] == "Role" and one["metadata"].get("labels", {}).get("unmuffle/calls") == who
        ]
        if not ours:
            yield f"Roles of the {who}", f"there is none with the label unmuffle/calls: {who}"
            continue
        allowed: dict[tuple[str, str], set[str]] = {}
        for one in ours:
            for each in one["rules"]:
                for group in each["apiGroups"]:
                    for resource in each["resources"]:
                        allowed.setdefault((group, resource), set()).update(each["verbs"])
        for what in sorted({*needed, *allowed}):
            wanted, found = set(needed.get(what, ())), allowed.get(what, set())
            if wanted - found:
                yield f"Roles of the {who}", f"{'/'.join(what)}: {', '.join(sorted(wanted - found))} is called"
            if found - wanted:
                yield f"Roles of the {who}", f"{'/'.join(what)}: {', '.join(sorted(found - wanted))} is never called"


@rule
def cron_jobs(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """One at a time, each with an end, and late ones are caught up within reason."""
    for one in objects:
        if one["kind"] == "CronJob":
            spec = one["spec"]
            if spec.get("concurrencyPolicy") != "Forbid":
                yield named(one), "expected concurrencyPolicy: Forbid"
            if "startingDeadlineSeconds" not in spec:
                yield named(one), "expected startingDeadlineSeconds"
            if "activeDeadlineSeconds" not in spec["jobTemplate"]["spec"]:
                yield named(one), "expected activeDeadlineSeconds of its jobs"


@rule
def disruption(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """What answers others has a PodDisruptionBudget: KubeRay makes none."""
    budgets = [one for one in objects if one["kind"] == "PodDisruptionBudget"]
    for pods in pods_of(objects):
        if pods.about.startswith("Deployment") or (pods.about.startswith("RayService") and pods.ray == "worker"):
            met = [
                one
                for one in budgets
                if one["metadata"]["namespace"] == pods.namespace and selected(one["spec"]["selector"], pods.labels)
            ]
            if not met:
                yield pods.about, "no PodDisruptionBudget meets its pods"


@rule
def metrics(objects: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Alerts and dashboards name metrics that somebody exports; one that nobody does is silent for ever."""
    for one in objects:
        for about, expression in _expressions(one):
            for name in unknown(expression):
                yield f"{named(one)} {about}", f"nobody exports {name}"


def _expressions(one: Manifest) -> Iterator[tuple[str, str]]:
    if one["kind"] == "PrometheusRule":
        for group in one["spec"]["groups"]:
            for each in group["rules"]:
                yield each["alert"], each["expr"]
    elif one["kind"] == "ConfigMap" and one["metadata"].get("labels", {}).get("grafana_dashboard"):
        for text in one["data"].values():
            for panel in yaml.safe_load(text)["panels"]:
                for target in panel["targets"]:
                    yield panel["title"], target["expr"]
