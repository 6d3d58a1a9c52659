"""Where the champion answers: Serve on this machine, or the RayService that the compute profile names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from components.cluster_profile import ClusterProfile
from components.compute import Compute


@contextmanager
def deployer() -> Iterator[Any]:
    """The deployer of promotions. On this machine, and on a cluster that has no service yet, it needs Ray."""
    profile = Compute.current().cluster
    if profile is not None and profile.service:
        with service_of(profile) as service:
            yield service
        return
    from serving.deployer import LocalServe
    from simulation.cluster import cluster
    from simulation.home import Home

    with cluster():
        yield LocalServe(Home.current())


@contextmanager
def service_of(profile: ClusterProfile) -> Iterator[Any]:
    """The deployer of the RayService that a profile names."""
    import httpx

    from components.kube import RAY_SERVICES, Kube, One
    from serving.ray_service import RayServiceDeployer

    service = One(Kube.connect(profile.service_namespace), RAY_SERVICES, profile.service)
    with httpx.Client(base_url=profile.service_address, trust_env=False, timeout=60.0) as http:
        yield RayServiceDeployer(service, http)
