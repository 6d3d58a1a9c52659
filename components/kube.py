"""The one door to Kubernetes: objects by name, as plain dictionaries; what goes wrong as answers.

The client is imported when a connection is made, so nothing else needs it installed. Nothing is tried twice here:
whoever polls decides for how long an API server may be away.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulation.errors import BadSetting, KubernetesRefused, KubernetesUnreachable

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its credentials."""
TIMEOUT_S = (5.0, 30.0)
"""To connect, and to answer."""
NOT_FOUND, CONFLICT = 404, 409
ANSWERS_LATER = {0, 408, 429, 500, 502, 503, 504}
"""Statuses of an API server that is away, overloaded, or behind a proxy that is."""


@dataclass(frozen=True)
class Kind:
    """A kind of object, as the API names it."""

    group: str
    version: str
    plural: str


RAY_JOBS = Kind("ray.io", "v1", "rayjobs")
RAY_SERVICES = Kind("ray.io", "v1", "rayservices")
WORKFLOWS = Kind("argoproj.io", "v1alpha1", "workflows")
WORKLOADS = Kind("kueue.x-k8s.io", "v1beta2", "workloads")

Rules = dict[tuple[str, str], frozenset[str]]
"""(API group, resource) -> verbs."""

NEEDED: dict[str, Rules] = {
    "launcher": {
        ("ray.io", "rayjobs"): frozenset({"create", "get", "delete"}),
        ("", "pods"): frozenset({"list"}),
        ("", "pods/log"): frozenset({"get"}),
        ("", "events"): frozenset({"list"}),
        ("argoproj.io", "workflows"): frozenset({"list"}),
        ("kueue.x-k8s.io", "workloads"): frozenset({"list"}),
    },
    "reaper": {
        ("ray.io", "rayjobs"): frozenset({"list", "get", "delete"}),
        ("", "pods"): frozenset({"list"}),
        ("", "pods/log"): frozenset({"get"}),
        ("", "events"): frozenset({"list"}),
        ("argoproj.io", "workflows"): frozenset({"list"}),
    },
    "promoter": {("ray.io", "rayservices"): frozenset({"get", "patch"})},
}
"""What each account calls, and so what its Role must allow: tests record the calls, the linter reads the Roles."""


class Kube:
    """Objects of one namespace."""

    def __init__(self, namespace: str, api_client: Any) -> None:
        from kubernetes import client

        self.namespace = namespace
        self._objects = client.CustomObjectsApi(api_client)
        self._core = client.CoreV1Api(api_client)
        self._access = client.AuthorizationV1Api(api_client)
        self._plain = api_client.sanitize_for_serialization

    @classmethod
    def connect(cls, namespace: str) -> "Kube":
        """With the pod's own credentials, else those of KUBECONFIG or ~/.kube/config."""
        try:
            from kubernetes import client, config
        except ImportError:
            raise BadSetting(
                "The profile names a cluster and no Kubernetes client is installed: pip install 'unmuffle[cluster]'"
            ) from None
        configuration = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and SERVICE_ACCOUNT.exists():
                config.load_incluster_config(client_configuration=configuration)
            else:
                file = os.environ.get("KUBECONFIG")  # the client itself looks once, when it is imported
                config.load_kube_config(config_file=file, client_configuration=configuration)
        except config.ConfigException as error:
            raise BadSetting(
                f"No cluster is named: {error}. Expected to run in a pod with a service account, or a kubeconfig; "
                "export KUBECONFIG=<file>."
            ) from None
        configuration.retries = False  # a poll that failed is followed by the next one
        return cls(namespace, client.ApiClient(configuration))

    def create(self, kind: Kind, manifest: dict[str, Any]) -> dict[str, Any] | None:
        """The object as created; None where the name is taken."""
        return _asked(f"create {kind.plural}", self._objects.create_namespaced_custom_object, *self._at(kind), manifest)

    def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """The object; None where there is none."""
        return _asked(f"get {kind.plural}", self._objects.get_namespaced_custom_object, *self._at(kind), name)

    def patch(self, kind: Kind, name: str, change: dict[str, Any]) -> dict[str, Any] | None:
        """The object with this merged into it; None where there is none."""
        call = self._objects.patch_namespaced_custom_object
        return _asked(f"patch {kind.plural}", call, *self._at(kind), name, change)

    def delete(self, kind: Kind, name: str) -> bool:
        """Whether there was one. What it owns goes with it, in the background."""
        call = self._objects.delete_namespaced_custom_object
        answer = _asked(f"delete {kind.plural}", call, *self._at(kind), name, propagation_policy="Background")
        return answer is not None

    def listing(self, kind: Kind, selector: str, namespace: str = "") -> list[dict[str, Any]] | None:
        """Objects with these labels, here or in another namespace; None where the cluster knows no such kind."""
        call = self._objects.list_namespaced_custom_object
        place = (kind.group, kind.version, namespace or self.namespace, kind.plural)
        answer = _asked(f"list {kind.plural}", call, *place, label_selector=selector)
        return None if answer is None else list(answer["items"])

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Pods with these labels."""
        return self._items("list pods", self._core.list_namespaced_pod, label_selector=selector)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Events about the object of this name."""
        selector = f"involvedObject.name={name}"
        return self._items("list events", self._core.list_namespaced_event, field_selector=selector)

    def log(self, pod: str, since_s: int | None = None) -> str:
        """What a pod has written, each line with its time; empty where it has not begun, or is gone."""
        recent = {} if since_s is None else {"since_seconds": since_s}
        call = self._core.read_namespaced_pod_log
        return str(_asked("get pods/log", call, pod, self.namespace, timestamps=True, **recent) or "")

    def allowed(self, verb: str, group: str, resource: str) -> bool:
        """Whether our account may do this, as the API server itself sees it."""
        from kubernetes import client

        resource, _, part = resource.partition("/")
        attributes = client.V1ResourceAttributes(
            namespace=self.namespace, verb=verb, group=group, resource=resource, subresource=part or None
        )
        spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        review = client.V1SelfSubjectAccessReview(spec=spec)
        call = self._access.create_self_subject_access_review
        answer = _asked("create selfsubjectaccessreviews", call, review)
        return bool(answer.status.allowed)

    def _items(self, what: str, call: Callable[..., Any], **options: Any) -> list[dict[str, Any]]:
        answer = self._plain(_asked(what, call, self.namespace, **options))
        return list((answer or {}).get("items", ()))

    def _at(self, kind: Kind) -> tuple[str, str, str, str]:
        return kind.group, kind.version, self.namespace, kind.plural


@dataclass(frozen=True)
class One:
    """One object of a cluster, for whoever should know no more of Kubernetes than that."""

    kube: Kube
    kind: Kind
    name: str

    def get(self) -> dict[str, Any] | None:
        """As the API server has it; None where there is none."""
        return self.kube.get(self.kind, self.name)

    def patch(self, change: dict[str, Any]) -> dict[str, Any] | None:
        """Merge this into it; None where there is none."""
        return self.kube.patch(self.kind, self.name, change)


def described(kind: str) -> Any:
    """The client's own description of one of Kubernetes' types, such as `V1PodSpec`: fields and their types."""
    from kubernetes import client

    return getattr(client, kind, None)


def _asked(what: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The client's answer; None where there is no such object, or at create one already. Its errors become ours."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return call(*arguments, _request_timeout=TIMEOUT_S, **options)
    except HTTPError as error:
        raise KubernetesUnreachable(f"The Kubernetes API did not answer ({what}): {error}") from error
    except ApiException as error:
        status = error.status or 0
        if status == NOT_FOUND or (status == CONFLICT and what.startswith("create")):
            return None
        if status in ANSWERS_LATER:
            raise KubernetesUnreachable(
                f"The Kubernetes API did not answer ({what}): {status} {error.reason}"
            ) from None
        raise KubernetesRefused(
            f"The Kubernetes API refuses to {what}: {status} {_message(error)} "
            "`unmuffle doctor --cluster` lists what this account may do."
        ) from None


def _message(error: Any) -> str:
    body = str(error.body or error.reason)
    return body if len(body) < 1000 else body[:1000] + " ..."
