"""What is wrong with the cluster side of a set-up, before a run finds out: `unmuffle doctor --cluster`."""

from collections.abc import Callable
from importlib import metadata

from components.cluster_profile import ClusterProfile
from components.compute import Compute
from components.kube import NEEDED, RAY_JOBS, Kube
from components.rayjob import RAY_VERSION
from pipelines.doctor import Check
from pipelines.kubeflow import HOST, Kubeflow
from simulation.errors import BadSetting, UnmuffleError

NOTHING = "0" * 64
"""Digest of an image that was never filled in."""
ELSEWHERE = {"argoproj.io"}
"""Groups whose objects lie in Kubeflow's namespace."""


def kubernetes() -> Check:
    """The API server answers, and knows RayJobs."""
    try:
        profile = _profile()
        jobs = Kube.connect(profile.namespace).listing(RAY_JOBS, "unmuffle/stage=none")
    except UnmuffleError as error:
        return Check("kubernetes", False, str(error), "export KUBECONFIG=<file>, or run in a pod of the cluster")
    mend = "Install KubeRay 1.7 with its CRDs; see docs/operate.md"
    return Check("kubernetes", jobs is not None, "RayJobs are known" if jobs is not None else "no RayJobs here", mend)


def rights() -> Check:
    """Our account may do what a launcher does."""
    try:
        profile = _profile()
        kubes = {"": Kube.connect(profile.namespace), "kfp": Kube.connect(profile.kfp_namespace)}
        missing = [
            f"{verb} {resource}"
            for (group, resource), verbs in sorted(NEEDED["launcher"].items())
            for verb in sorted(verbs)
            if not kubes["kfp" if group in ELSEWHERE else ""].allowed(verb, group, resource)
        ]
    except UnmuffleError as error:
        return Check("rights", False, f"cannot be asked for: {error}", "Mend the connection to Kubernetes first.")
    found = f"may not: {', '.join(missing)}" if missing else "all that a launcher needs"
    return Check("rights", not missing, found, "kubectl apply -k infra/overlays/<yours>, which has the Roles")


def kubeflow() -> Check:
    """KFP answers, and lets us list."""
    try:
        Kubeflow.connect().runs()
    except UnmuffleError as error:
        return Check("kubeflow", False, str(error), f"export {HOST}=<address>, and a token where it asks for one")
    return Check("kubeflow", True, "answers")


def image() -> Check:
    """The image is a real one, and has the Ray that its manifests say."""
    try:
        profile = _profile()
    except UnmuffleError as error:
        return Check("image", False, str(error), "Mend UNMUFFLE_COMPUTE first.")
    placeholder = [name for name in (profile.image, profile.gpu_image) if name.endswith(NOTHING)]
    mend = "Build infra/images, push, and put the digest into unmuffle-settings"
    return Check("image", not placeholder, f"{placeholder[0]} is a placeholder" if placeholder else profile.image, mend)


def versions() -> Check:
    """Client and cluster run one Ray: KubeRay chooses probes and authentication by the version it is told."""
    here = metadata.version("ray")
    mend = f"Install ray {RAY_VERSION} (pip install -c constraints.txt -e .), or build images with {here}"
    return Check("versions", here == RAY_VERSION, f"ray {here} here, {RAY_VERSION} in manifests", mend)


def _profile() -> ClusterProfile:
    profile = Compute.current().cluster
    if profile is None:
        raise BadSetting('UNMUFFLE_COMPUTE names no cluster; expected {..., "cluster": {"image": REF@sha256:...}}.')
    return profile


CHECKS: dict[str, Callable[[], Check]] = {
    "kubernetes": kubernetes,
    "rights": rights,
    "kubeflow": kubeflow,
    "image": image,
    "versions": versions,
}
