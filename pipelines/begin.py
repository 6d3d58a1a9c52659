"""The beginning of a run on a cluster: which run this is, by what is asked and by the data as they are now."""

import hashlib

from components.notify import Begun
from components.rayjob import kfp_run
from components.simulate import chosen
from pipelines.request import Request
from pipelines.run import checked
from simulation.schema import canonical_json
from training.tracking import Tracking


def data_digest(request: Request) -> str:
    """Digest of the source manifest behind a request: another one means that there is something new to learn from."""
    from simulation.sources import scan_for

    return scan_for(chosen(request.scenario, hours=request.hours, seed=request.seed)).digest()


def key_of(request: Request, digest: str) -> str:
    """Logical key of a run over these data."""
    identity = {"request": request.model_dump(mode="json"), "data": digest}
    return hashlib.sha256(canonical_json(identity)).hexdigest()[:16]


def begun(request: Request, store: str, reason: str) -> str:
    """Check the request, begin or continue its run in MLflow, leave word for the end; returns the run's key."""
    request = checked(request)
    digest = data_digest(request)
    key = key_of(request, digest)
    tracking = Tracking()
    tags = {"reason": reason, "data_digest": digest, "kfp_run_id": kfp_run()}
    run_id = tracking.run(key, f"retrain {request.scenario}", None, tags)
    tracking.params(run_id, request.model_dump(mode="json"))
    Begun(key=key, use=request.use, scenario=request.scenario, reason=reason).leave(store, kfp_run())
    return key
